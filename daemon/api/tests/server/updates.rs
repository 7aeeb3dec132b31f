//! The page's side of updates: what the desk says is shown as it is, and what administrators wish arrives there.

use api::{Refusal, Wish};
use serde_json::json;

use crate::house::{House, PASSWORD, Script};

#[tokio::test]
async fn the_state_is_shown_now_and_whenever_it_changes() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    assert_eq!(ada.get("/api/admin/updates").await.json(), json!({ "stick": null }));
    let mut events = ada.open("GET", "/api/admin/updates/events", None).await;
    assert_eq!(events.event().await.unwrap().json(), json!({ "stick": null }));
    house.desk.state.send_replace(json!({ "stick": { "id": "a" } }).to_string().into());
    assert_eq!(events.event().await.unwrap().json()["stick"]["id"], "a");
}

#[tokio::test]
async fn a_wish_is_taken_up_or_refused_in_words() {
    let (mut house, ada) = House::claimed(Script::says("Hi")).await;
    let mut wishes = std::mem::replace(&mut house.desk.wishes, tokio::sync::mpsc::channel(1).1);
    let desk = tokio::spawn(async move {
        let first = wishes.recv().await.unwrap();
        first.answer.send(Ok(())).unwrap();
        let second = wishes.recv().await.unwrap();
        let refusal = Refusal { code: "no_stick", message: "the stick is gone; plug it in again".into() };
        second.answer.send(Err(refusal)).unwrap();
        (first.wish, second.wish)
    });
    let install = json!({ "stick": "s1", "bundle": "ab", "allow_older": true });
    assert_eq!(ada.post("/api/admin/updates/install", &install).await.status, 204);
    let backup = json!({ "stick": "s1", "passphrase": "eels are not catfish" });
    let reply = ada.post("/api/admin/backup", &backup).await;
    assert_eq!(reply.error(), (409, "no_stick".into()));
    let (first, second) = desk.await.unwrap();
    assert_eq!(first, Wish::Install { stick: "s1".into(), bundle: "ab".into(), allow_older: true });
    assert!(!format!("{second:?}").contains("catfish"), "a log would show it: {second:?}");
}

#[tokio::test]
async fn what_cannot_be_wished_never_reaches_the_desk() {
    let (mut house, ada) = House::claimed(Script::says("Hi")).await;
    let weak = ada.post("/api/admin/backup", &json!({ "stick": "s", "passphrase": "short" })).await;
    assert_eq!(weak.error(), (400, "weak_passphrase".into()));
    let wrong = ada.post("/api/admin/factory-reset", &json!({ "password": "not it" })).await;
    assert_eq!(wrong.error(), (403, "bad_credentials".into()));
    let long = ada.post("/api/admin/updates/keys", &json!({ "text": "x".repeat(20_000) })).await;
    assert_eq!(long.error(), (400, "wrong_key".into()));
    for minutes in [json!(0), json!(121)] {
        let reply = ada.post("/api/admin/measure", &json!({ "minutes": minutes })).await;
        assert_eq!(reply.error(), (400, "wrong_minutes".into()), "{minutes}");
    }
    assert_eq!(ada.post("/api/admin/measure", &json!({ "minutes": -1 })).await.status, 400);
    let bob = house.add_person(&ada, "bob").await;
    for path in [
        "measure",
        "measure/stop",
        "updates/install",
        "updates/stop",
        "updates/restart",
        "restore",
        "factory-reset",
    ] {
        let reply = bob.post(&format!("/api/admin/{path}"), &json!({ "password": PASSWORD })).await;
        assert_eq!(reply.status, 403, "{path}");
    }
    assert!(house.desk.wishes.try_recv().is_err());
}

#[tokio::test]
async fn a_measurement_is_wished_and_shown() {
    let (mut house, ada) = House::claimed(Script::says("Hi")).await;
    let mut wishes = std::mem::replace(&mut house.desk.wishes, tokio::sync::mpsc::channel(1).1);
    assert_eq!(ada.get("/api/admin/measure").await.json(), json!({ "progress": null, "report": null }));
    let desk = tokio::spawn(async move {
        let wished = wishes.recv().await.unwrap();
        wished.answer.send(Ok(())).unwrap();
        wished.wish
    });
    assert_eq!(ada.post("/api/admin/measure", &json!({ "minutes": 60 })).await.status, 204);
    assert_eq!(desk.await.unwrap(), Wish::Measure { minutes: 60 });
    house.desk.measured.send_replace(json!({ "report": { "version": "1" } }).to_string().into());
    assert_eq!(ada.get("/api/admin/measure").await.json()["report"]["version"], "1");
}
