//! `wels backup`, as a person types it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use store::{NewUser, Privilege, Store};

/// A folder with a box's state in it, a passphrase, and a stick.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::write(desk.path("word"), "a passphrase of the office\n").unwrap();
        fs::write(desk.path("other"), "another passphrase\n").unwrap();
        fs::create_dir(desk.path("stick")).unwrap();
        desk.life("state", "ada");
        desk
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A state folder with one account.
    fn life(&self, state: &str, name: &str) {
        fs::create_dir(self.path(state)).unwrap();
        self.in_store(state, async |store| {
            let role = Privilege::Admin;
            let user = NewUser { name: name.into(), password_hash: "h".into(), role, lang: None };
            store.create_user(None, user).await.unwrap();
        });
    }

    fn in_store<T>(&self, state: &str, work: impl AsyncFnOnce(&Store) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(&Path::new(&self.path(state)).join("wels.sqlite")).unwrap();
            let done = work(&store).await;
            store.close().await;
            done
        })
    }

    /// Words with a `@` are names on the desk.
    fn run(&self, line: &str) -> Output {
        let word = |word: &str| word.strip_prefix('@').map_or(word.to_owned(), |name| self.path(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_wels"));
        command.args(line.split_whitespace().map(word)).env("WELS_STATE", self.path("state"));
        command.env("WELS_LOG", "warn").current_dir(self.path("stick")).output().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn complaint(&self, line: &str) -> String {
        let output = self.run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        let plain = text.starts_with("error: ") && !text.contains("panicked");
        assert!(output.status.code() == Some(1) && plain, "{text}");
        text
    }
}

#[test]
fn a_box_goes_to_a_stick_and_to_another_box() {
    let desk = Desk::new();
    let made = desk.json("backup create --passphrase-file @word");
    let name = made["file"].as_str().unwrap();
    assert!(name.starts_with("wels-backup-20") && name.ends_with(".age"), "{name}");
    let again = desk.json("backup create @stick --passphrase-file @word");
    assert!(again["file"].as_str().unwrap().ends_with("-2.age"), "{again}");
    let info = desk.json(&format!("backup info @stick/{name} --passphrase-file @word"));
    assert_eq!((&info["made_ms"], &info["bytes"]), (&made["made_ms"], &made["bytes"]));
    let words = desk.run(&format!("backup info @stick/{name} --passphrase-file @word")).stdout;
    assert!(String::from_utf8(words).unwrap().contains("wels.sqlite"));

    desk.life("there", "bob");
    let line = format!("backup restore @stick/{name} --state @there --passphrase-file @word");
    assert!(desk.complaint(&line).contains("--replace"));
    desk.json(&format!("{line} --replace"));
    assert!(desk.in_store("there", async |store| store.user_by_name("bob").await.unwrap()).is_some());
    // What the daemon does when it starts.
    backup::finish_restore(desk.path("there").as_ref()).unwrap().unwrap();
    assert!(desk.in_store("there", async |store| store.user_by_name("ada").await.unwrap()).is_some());
    let before = "there/before-restore";
    assert!(desk.in_store(before, async |store| store.user_by_name("bob").await.unwrap()).is_some());
}

#[test]
fn what_cannot_be_is_said_in_words() {
    let desk = Desk::new();
    let name = desk.json("backup create @a.age --passphrase-file @word")["file"].clone();
    assert_eq!(name.as_str(), Some(&*desk.path("a.age")));
    let told = |line: &str, what: &str| {
        let text = desk.complaint(line);
        assert!(text.contains(what), "{line}: {text}");
    };
    told("backup create @a.age --passphrase-file @word", "exists already");
    told("backup create @b.age --state @stick --passphrase-file @word", "--state");
    told("backup info @a.age --passphrase-file @other", "the passphrase is wrong");
    told("backup restore @a.age --passphrase-file @other --replace", "the passphrase is wrong");
    told("backup info @word --passphrase-file @word", "no backup of a box");
    told("backup info @nowhere --passphrase-file @word", "cannot open");
    told("backup create @b.age --passphrase-file @nowhere", "cannot open");
    fs::write(desk.path("short"), "short\n").unwrap();
    told("backup create @b.age --passphrase-file @short", "12 characters");
    assert!(!Path::new(&desk.path("b.age")).exists());
    assert!(!Path::new(&desk.path("state/.restore")).exists());
}
