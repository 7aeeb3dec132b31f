//! Runs: they outlive the connection, can be watched again, and are stopped on purpose only.

use std::time::Duration;

use engine::Options;
use serde_json::{Value, json};

use crate::chats::{ask, finished, new_chat};
use crate::client::{Client, Sse};
use crate::house::{House, Script};

fn text(events: &[Sse], name: &str) -> String {
    let named = events.iter().filter(|sse| sse.event == name);
    named.map(|sse| sse.json()["text"].as_str().unwrap().to_owned()).collect()
}

async fn start(browser: &Client, chat: &str) -> (String, Value) {
    let json = ask(browser, chat, "Sprich!", None).await.json();
    (json["run_id"].as_str().unwrap().to_owned(), json["assistant_message"].clone())
}

#[tokio::test]
async fn events_are_named_numbered_and_resumed_where_they_were_left() {
    let script = Script {
        step_time: Duration::from_millis(4),
        ..Script::says("<think>hm 🤔</think>\n\n一二三四五六七八九十")
    };
    let (_house, ada) = House::claimed(script).await;
    let chat = new_chat(&ada).await;
    let (run, _) = start(&ada, &chat).await;
    let path = format!("/api/runs/{run}/events");
    assert_eq!(ada.get(&format!("/api/chats/{chat}")).await.json()["active_run"], json!(run));

    let mut watched = Vec::new();
    let mut exchange = ada.open("GET", &path, None).await;
    while text(&watched, "content").chars().count() < 3 {
        watched.push(exchange.event().await.unwrap());
    }
    drop(exchange);
    let last = watched.last().unwrap().id.clone();
    watched.extend(ada.with("Last-Event-ID", &last).open("GET", &path, None).await.events().await);
    assert_eq!(text(&watched, "reasoning"), "hm 🤔");
    assert_eq!(text(&watched, "content"), "一二三四五六七八九十");
    let names: Vec<&str> = watched.iter().map(|sse| sse.event.as_str()).collect();
    for name in ["title", "prefill", "thought_end", "done"] {
        assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name} in {names:?}");
    }
    let ids: Vec<u64> = watched.iter().map(|sse| sse.id.parse().unwrap()).collect();
    assert!(ids.is_sorted());

    let replayed = ada.open("GET", &path, None).await.events().await;
    assert_eq!(text(&replayed, "content"), "一二三四五六七八九十");
    let tail = ada.open("GET", &format!("{path}?after={last}"), None).await.events().await;
    assert_eq!(tail.last().unwrap().event, "done");
    assert!(tail.len() < replayed.len());
}

#[tokio::test]
async fn a_run_goes_on_when_nobody_watches() {
    let (house, ada) = House::claimed(Script {
        step_time: Duration::from_millis(2),
        ..Script::says("weiter, immer weiter")
    })
    .await;
    let chat = new_chat(&ada).await;
    let (run, _) = start(&ada, &chat).await;
    let mut exchange = ada.open("GET", &format!("/api/runs/{run}/events"), None).await;
    exchange.event().await.unwrap();
    drop(exchange);
    house.until(|stats| stats.finished_total == 1).await;
    assert_eq!(house.stats().cancelled_total, 0);
    let events = ada.open("GET", &format!("/api/runs/{run}/events"), None).await.events().await;
    assert_eq!(text(&events, "content"), "weiter, immer weiter");
}

#[tokio::test]
async fn a_stop_keeps_what_was_written() {
    let (house, ada) = House::claimed(Script::talks_on()).await;
    let chat = new_chat(&ada).await;
    let (run, answer) = start(&ada, &chat).await;
    house.until(|stats| stats.generated_tokens_total > 20).await;
    let busy = ask(&ada, &chat, "Und?", None).await;
    assert_eq!(busy.error(), (409, "run_active".into()));
    assert_eq!(ada.post(&format!("/api/runs/{run}/stop"), &json!({})).await.status, 204);
    house.until(|stats| stats.running == 0).await;
    let shown = ada.get(&format!("/api/chats/{chat}")).await.json();
    let kept = &shown["messages"][1];
    assert_eq!((&kept["id"], &kept["status"]), (&answer["id"], &json!("stopped")));
    assert!(kept["content"].as_str().unwrap().starts_with("blub blub"));
    assert!(kept["receipt"]["n_generated"].as_u64().unwrap() > 10);
    assert!(shown["active_run"].is_null());
}

#[tokio::test]
async fn the_end_of_the_service_keeps_what_was_written() {
    let (house, ada) = House::claimed(Script::talks_on()).await;
    let chat = new_chat(&ada).await;
    start(&ada, &chat).await;
    house.until(|stats| stats.generated_tokens_total > 20).await;
    let dir = house.end().await;
    let house = House::on(dir, Script::says("x")).await;
    let ada = house.sign_in("ada", crate::house::PASSWORD).await;
    let kept = ada.get(&format!("/api/chats/{chat}")).await.json()["messages"][1].clone();
    assert_eq!(kept["status"], "stopped");
    assert!(kept["content"].as_str().unwrap().starts_with("blub blub"));
}

#[tokio::test]
async fn a_failure_is_told_and_kept() {
    let (_house, ada) = House::claimed(Script { fail_after: Some(4), ..Script::says("eine Antwort") }).await;
    let chat = new_chat(&ada).await;
    let started = ask(&ada, &chat, "Sprich!", None).await;
    let error = finished(&ada, &started).await;
    assert_eq!(error["code"], "engine_failed");
    let kept = ada.get(&format!("/api/chats/{chat}")).await.json()["messages"][1].clone();
    assert_eq!((&kept["status"], &kept["content"]), (&json!("error"), &json!("eine")));
    assert!(kept["error"].is_string());
}

#[tokio::test]
async fn whoever_waits_sees_the_queue() {
    let options = Options { sequences_max: 1, ..Options::default() };
    let (house, ada) = House::claimed(Script { options, ..Script::talks_on() }).await;
    let (first, second) = (new_chat(&ada).await, new_chat(&ada).await);
    let (running, _) = start(&ada, &first).await;
    house.until(|stats| stats.running == 1).await;
    let (waiting, _) = start(&ada, &second).await;
    let mut exchange = ada.open("GET", &format!("/api/runs/{waiting}/events"), None).await;
    let news = loop {
        let sse = exchange.event().await.unwrap();
        if sse.event == "queue" {
            break sse.json();
        }
    };
    assert_eq!(news, json!({ "ahead": 1 }));
    assert_eq!(ada.post(&format!("/api/runs/{waiting}/stop"), &json!({})).await.status, 204);
    house.until(|stats| stats.waiting == 0 && stats.running == 1).await;
    let path = format!("/api/chats/{first}");
    assert_eq!(ada.send("DELETE", &path, None).await.status, 204);
    house.until(|stats| stats.running == 0).await;
    let events = ada.open("GET", &format!("/api/runs/{running}/events"), None).await.events().await;
    assert_eq!(events.last().unwrap().event, "error");
}
