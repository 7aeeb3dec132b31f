//! What was committed survives whatever happens to the writer.
//!
//! A power cut is played by copying the files as they lie while a transaction is under way: half of its pages are in
//! the write-ahead log already, and the copy's log ends in a torn, arbitrary tail.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rusqlite::Connection;
use store::{Answer, NewUser, Privilege, Status, Store};

const SEEDS: u64 = 12;

#[tokio::test]
async fn a_power_cut_mid_transaction_loses_nothing_committed() {
    for seed in 0..SEEDS {
        cut(seed).await;
    }
}

async fn cut(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wels.db");
    let store = Store::open(&path).unwrap();
    let user = NewUser { name: "a".into(), password_hash: "h".into(), role: Privilege::Admin, lang: None };
    let owner = store.create_user(None, user).await.unwrap().id;
    let chat = store.create_chat(owner).await.unwrap().id;
    let (mut parent, mut contents) = (None, Vec::new());
    for idx in 0..rng.next_u32() % 20 {
        let asked =
            store.ask(owner, chat, parent, format!("question {idx}"), "t".into()).await.unwrap().unwrap();
        let content = "答".repeat(rng.next_u32() as usize % 9000);
        let answer = Answer {
            content: content.clone(),
            reasoning: None,
            reasoning_ms: None,
            status: Status::Done,
            error: None,
            receipt: None,
        };
        store.save_answer(owner, asked.answer.id, answer).await.unwrap().unwrap();
        (parent, contents) = (Some(asked.answer.id), [contents, vec![content]].concat());
    }
    store.flush().await.unwrap();

    let after = tempfile::tempdir().unwrap();
    let after_path = after.path().join("wels.db");
    cut_power(&path, &after_path, &mut rng);

    let revived = Store::open(&after_path).unwrap();
    let messages = revived.messages(owner, chat).await.unwrap();
    let answers: Vec<&str> = messages.iter().skip(1).step_by(2).map(|m| &*m.content).collect();
    assert_eq!(answers, contents, "seed {seed}");
    let check = Connection::open(&after_path).unwrap();
    let verdict: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "seed {seed}");
}

/// Copies the database while a large transaction spills into its log, and tears the copy's tail.
fn cut_power(from: &Path, to: &Path, rng: &mut ChaCha8Rng) {
    let mut writer = Connection::open(from).unwrap();
    writer.pragma_update(None, "cache_size", 2).unwrap();
    let transaction = writer.transaction().unwrap();
    let committed = std::fs::metadata(from.with_extension("db-wal")).unwrap().len();
    for idx in 0..rng.next_u32() % 60 {
        let sql = "INSERT INTO settings VALUES (?1, ?2)";
        transaction.execute(sql, (idx.to_string(), "x".repeat(5000))).unwrap();
        transaction.execute("UPDATE messages SET content = 'lost'", []).unwrap();
    }
    std::fs::copy(from, to).unwrap();
    let mut log = std::fs::read(from.with_extension("db-wal")).unwrap();
    let spilled = log.len() as u64 - committed;
    log.truncate((committed + u64::from(rng.next_u32()) % (spilled + 1)) as usize);
    let mut torn = vec![0; rng.next_u32() as usize % 5000];
    rng.fill_bytes(&mut torn);
    log.extend(torn);
    std::fs::write(to.with_extension("db-wal"), log).unwrap();
}
