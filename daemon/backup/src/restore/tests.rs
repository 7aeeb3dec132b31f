//! Files that somebody made who knows the passphrase and the format.

use std::ops::ControlFlow;

use super::*;
use crate::contents::HEADER;

const PASSPHRASE: &str = "a passphrase";

fn quiet(_: Step, _: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn info(schema: usize, parts: &[(&str, u64)]) -> Info {
    let part = |&(name, bytes): &(&str, u64)| Part { name: name.into(), bytes };
    let parts = parts.iter().map(part).collect();
    Info { format: 1, version: "0.1.0".into(), made_ms: 1, schema, parts }
}

/// A file with `header`, members as they are given, and `tail` behind them.
fn forged(header: &[u8], members: &[(&str, &[u8])], tail: &[u8]) -> Vec<u8> {
    let mut to = age::encrypt(Vec::new(), PASSPHRASE, 1).unwrap();
    for (name, bytes) in [(HEADER, header)].iter().chain(members) {
        tar::begin_member(&mut to, name, bytes.len() as u64).unwrap();
        to.write(bytes).unwrap();
        tar::end_member(&mut to, bytes.len() as u64).unwrap();
    }
    to.write(tail).unwrap();
    to.finish().unwrap()
}

fn refusal(file: &[u8]) -> (&'static str, String) {
    let state = tempfile::tempdir().unwrap();
    let error = restore(file, PASSPHRASE, state.path(), &mut quiet).unwrap_err();
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "{error}");
    (error.code(), error.to_string())
}

/// The bytes of an empty database, with what `then` does to it.
fn database(then: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(DATABASE);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { store::Store::open(&path).unwrap().close().await });
    rusqlite::Connection::open(&path).unwrap().execute_batch(then).unwrap();
    fs::read(&path).unwrap()
}

const END: [u8; 1024] = [0; 1024];

#[test]
fn a_database_is_whole_and_ours_and_no_newer_whatever_the_file_says() {
    let schema = store::SCHEMA_VERSION;
    let file = |schema, bytes: &[u8]| {
        let info = info(schema, &[(DATABASE, bytes.len() as u64)]);
        forged(&info.to_json(), &[(DATABASE, bytes)], &END)
    };
    let right = database("");
    let state = tempfile::tempdir().unwrap();
    restore(&file(schema, &right)[..], PASSPHRASE, state.path(), &mut quiet).unwrap();

    assert_eq!(refusal(&file(schema + 1, &right)).0, "newer_database");
    assert_eq!(refusal(&file(schema, &database("PRAGMA user_version = 99"))).0, "newer_database");
    assert_eq!(refusal(&file(schema - 1, &right)).0, "bad_contents");
    assert_eq!(refusal(&file(schema, &database("DROP TABLE api_keys"))).0, "bad_database");
    assert_eq!(refusal(&file(schema, b"")).0, "bad_database");
    assert_eq!(refusal(&file(schema, &[7; 8192])).0, "bad_database");
    let mut torn = right.clone();
    let middle = torn.len() / 2;
    torn[middle..].fill(0xa5);
    assert_eq!(refusal(&file(schema, &torn)).0, "bad_database");
}

#[test]
fn sizes_and_places_are_those_that_were_said() {
    let right = database("");
    let bytes = right.len() as u64;
    let said = |parts: &[(&str, u64)]| info(store::SCHEMA_VERSION, parts).to_json();
    let told = |file: &[u8]| {
        let (code, text) = refusal(file);
        assert_eq!(code, "bad_contents", "{text}");
        text
    };
    let members: &[(&str, &[u8])] = &[(DATABASE, &right)];
    assert!(told(&forged(&said(&[(DATABASE, bytes - 1)]), members, &END)).contains("another size"));
    let two = said(&[(DATABASE, bytes), ("trust.json", 9)]);
    assert!(told(&forged(&two, members, &END)).contains("does not come"));
    assert!(told(&forged(&said(&[(DATABASE, bytes)]), members, &END[1..])).contains("too early"));
    assert!(
        told(&forged(&said(&[(DATABASE, bytes)]), members, &[END, END].concat())).contains("more follows")
    );
    assert!(told(&forged(&said(&[(DATABASE, bytes)]), members, &[7; 1024])).contains("between"));
    let broken: &[(&str, &[u8])] = &[(DATABASE, &right), ("trust.json", b"{")];
    assert!(
        told(&forged(&said(&[(DATABASE, bytes), ("trust.json", 1)]), broken, &END)).contains("trust.json")
    );
    assert!(told(&forged(&vec![b' '; 20_000], &[], &END)).contains("at most"));
    assert!(told(&forged(b"[", &[], &END)).contains("backup.json"));
    assert_eq!(refusal(&forged(br#"{"format":2}"#, &[], &END)).0, "newer_format");
}
