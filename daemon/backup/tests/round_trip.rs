//! From one box to another, with the real store.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use backup::{BEFORE, Step};
use rusqlite::Connection;
use store::{SCHEMA_VERSION, password};
use support::{Box, PASSPHRASE, People, created, quiet, restored};

/// That all is there as [`Box::furnished`] left it, and nobody is signed in.
async fn check(there: &Box, people: &People) {
    let store = there.store();
    for (user, word) in [(&people.ada, "ada's password"), (&people.bob, "bob's password")] {
        let (found, hash) = store.user_by_name(&user.name).await.unwrap().unwrap();
        assert_eq!(&found, user);
        assert!(password::verify(word, Some(&hash)));
    }
    assert!(store.session_owner(&people.session).await.unwrap().is_none());
    assert_eq!(store.key_owner(&people.key).await.unwrap().unwrap().user, people.bob);
    let chats = store.chats(people.bob.id, None, 10).await.unwrap();
    let messages = store.messages(people.bob.id, chats[0].id).await.unwrap();
    assert_eq!(
        messages.iter().map(|m| &*m.content).collect::<Vec<_>>(),
        ["服务器繁忙?", "the server is not busy"]
    );
    assert_eq!(store.search(people.bob.id, "繁忙").await.unwrap().len(), 1);
    assert_eq!(store.setting("greeting").await.unwrap().as_deref(), Some("moin"));
    assert!(fs::read_to_string(there.path().join("trust.json")).unwrap().contains("added"));
    assert!(!there.path().join("experts").exists(), "that belongs to the machine");
    store.close().await;
}

#[tokio::test]
async fn people_chats_and_keys_move_to_another_box_and_sessions_do_not() {
    let (here, store, people) = Box::furnished().await;
    let file = created(&here);
    assert!(store.session_owner(&people.session).await.unwrap().is_some(), "here it goes on");
    assert!(!here.path().join(".backup").exists());
    let secret = "the server is not busy".as_bytes();
    assert!(!file.windows(secret.len()).any(|bytes| bytes == secret));

    let there = Box::new();
    let info = restored(&file, &there).unwrap();
    assert_eq!(info, backup::info(&file[..], PASSPHRASE, &mut quiet).unwrap());
    assert_eq!((info.format, info.schema), (1, SCHEMA_VERSION));
    assert!(!there.database().exists(), "not before the next start");
    assert_eq!(backup::finish_restore(there.path()).unwrap().as_ref(), Some(&info));
    check(&there, &people).await;
    let log = there.store().audit_log(None, 1).await.unwrap();
    assert_eq!((&*log[0].action, &log[0].detail["version"]), ("restored", &info.version.into()));
    for name in ["wels.sqlite", "trust.json"] {
        let mode = there.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[tokio::test]
async fn a_box_in_use_is_replaced_at_its_next_start_and_its_past_is_kept() {
    let (here, _store, people) = Box::furnished().await;
    let file = created(&here);
    let (there, store, others) = Box::furnished().await;
    let eve =
        store.rename_chat(others.bob.id, store.chats(others.bob.id, None, 1).await.unwrap()[0].id, "Eve");
    eve.await.unwrap().unwrap();
    restored(&file, &there).unwrap();
    assert!(store.session_owner(&others.session).await.unwrap().is_some(), "it still serves");
    store.set_setting("greeting", Some("late")).await.unwrap();
    // A cut cord: the log isn't folded into the database.
    drop(store);
    backup::finish_restore(there.path()).unwrap().unwrap();
    fs::remove_dir_all(there.path().join("experts")).unwrap();
    check(&there, &people).await;
    let before = store::Store::open(&there.path().join(BEFORE).join("wels.sqlite")).unwrap();
    assert_eq!(before.setting("greeting").await.unwrap().as_deref(), Some("late"));
    assert!(before.session_owner(&others.session).await.unwrap().is_some());
}

#[tokio::test]
async fn a_backup_is_of_one_moment_while_people_go_on_writing() {
    let (here, store, people) = Box::furnished().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (path, stopped) = (here.database(), stop.clone());
    let busy = std::thread::spawn(move || {
        // Two rows in a transaction: a copy has both or none.
        let mut other = Connection::open(path).unwrap();
        other.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let mut rounds = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let transaction = other.transaction().unwrap();
            for key in ["left", "right"] {
                let sql = "INSERT INTO settings VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
                transaction.execute(sql, (key, format!("{rounds} {}", "x".repeat(5000)))).unwrap();
            }
            transaction.commit().unwrap();
            rounds += 1;
        }
    });
    for _ in 0..3 {
        let there = Box::new();
        restored(&created(&here), &there).unwrap();
        backup::finish_restore(there.path()).unwrap().unwrap();
        check(&there, &people).await;
        let store = there.store();
        assert_eq!(store.setting("left").await.unwrap(), store.setting("right").await.unwrap());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.join().unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_file_appears_when_it_is_whole_and_is_never_overwritten() {
    let (here, _store, _) = Box::furnished().await;
    let stick = tempfile::tempdir().unwrap();
    let path = stick.path().join(backup::file_name(stick.path(), 0));
    let (mut steps, part) = (Vec::new(), stick.path().join("wels-backup-1970-01-01.age.part"));
    let info = backup::create_file(here.path(), &path, PASSPHRASE, &mut |step, done, total| {
        assert!(done <= total && !path.exists());
        assert!(step < Step::Copy || part.exists());
        steps.push(step);
        quiet(step, done, total)
    });
    steps.dedup();
    assert_eq!(steps, [Step::Prepare, Step::Copy, Step::Check]);
    let found = backup::found(stick.path()).unwrap();
    assert_eq!((found.len(), &*found[0].file), (1, "wels-backup-1970-01-01.age"));
    assert!(found[0].bytes > info.unwrap().bytes());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = backup::create_file(here.path(), &path, PASSPHRASE, &mut quiet).unwrap_err();
    assert_eq!(again.code(), "exists");
    assert_eq!(fs::read_dir(stick.path()).unwrap().count(), 1);
}

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}.age"))
}

/// Made by the first version of this code, with schema 3: two accounts, a chat, a key.
#[tokio::test]
async fn a_backup_of_format_1_is_restored() {
    let file = fs::read(fixture(1)).unwrap();
    let there = Box::new();
    let info = backup::restore(&file[..], "a fixture of format 1", there.path(), &mut quiet).unwrap();
    assert_eq!((info.format, info.schema, &*info.version), (1, 3, "0.1.0"));
    backup::finish_restore(there.path()).unwrap().unwrap();
    let store = there.store();
    let (bob, hash) = store.user_by_name("bob").await.unwrap().unwrap();
    assert!(password::verify("bob's password", Some(&hash)));
    assert_eq!(store.search(bob.id, "繁忙").await.unwrap().len(), 1);
    assert_eq!(store.keys(bob.id).await.unwrap().len(), 1);
    assert!(there.path().join("trust.json").exists());
}

/// Writes the fixture of the present format: only by hand, when there is a new one.
#[tokio::test]
#[ignore = "writes a fixture"]
async fn make_fixture() {
    let (here, _store, _) = Box::furnished().await;
    backup::create_file(here.path(), &fixture(backup::FORMAT), "a fixture of format 1", &mut quiet).unwrap();
}
