//! New models from a stick: shown, agreed to, copied, tested, and only then in the place of the old one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde_json::json;
use support::shop::Shop;
use support::{Browser, TestBox};

const OLD: &str = "First model one";
const NEW: &str = "Other model two";

/// A box that serves the shop's first version and believes the shop; its administrator's browser.
fn furnished(shop: &Shop) -> (TestBox, Browser) {
    let first = shop.stick(OLD, 1);
    let wels = TestBox::start(|models| shop.install(&first, models));
    let ada = wels.claimed();
    assert!(serves(&ada, OLD), "{}", ada.model());
    ada.done("/api/admin/updates/keys", &json!({ "text": shop.key() }));
    (wels, ada)
}

fn serves(browser: &Browser, name: &str) -> bool {
    browser.model().as_str().is_some_and(|model| model.starts_with(name))
}

#[test]
fn a_new_model_is_installed_from_a_stick_and_taken_back() {
    let shop = Shop::new();
    let (mut wels, ada) = furnished(&shop);
    let stick = shop.stick(NEW, 2);
    let plugged = wels.plug(&stick);
    let preview = ada.stick()["content"]["preview"].take();
    assert_eq!((&preview["verdict"], &preview["signer"]["name"]), (&"install".into(), &"Releases".into()));
    wels.until_screen("A stick");
    assert_eq!(ada.install(false).0, 204);
    let outcome = ada.outcome();
    assert_eq!((&outcome["step"], &outcome["error"]), (&"done".into(), &json!(null)));
    assert!(serves(&ada, NEW));
    // The same stick again does nothing.
    let again =
        ada.until("another look", |state| state["stick"]["content"]["preview"]["verdict"] == "serves");
    assert_eq!(again["model"]["previous"]["version"], 1);
    assert_eq!(ada.install(false).1["error"]["code"], "serves_already");
    ada.done("/api/admin/updates/dismiss", &json!({}));
    assert!(ada.updates()["progress"].is_null());
    drop(plugged);
    ada.until("an empty port", |state| state["stick"].is_null());

    ada.done("/api/admin/updates/rollback", &json!({ "kind": "model" }));
    assert_eq!(ada.outcome()["action"], "rollback");
    assert!(serves(&ada, OLD));
    wels.cut_power();
    let ada = wels.signed_in();
    assert!(serves(&ada, OLD), "after a restart, too");
    // What is not wanted any more makes room; what serves stays.
    assert_eq!(ada.delete("/api/admin/updates/versions/smol/1").1["error"]["code"], "in_use");
    assert_eq!(ada.delete("/api/admin/updates/versions/smol/2").0, 204);
    assert!(!wels.path("models/smol/2").exists() && ada.updates()["model"]["previous"].is_null());
}

#[test]
fn what_may_not_be_installed_is_refused_in_words() {
    let shop = Shop::new();
    let (wels, ada) = furnished(&shop);
    let stranger = Shop::new();
    let plugged = wels.plug(&stranger.stick(NEW, 2));
    let problem = ada.stick()["content"]["problem"].take();
    assert_eq!(problem["code"], "unknown_key");
    let wish = json!({ "stick": ada.stick()["id"], "bundle": "" });
    assert_eq!(ada.post("/api/admin/updates/install", &wish).1["error"]["code"], "no_bundle");
    // Its administrator decides otherwise, and the stick is looked at again.
    ada.done("/api/admin/updates/keys", &json!({ "text": stranger.key() }));
    ada.until("a preview", |state| !state["stick"]["content"]["preview"].is_null());
    drop(plugged);

    let empty = tempfile::tempdir().unwrap();
    let plugged = wels.plug(empty.path());
    ada.until("nothing", |state| state["stick"]["content"]["state"] == "nothing");
    drop(plugged);

    let cut = shop.stick(NEW, 2);
    let file = fs::File::options().write(true).open(&cut).unwrap();
    file.write_all_at(b"{", 1024 * 1024 + 600).unwrap();
    let plugged = wels.plug(&cut);
    ada.until("a bad signature", |state| state["stick"]["content"]["problem"]["code"] == "bad_signature");
    drop(plugged);
    let bad_key = ada.post("/api/admin/updates/keys", &json!({ "text": "secret" }));
    assert_eq!(bad_key.1["error"]["code"], "wrong_key");
    assert_eq!(ada.post("/api/admin/updates/stop", &json!({})).1["error"]["code"], "nothing_runs");
    assert!(serves(&ada, OLD));
}

#[test]
fn a_model_that_fails_its_test_never_serves() {
    let shop = Shop::new();
    let (wels, ada) = furnished(&shop);
    // It has no chat template: nobody could talk with it.
    shop.pack_with("mute", b"tokenizer.chat_template", b"tokenizer.that_template");
    shop.run("bundle create @mute --folder @folder --name mute --counter 1 --key @release.key");
    let _plugged = wels.plug(&shop.path("folder"));
    assert_eq!(ada.install(false).0, 204);
    let outcome = ada.outcome();
    assert_eq!(outcome["error"]["code"], "failed_test");
    assert!(outcome["error"]["message"].as_str().unwrap().contains("template"), "{outcome}");
    assert!(serves(&ada, OLD));
    let state = ada.updates();
    assert_eq!(state["abandoned"]["name"], "mute");
    assert_eq!(state["model"]["previous"], json!(null));
    assert!(!wels.path("models/mute").exists());
}

#[test]
fn after_a_cut_cord_the_copy_goes_on_by_itself() {
    let shop = Shop::new();
    let (mut wels, ada) = furnished(&shop);
    let stick = shop.stick(NEW, 2);
    let plugged = wels.plug(&stick);
    assert_eq!(ada.install(false).0, 204);
    wels.cut_power();
    // The box's system plugs it in again at its start.
    drop(plugged);
    let _plugged = wels.plug(&stick);
    let ada = wels.signed_in();
    assert_eq!(ada.outcome()["error"], json!(null));
    assert!(serves(&ada, NEW));
}

#[test]
fn what_failed_is_begun_again_when_its_stick_comes_again_and_not_before() {
    let shop = Shop::new();
    let wels = TestBox::start(|_| ());
    let ada = wels.claimed();
    ada.done("/api/admin/updates/keys", &json!({ "text": shop.key() }));
    let (good, damaged) = (shop.stick(NEW, 1), shop.path("damaged.img"));
    fs::copy(&good, &damaged).unwrap();
    let file = fs::File::options().write(true).open(&damaged).unwrap();
    file.write_all_at(b"garbage", file.metadata().unwrap().len() / 2).unwrap();
    let plugged = wels.plug(&damaged);
    assert_eq!(ada.install(false).0, 204);
    let outcome = ada.outcome();
    assert_eq!(outcome["error"]["code"], "damaged");
    // It was looked at again by now, and lies there.
    ada.stick();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ada.outcome(), outcome);
    drop(plugged);
    ada.until("an empty port", |state| state["stick"].is_null());
    let _plugged = wels.plug(&good);
    ada.until("another end", |state| state["progress"]["step"] == "done");
    assert!(serves(&ada, NEW), "it went on by itself");
}

#[test]
fn an_older_version_needs_a_second_yes() {
    let shop = Shop::new();
    let (wels, ada) = furnished(&shop);
    let newer = wels.plug(&shop.stick(NEW, 3));
    assert_eq!(ada.install(false).0, 204);
    assert_eq!(ada.outcome()["error"], json!(null));
    drop(newer);
    ada.until("an empty port", |state| state["stick"].is_null());
    let _older = wels.plug(&shop.stick("Third model now", 2));
    let (status, refused) = ada.install(false);
    assert_eq!((status, &refused["error"]["code"]), (409, &"refused".into()));
    assert!(refused["error"]["message"].as_str().unwrap().contains("older"), "{refused}");
    assert_eq!(ada.install(true).0, 204);
    assert_eq!(ada.outcome()["error"], json!(null));
    assert!(serves(&ada, "Third"));
}

#[test]
fn a_backup_goes_to_a_stick_and_becomes_another_box() {
    let passphrase = "eels are not catfish";
    let one = TestBox::start(|_| ());
    let ada = one.claimed();
    ada.post("/api/chats", &json!({}));
    let folder = tempfile::tempdir().unwrap();
    let plugged = one.plug(folder.path());
    let stick = ada.stick();
    assert_eq!((&stick["writable"], &stick["backups"]), (&json!(true), &json!([])));
    ada.done("/api/admin/backup", &json!({ "stick": stick["id"], "passphrase": passphrase }));
    let outcome = ada.outcome();
    assert_eq!((&outcome["action"], &outcome["error"]), (&"backup".into(), &json!(null)));
    drop((plugged, one));

    let mut other = TestBox::start(|_| ());
    let bob = other.claimed_by("bob");
    let _plugged = other.plug(folder.path());
    let stick = bob.stick();
    let file = &stick["backups"][0]["file"];
    let wish = |passphrase: &str| json!({ "stick": stick["id"], "file": file, "passphrase": passphrase });
    bob.done("/api/admin/restore", &wish("not what it was written with"));
    assert_eq!(bob.outcome()["error"]["code"], "wrong_passphrase");
    bob.done("/api/admin/restore", &wish(passphrase));
    // The daemon ends; its service starts it anew.
    other.daemon.wait().unwrap();
    other.cut_power();
    let ada = other.signed_in();
    assert_eq!(ada.get("/api/chats")["chats"].as_array().unwrap().len(), 1);
}
