//! `wels replay` as a person or a script runs it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use experts::replay::synthetic::Law;
use experts::trace::{Header, Layer, Recorder};
use serde_json::{Value, json};

/// Small, and skewed enough that policies differ.
const LAW: &str = "layers=3,experts=32,top-k=4,tokens=600,prompt=20,answer=150,zipf=1.5";

fn wels(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wels")).arg("replay").args(args).output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = wels(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(args: &[&str]) -> String {
    let output = wels(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.starts_with("error: ") && !text.contains("panicked"), "{text}");
    text
}

/// Records the law's trace, with records of 1000 and 2000 bytes.
fn record(path: &Path) {
    let trace = LAW.parse::<Law>().unwrap().trace();
    let bytes = |layer| Layer { layer, record_bytes: 1000 + 1000 * u64::from(layer % 2) };
    let header =
        Header { layers: (0..3).map(bytes).collect(), model: "tiny".into(), ..trace.header().clone() };
    let mut recorder = Recorder::create(path, &header).unwrap();
    for step in trace.steps() {
        for visit in step.visits() {
            let wants = visit.experts.iter().zip(visit.tokens).map(|(&e, &t)| (u32::from(e), t));
            recorder.record(visit.place as u32, &wants.collect::<Vec<_>>());
        }
        recorder.end_step(step.n_tokens).unwrap();
    }
}

#[test]
fn a_recorded_trace_gives_a_table_with_the_bound_and_the_choice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.routes");
    record(&path);
    let text = stdout(&[path.to_str().unwrap(), "--records", "12,48"]);
    for part in
        ["3 layers of 32 experts, 4 a token: 96 records", "lfru:128, 25 % pinned", "Belady's bound", "*"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.contains("12 records: ") && text.contains("below Belady's bound"), "{text}");
}

#[test]
fn json_has_every_number_and_no_policy_beats_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.routes");
    record(&path);
    let json: Value = serde_json::from_str(&stdout(&[path.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(json["records"], json!([5, 10, 24, 48, 72]));
    let rows = json["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["policy"]), (18, &json!("lru")));
    for row in rows {
        for (got, bound) in row["outcomes"].as_array().unwrap().iter().zip(json["belady"].as_array().unwrap())
        {
            let rate = |outcome: &Value, kind: &str| outcome[kind]["hit_rate"].as_f64().unwrap();
            assert!(rate(got, "decode") <= rate(bound, "decode"), "{row}");
            assert!(rate(got, "prefill") <= rate(bound, "prefill"), "{row}");
            let decode = |name: &str| got["decode"][name].as_f64().unwrap();
            assert!(decode("bytes_per_token") >= 1000.0 * decode("misses_per_token"), "{row}");
        }
    }
}

#[test]
fn the_choice_and_the_picture_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let (choice, svg) = (dir.path().join("policy.json"), dir.path().join("hits.svg"));
    let law = format!("--synthetic={LAW}");
    let files = ["--choose", choice.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let json = stdout(&[&[law.as_str(), "--share", "25", "--json"], &files[..]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    let choice: Value = serde_json::from_slice(&fs::read(choice).unwrap()).unwrap();
    assert_eq!(choice, json["chosen"][0]);
    choice["policy"].as_str().unwrap().parse::<experts::Policy>().unwrap();
    assert_eq!(json["rows"][0]["outcomes"][0]["decode"]["bytes_per_token"], Value::Null, "sizes are unknown");
    let svg = fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("Belady"), "{svg}");
}

#[test]
fn a_cut_file_is_compared_and_said_to_be_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.routes");
    record(&path);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let text = stdout(&[path.to_str().unwrap()]);
    assert!(text.contains("The file is cut at byte") && text.contains("603 steps"), "{text}");
}

#[test]
fn bad_input_gets_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.routes");
    fs::write(&path, "nothing of the kind").unwrap();
    let file = path.to_str().unwrap();
    assert!(complaint(&[file]).contains("not a routing trace"));
    record(&path);
    assert!(complaint(&[file, "--records", "97"]).contains("a cache of 97 records: the model has 96"));
    assert!(complaint(&[file, "--choose", "x.json"]).contains("--choose asks for one size"));
    assert!(complaint(&[file, "--share", "120"]).contains("120"));
    assert!(complaint(&["--synthetic=colour=3"]).contains("no part of the law"));
    assert!(complaint(&[]).contains("TRACE"));
}
