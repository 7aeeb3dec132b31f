//! `wels backup`, as a person types it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;

use store::{NewUser, Privilege, Store};
use support::desk::Desk;

/// A desk with a box's state and passphrases on it.
fn furnished() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("word"), "a passphrase of the office\n").unwrap();
    fs::write(desk.path("other"), "another passphrase\n").unwrap();
    life(&desk, "state", "ada");
    desk
}

/// A state folder with one account.
fn life(desk: &Desk, state: &str, name: &str) {
    fs::create_dir(desk.path(state)).unwrap();
    in_store(desk, state, async |store| {
        let role = Privilege::Admin;
        let user = NewUser { name: name.into(), password_hash: "h".into(), role, lang: None };
        store.create_user(None, user).await.unwrap();
    });
}

fn in_store<T>(desk: &Desk, state: &str, work: impl AsyncFnOnce(&Store) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&desk.path(state).join("wels.sqlite")).unwrap();
        let done = work(&store).await;
        store.close().await;
        done
    })
}

#[test]
fn a_box_goes_to_a_stick_and_to_another_box() {
    let desk = furnished();
    let made = desk.json("backup create --passphrase-file @word");
    let name = made["file"].as_str().unwrap();
    assert!(name.starts_with("wels-backup-20") && name.ends_with(".age"), "{name}");
    let again = desk.json("backup create @here --passphrase-file @word");
    assert!(again["file"].as_str().unwrap().ends_with("-2.age"), "{again}");
    let info = desk.json(&format!("backup info @here/{name} --passphrase-file @word"));
    assert_eq!((&info["made_ms"], &info["bytes"]), (&made["made_ms"], &made["bytes"]));
    let words = desk.run(&format!("backup info @here/{name} --passphrase-file @word")).stdout;
    assert!(String::from_utf8(words).unwrap().contains("wels.sqlite"));

    life(&desk, "there", "bob");
    let line = format!("backup restore @here/{name} --state @there --passphrase-file @word");
    assert!(desk.complaint(&line).contains("--replace"));
    desk.json(&format!("{line} --replace"));
    assert!(in_store(&desk, "there", async |store| store.user_by_name("bob").await.unwrap()).is_some());
    // What the daemon does when it starts.
    backup::finish_restore(desk.path("there").as_ref()).unwrap().unwrap();
    assert!(in_store(&desk, "there", async |store| store.user_by_name("ada").await.unwrap()).is_some());
    let before = "there/before-restore";
    assert!(in_store(&desk, before, async |store| store.user_by_name("bob").await.unwrap()).is_some());
}

#[test]
fn what_cannot_be_is_said_in_words() {
    let desk = furnished();
    let name = desk.json("backup create @a.age --passphrase-file @word")["file"].clone();
    assert_eq!(name.as_str(), desk.path("a.age").to_str());
    let told = |line: &str, what: &str| {
        let text = desk.complaint(line);
        assert!(text.contains(what), "{line}: {text}");
    };
    told("backup create @a.age --passphrase-file @word", "exists already");
    told("backup create @b.age --state @here --passphrase-file @word", "--state");
    told("backup info @a.age --passphrase-file @other", "the passphrase is wrong");
    told("backup restore @a.age --passphrase-file @other --replace", "the passphrase is wrong");
    told("backup info @word --passphrase-file @word", "no backup of a box");
    told("backup info @nowhere --passphrase-file @word", "cannot open");
    told("backup create @b.age --passphrase-file @nowhere", "cannot open");
    fs::write(desk.path("short"), "short\n").unwrap();
    told("backup create @b.age --passphrase-file @short", "12 characters");
    assert!(!desk.path("b.age").exists());
    assert!(!desk.path("state/.restore").exists());
}
