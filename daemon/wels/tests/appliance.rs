//! The daemon as systemd runs it on the box: ready, watched, and with a page whatever the models' folder holds.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;

use serde_json::json;
use support::TestBox;
use support::shop::Shop;

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

#[test]
fn whoever_lost_the_password_comes_back_with_a_stick() {
    const SHOWN: &str = "Code for a new password:";
    let wels = TestBox::start(|_| ());
    let ada = wels.claimed();
    let page = wels.signed_out();
    let stick = tempfile::tempdir().unwrap();
    let plugged = wels.plug(stick.path());
    ada.stick();
    assert!(!wels.screen().contains(SHOWN), "a stick that doesn't ask");
    drop(plugged);

    fs::write(stick.path().join("wels-recovery.txt"), "").unwrap();
    let plugged = wels.plug(stick.path());
    let screen = wels.until_screen_is("a code", |screen| screen.contains(SHOWN));
    let code = code_after(&screen, SHOWN);
    assert_eq!(page.get("/api/state")["recovering"], true);
    let back = wels.recovered(&code, "not lost again");
    assert_eq!(back.get("/api/state")["user"]["role"], "admin");
    let login = |password| page.post("/api/login", &json!({ "name": "ada", "password": password })).0;
    assert_eq!((login("correct horse battery"), login("not lost again")), (401, 200));
    // Used up: the console shows it no more, and no other comes until the stick does.
    wels.until_screen_is("no code", |screen| !screen.contains(SHOWN));
    assert_eq!(page.get("/api/state")["recovering"], false);
    drop(plugged);

    let plugged = wels.plug(stick.path());
    let screen = wels.until_screen_is("another code", |screen| screen.contains(SHOWN));
    let other = code_after(&screen, SHOWN);
    assert_ne!(other, code);
    drop(plugged);
    wels.until_screen_is("no code", |screen| !screen.contains(SHOWN));
    let late = json!({ "code": other, "name": "eve", "password": "not lost again" });
    assert_eq!(page.post("/api/recover", &late).1["error"]["code"], "bad_code");
}

/// The code on the line below `words`.
fn code_after(screen: &str, words: &str) -> String {
    let line = screen.lines().skip_while(|line| !line.contains(words)).nth(1).unwrap();
    line.split_whitespace().next_back().unwrap().to_owned()
}
