//! The daemon as systemd runs it on the box: ready, watched, and with a page whatever the models' folder holds.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;

use support::{Shop, TestBox};

#[test]
fn a_box_with_a_model_is_ready_watched_and_well() {
    let wels = TestBox::start(|models| {
        let shop = Shop::new();
        shop.install(&shop.stick("Smollm2 135M 8k", 1), models);
    });
    assert_eq!(wels.report(), "READY=1");
    assert_eq!(wels.report(), "WATCHDOG=1");
    let health = wels.health();
    let words = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(health.status.success() && words.contains("has said a word"), "{words}");
    let screen = wels.screen();
    assert!(screen.contains("Model: SmolLM2") && screen.contains("Code that makes it yours"), "{screen}");
}

#[test]
fn a_box_without_a_model_has_a_page_and_says_what_to_do() {
    let wels = TestBox::start(|_| ());
    assert_eq!(wels.report(), "READY=1");
    assert!(wels.health().status.success());
    let page = ureq::get(&wels.url).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(page.contains("<html"), "{page}");
    assert!(wels.screen().contains("plug in a stick"), "{}", wels.screen());
}

#[test]
fn a_model_that_cannot_be_served_costs_health_and_not_the_page() {
    let wels = TestBox::start(|models| {
        fs::create_dir_all(models.join("broken/1")).unwrap();
        fs::write(models.join("broken/1/pack.json"), "{").unwrap();
        let id = "ab".repeat(32);
        let installed = format!(r#"{{"model":{{"current":{{"name":"broken","version":1,"id":"{id}"}}}}}}"#);
        fs::write(models.join(".installed.json"), installed).unwrap();
    });
    assert_eq!(wels.report(), "READY=1");
    assert!(ureq::get(&wels.url).call().is_ok());
    let health = wels.health();
    let words = String::from_utf8_lossy(&health.stderr).into_owned();
    assert!(!health.status.success() && words.contains("broken/1"), "{words}");
    assert!(wels.screen().contains("cannot be served"), "{}", wels.screen());
}
