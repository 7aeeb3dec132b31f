//! The box measures itself on its administrator's wish, and tells what it has when it is stopped.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::shop::Shop;
use support::{Browser, TestBox};

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(240);

fn until(ada: &Browser, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let state = ada.get("/api/admin/measure");
        if wanted(&state) {
            return state;
        }
        assert!(start.elapsed() < PATIENCE, "{what} never came: {state:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_box_is_measured_while_it_serves_and_keeps_what_it_found() {
    let shop = Shop::new();
    let stick = shop.stick("First model one", 1);
    let mut wels = TestBox::start(|models| shop.install(&stick, models));
    let ada = wels.claimed();
    assert_eq!(ada.get("/api/admin/measure"), json!({ "progress": null, "report": null }));
    assert_eq!(ada.post("/api/admin/measure/stop", &json!({})).1["error"]["code"], "nothing_runs");
    ada.done("/api/admin/measure", &json!({ "minutes": 1 }));
    // One thing at a time.
    for (path, wish) in [("measure", json!({ "minutes": 1 })), ("updates/restart", json!({}))] {
        let (status, refused) = ada.post(&format!("/api/admin/{path}"), &wish);
        assert_eq!((status, &refused["error"]["code"]), (409, &"measuring".into()), "{path}");
    }
    until(&ada, "a sample", |state| {
        state["progress"]["last"]["rate"].as_f64().is_some_and(|rate| rate > 0.0)
    });
    assert!(ada.model().is_string(), "it serves meanwhile");
    ada.done("/api/admin/measure/stop", &json!({}));
    let mut state = until(&ada, "an end", |state| state["progress"].is_null());
    let report = state["report"].take();
    assert_eq!((&report["complete"], &report["minutes_wanted"]), (&json!(false), &json!(1)));
    assert!(report["load"]["model"].as_str().unwrap().starts_with("First model one"), "{report:#}");
    assert_eq!(report["load"]["unit"], "tok/s");
    assert!(!report["load"]["samples"].as_array().unwrap().is_empty());
    for (part, number) in [("processor", "int8_ops_s"), ("memory", "read_bytes_s")] {
        assert!(report[part][number].as_f64().unwrap() > 0.0, "{part}: {report:#}");
    }
    assert!(report["drive"]["reads"]["bytes_s"].as_f64().unwrap() > 0.0, "{report:#}");
    let models = report["models"].as_array().unwrap();
    assert!(models.len() > 8 && models.iter().any(|fit| fit["plan"]["decode_tok_s"].is_number()));
    assert!(models.iter().all(|fit| fit["plan"].is_null() == fit["reason"].is_string()), "{models:#?}");

    wels.cut_power();
    assert_eq!(wels.signed_in().get("/api/admin/measure")["report"], report);
}

#[test]
fn ctrl_c_ends_it_with_what_was_measured() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wels"));
    command.args(["measure", "--minutes", "1", "--json", "--device", "cpu", "-v"]).env_remove("WELS_MODEL");
    let mut child =
        command.env("WELS_LOG", "wels=debug").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .any(|line| line.unwrap().contains("the machine is kept busy"));
    assert!(begun, "it ended by itself");
    std::thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!((&report["complete"], &report["load"]["unit"]), (&json!(false), &json!("op/s")));
    assert_eq!(report["load"]["samples"].as_array().unwrap().len(), 1);
    assert!(report["load"]["samples"][0]["rate"].as_f64().unwrap() > 0.0);
    assert!(report["notes"][0].as_str().unwrap().contains("no model is here"), "{report}");
}
