//! What can't be made or restored is refused in words, and nothing changes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;

use backup::{Error, Step};
use rusqlite::Connection;
use store::SCHEMA_VERSION;
use support::{Box, PASSPHRASE, created, quiet, restored};

/// Restores into a box in use, which must not change by it.
async fn refused(file: impl Read, passphrase: &str) -> Error {
    let (there, store, _) = Box::furnished().await;
    store.close().await;
    let before = there.listed();
    let error = backup::restore(file, passphrase, there.path(), &mut quiet).unwrap_err();
    assert_eq!(there.listed(), before, "{error}");
    assert!(backup::finish_restore(there.path()).unwrap().is_none());
    assert_eq!(there.listed(), before);
    error
}

/// A backup of a box whose database was changed by `sql` after the fact: what it says of itself is then another's.
async fn with_database(sql: &str) -> Result<Vec<u8>, Error> {
    let (here, store, _) = Box::furnished().await;
    store.close().await;
    Connection::open(here.database()).unwrap().execute_batch(sql).unwrap();
    let mut file = Vec::new();
    backup::create(here.path(), &mut file, PASSPHRASE, &mut quiet).map(|_| file)
}

#[tokio::test]
async fn a_file_that_was_cut_or_changed_is_noticed() {
    let (here, _store, _) = Box::furnished().await;
    let file = created(&here);
    for len in [file.len() - 1, file.len() / 2, 100_000, 300, 0] {
        let error = refused(&file[..len], PASSPHRASE).await;
        let want = if len == 0 { "no_backup" } else { "truncated" };
        assert_eq!(error.code(), want, "{error}");
    }
    let mut changed = file.clone();
    changed[file.len() / 2] ^= 1;
    let error = refused(&changed[..], PASSPHRASE).await;
    assert_eq!(error.code(), "damaged", "{error}");
    assert_eq!(backup::info(&changed[..], PASSPHRASE, &mut quiet).unwrap_err().code(), "damaged");
}

#[tokio::test]
async fn a_wrong_passphrase_is_told_and_a_short_one_not_taken() {
    let (here, _store, _) = Box::furnished().await;
    assert_eq!(refused(&created(&here)[..], "鲇鱼 swims downstream").await.code(), "wrong_passphrase");
    for passphrase in ["", "九个字九个字九个字", &"x".repeat(1025)] {
        let made = backup::create(here.path(), io::sink(), passphrase, &mut quiet);
        assert_eq!(made.unwrap_err().code(), "passphrase_length");
    }
}

#[tokio::test]
async fn another_file_is_no_backup() {
    let (here, _store, _) = Box::furnished().await;
    let database = fs::read(here.database()).unwrap();
    assert_eq!(refused(&database[..], PASSPHRASE).await.code(), "no_backup");
    let other = include_bytes!("fixtures/by-age-0.12.1.age");
    assert_eq!(refused(&other[..], "鲇鱼 correct horse").await.code(), "bad_contents");
}

#[tokio::test]
async fn a_newer_or_another_database_is_neither_made_nor_taken() {
    let newer = format!("PRAGMA user_version = {}", SCHEMA_VERSION + 1);
    assert_eq!(with_database(&newer).await.unwrap_err().code(), "newer_database");
    let another = with_database("DROP TABLE message_terms").await.unwrap_err();
    assert_eq!(another.code(), "bad_database", "{another}");
    let empty = Box::new();
    let none = backup::create(empty.path(), io::sink(), PASSPHRASE, &mut quiet).unwrap_err();
    assert_eq!(none.code(), "no_database", "{none}");
}

/// A stick that takes so much.
struct Small(u64);

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.0.min(bytes.len() as u64);
        self.0 -= taken;
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken as usize) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stick that is pulled after so much.
struct Pulled<'a>(&'a [u8]);

impl Read for Pulled<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.0.read(bytes)? {
            0 => Err(io::Error::from_raw_os_error(5)),
            read => Ok(read),
        }
    }
}

#[tokio::test]
async fn a_full_or_a_pulled_stick_is_told() {
    let (here, store, _) = Box::furnished().await;
    store.close().await;
    let before = here.listed();
    for room in [0, 100, 70_000] {
        let error = backup::create(here.path(), Small(room), PASSPHRASE, &mut quiet).unwrap_err();
        assert_eq!(error.code(), "write", "{error}");
    }
    let full = backup::create_file(here.path(), "/dev/full/no".as_ref(), PASSPHRASE, &mut quiet);
    assert_eq!(full.unwrap_err().code(), "io");
    assert_eq!(here.listed(), before);
    let file = created(&here);
    for len in [10, 150, 90_000] {
        assert_eq!(refused(Pulled(&file[..len]), PASSPHRASE).await.code(), "carrier_gone");
    }
}

#[tokio::test]
async fn whoever_looks_on_may_stop_it_at_any_step() {
    let (here, _store, _) = Box::furnished().await;
    let file = created(&here);
    let (there, stick) = (Box::new(), tempfile::tempdir().unwrap());
    for stop in [Step::Prepare, Step::Copy, Step::Check] {
        let stopping = || {
            move |step, _, _| if step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let path = stick.path().join("a.age");
        let made = backup::create_file(here.path(), &path, PASSPHRASE, &mut stopping());
        assert_eq!(made.unwrap_err().code(), "cancelled");
        assert_eq!(fs::read_dir(stick.path()).unwrap().count(), 0, "{stop:?}");
        let restored = backup::restore(&file[..], PASSPHRASE, there.path(), &mut stopping());
        assert_eq!(restored.unwrap_err().code(), "cancelled");
        assert_eq!(there.listed(), [], "{stop:?}");
    }
}

#[tokio::test]
async fn a_restore_cut_off_by_the_power_leaves_what_was() {
    let (here, _store, people) = Box::furnished().await;
    let file = created(&here);
    let (there, store, _) = Box::furnished().await;
    store.close().await;
    let before = there.listed();
    // The process is gone: nothing cleans up.
    let mut steps = 0;
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        backup::restore(&file[..], PASSPHRASE, there.path(), &mut |step, _, _| {
            steps += usize::from(step == Step::Check);
            if steps == 2 { panic!("the cord") } else { ControlFlow::Continue(()) }
        })
    }));
    assert!(cut.is_err() && there.path().join(".restore").exists());
    assert!(backup::finish_restore(there.path()).unwrap().is_none());
    assert_eq!(there.listed(), before);
    // And again, this time to the end; the last of two counts.
    restored(&file, &there).unwrap();
    restored(&file, &there).unwrap();
    backup::finish_restore(there.path()).unwrap().unwrap();
    assert!(there.store().user_by_name(&people.ada.name).await.unwrap().is_some());
}
