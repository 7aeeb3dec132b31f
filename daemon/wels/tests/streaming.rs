//! A model that is larger than the memory it may take, through the commands.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn wels(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wels")).args(args).env("WELS_LOG", "warn").output().unwrap()
}

fn complaint(args: &[&str]) -> String {
    let output = wels(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: ") && !text.contains("panicked"), "{text}");
    text
}

/// A pack with routed experts in a folder of its own.
fn pack(folder: &Path) -> String {
    let fixture = fixtures::folder("tiny-deepseek-v3");
    let pack = folder.join("tiny.wels");
    weights::import(&fixture.path, &pack, &weights::ImportOptions::default(), &mut |_| {}).unwrap();
    pack.to_str().unwrap().to_owned()
}

/// Short, and for whatever the machine is doing beside.
const SHORT: [&str; 10] =
    ["--prefill", "24", "--decode", "8", "--depth", "4", "--sequences", "1", "--repeat", "1"];

fn bench(pack: &str, args: &[&str]) -> Value {
    let all = [&["bench", "--json", "--threads", "2", "--model", pack], &SHORT[..], args].concat();
    let output = wels(&all);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn bench_says_what_was_streamed_and_computes_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (pack, logits) = (pack(dir.path()), |name: &str| dir.path().join(name).to_str().unwrap().to_owned());
    let in_memory = bench(&pack, &["--logits", &logits("in-memory")]);
    assert_eq!(in_memory["streaming"], Value::Null);
    let streamed = bench(&pack, &["--expert-memory", "400KB", "--logits", &logits("streamed")]);
    let streaming = &streamed["streaming"];
    assert!(streaming["slot_bytes"].as_u64().unwrap() <= 400_000, "{streaming}");
    let decode = &streaming["decode"];
    assert!(decode["misses"].as_u64().unwrap() > 0, "{decode}");
    let (read, needed) = (&decode["bytes_read"], &decode["needed_bytes"]);
    // Tiny records don't fill their last page, so only this holds here.
    assert!(read.as_u64().unwrap() >= needed.as_u64().unwrap(), "{decode}");
    assert_eq!(fs::read(logits("in-memory")).unwrap(), fs::read(logits("streamed")).unwrap());
}

#[test]
fn what_was_used_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let pack = pack(dir.path());
    let profile = dir.path().join("state/experts/tiny.json");
    let args = ["--expert-memory", "100MB", "--expert-profile", profile.to_str().unwrap()];
    // With room for all: the first run reads what it needs, the second finds it.
    let room = ["--expert-memory", "1MB", args[2], args[3]];
    let misses = |json: &Value| json["streaming"]["prefill"]["misses"].as_u64().unwrap();
    let cold = bench(&pack, &room);
    assert!(profile.is_file() && profile.with_extension("drive.json").is_file());
    let warm = bench(&pack, &room);
    assert!(misses(&warm) < misses(&cold), "{} then {}", misses(&cold), misses(&warm));
    fs::write(&profile, b"{\"version\": 1}").unwrap();
    bench(&pack, &room);
}

#[test]
fn a_lossy_mode_is_named_with_its_bound_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pack = pack(dir.path());
    let lossy = bench(&pack, &["--expert-memory", "400KB", "--quality", "skip:20%"]);
    assert!(lossy["streaming"]["decode"]["skipped"].as_u64().unwrap() > 0, "{lossy}");
    for quality in ["skip", "skip:0", "skip:60%", "best"] {
        let output = wels(&["bench", "--model", &pack, "--quality", quality]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{quality}: {text}");
        assert!(text.contains("skip:5%"), "{quality}: {text}");
    }
}

#[test]
fn what_cannot_stream_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let pack = pack(dir.path());
    let few = complaint(&["bench", "--model", &pack, "--expert-memory", "10KB"]);
    assert!(few.contains("too few") && few.contains("give the model more memory"), "{few}");
    let dense = fixtures::folder("tiny-qwen2");
    let dense = complaint(&["bench", "--model", dense.path.to_str().unwrap(), "--ram", "1MB"]);
    assert!(dense.contains("routed experts") && dense.contains("smaller model"), "{dense}");
    let mirror = dir.path().join("mirror");
    fs::create_dir(&mirror).unwrap();
    let args = ["bench", "--model", &pack, "--expert-memory", "400KB", "--mirror", mirror.to_str().unwrap()];
    let nothing = complaint(&args);
    assert!(nothing.contains("no copy of the pack"), "{nothing}");
    fs::write(mirror.join("pack.json"), b"{}").unwrap();
    assert!(complaint(&args).contains("another pack"));
}

#[test]
fn routes_are_recorded_and_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let pack = pack(dir.path());
    let routes = dir.path().join("routes.trace");
    bench(&pack, &["--record-routes", routes.to_str().unwrap()]);
    let trace = experts::trace::Trace::open(&routes).unwrap();
    assert!(trace.n_steps() > 8, "{} steps", trace.n_steps());
    assert!(trace.header().layers.iter().all(|layer| layer.record_bytes > 0));
    let dense = fixtures::folder("tiny-qwen2");
    let none = complaint(&["bench", "--model", dense.path.to_str().unwrap(), "--record-routes", "x"]);
    assert!(none.contains("no routed experts"), "{none}");
}
