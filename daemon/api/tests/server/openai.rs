//! Answers of `/v1`: their exact shape, and what becomes of them when the client leaves.

use std::time::Duration;

use engine::Options;
use serde_json::{Value, json};

use crate::client::{Client, Sse};
use crate::house::{House, Script};

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hi" }] })
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

async fn stream(program: &Client, body: &Value) -> Vec<Sse> {
    let mut exchange =
        program.open("POST", "/v1/chat/completions", Some(body.to_string().into_bytes())).await;
    assert_eq!(exchange.head().await.status, 200);
    assert_eq!(exchange.head().await.header("content-type"), Some("text/event-stream"));
    exchange.events().await
}

/// The JSON chunks of a stream, without comments and `[DONE]`.
fn chunks(events: &[Sse]) -> Vec<Value> {
    events.iter().filter(|sse| sse.comment.is_empty() && sse.data != "[DONE]").map(Sse::json).collect()
}

fn joined(chunks: &[Value], field: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
}

#[tokio::test]
async fn a_whole_answer_has_openais_shape() {
    let (_house, program) = House::keyed(Script::says("<think>Greet.</think>\n\nHello! 🐟")).await;
    let reply = program.post("/v1/chat/completions", &hello()).await;
    let json = reply.json();
    assert_eq!((reply.status, json["object"].as_str()), (200, Some("chat.completion")), "{json}");
    let choice = &json["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "Hello! 🐟");
    assert_eq!(choice["message"]["reasoning_content"], "Greet.");
    assert_eq!(choice["finish_reason"], "stop");
    let usage = &json["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 10);
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    assert!(usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() >= 6);
    assert!(json["id"].as_str().unwrap().starts_with("chatcmpl-") && json["created"].is_i64());
    assert_eq!(json["model"], "scripted");
}

#[tokio::test]
async fn a_stream_has_the_strict_form() {
    let (_house, program) = House::keyed(Script::says("<think>Grüße.</think>\n\n你好 👩‍🚀!")).await;
    let mut body = streamed(hello());
    body["stream_options"] = json!({ "include_usage": true });
    let events = stream(&program, &body).await;
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert!(events.iter().all(|sse| sse.event.is_empty()), "named events break clients");
    let chunks = chunks(&events);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert!(chunks[1..].iter().all(|chunk| chunk["choices"][0]["delta"].get("role").is_none()));
    let id = &chunks[0]["id"];
    assert!(chunks.iter().all(|chunk| &chunk["id"] == id && chunk["object"] == "chat.completion.chunk"));

    assert_eq!(joined(&chunks, "reasoning_content"), "Grüße.");
    assert_eq!(joined(&chunks, "content"), "你好 👩‍🚀!");

    let (usage, choices) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    let (last, before) = choices.split_last().unwrap();
    assert_eq!(
        (&last["choices"][0]["delta"], &last["choices"][0]["finish_reason"]),
        (&json!({}), &json!("stop"))
    );
    assert!(
        before.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null() && chunk["usage"].is_null())
    );
}

#[tokio::test]
async fn without_include_usage_there_is_no_chunk_without_choices() {
    let (_house, program) = House::keyed(Script::says("Hi")).await;
    let chunks = chunks(&stream(&program, &streamed(hello())).await);
    assert!(chunks.iter().all(|chunk| chunk["choices"].as_array().unwrap().len() == 1));
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_before_it() {
    let (house, program) = House::keyed(Script::says("one two STOP three")).await;
    let mut body = hello();
    body["stop"] = json!(["never", " STOP"]);
    let json = program.post("/v1/chat/completions", &body).await.json();
    assert_eq!(json["choices"][0]["message"]["content"], "one two");
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    let streamed = chunks(&stream(&program, &streamed(body)).await);
    assert_eq!(joined(&streamed, "content"), "one two");
    house.until(|stats| stats.running == 0).await;
}

#[tokio::test]
async fn max_tokens_and_ignore_eos_bound_an_answer() {
    let (_house, program) = House::keyed(Script::says("abc")).await;
    let mut body = hello();
    body["max_completion_tokens"] = json!(2);
    let json = program.post("/v1/chat/completions", &body).await.json();
    assert_eq!(json["choices"][0]["message"]["content"], "ab");
    assert_eq!(
        (&json["choices"][0]["finish_reason"], &json["usage"]["completion_tokens"]),
        (&json!("length"), &json!(2))
    );
    body["max_completion_tokens"] = json!(7);
    body["ignore_eos"] = json!(true);
    let json = program.post("/v1/chat/completions", &body).await.json();
    assert_eq!(json["usage"]["completion_tokens"], 7);
}

#[tokio::test]
async fn logprobs_come_with_the_words_they_made() {
    let (_house, program) = House::keyed(Script::says("<think>no</think>\n\nHé")).await;
    let mut body = hello();
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    body["temperature"] = json!(0);
    let json = program.post("/v1/chat/completions", &body).await.json();
    let entries = json["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u64> =
        entries.iter().flat_map(|e| e["bytes"].as_array().unwrap()).map(|b| b.as_u64().unwrap()).collect();
    assert!(bytes.ends_with(&[0x48, 0xc3, 0xa9]), "{json}");
    for entry in entries {
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(entry["top_logprobs"][0]["bytes"], entry["bytes"]);
    }
    let chunks = chunks(&stream(&program, &streamed(body)).await);
    let with_words = chunks.iter().filter(|chunk| chunk["choices"][0]["logprobs"]["content"].is_array());
    assert!(with_words.count() >= 2);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_own_answer_only() {
    let (house, program) = House::keyed(Script::talks_on()).await;
    let body = streamed(hello()).to_string().into_bytes();
    let mut leaver = program.open("POST", "/v1/chat/completions", Some(body.clone())).await;
    let mut stayer = program.open("POST", "/v1/chat/completions", Some(body)).await;
    leaver.event().await.unwrap();
    stayer.event().await.unwrap();
    house.until(|stats| stats.running == 2).await;
    drop(leaver);
    house.until(|stats| stats.running == 1 && stats.cancelled_total == 1).await;
    stayer.event().await.unwrap();
    drop(stayer);
    house.until(|stats| stats.running == 0 && stats.kv_tokens_used == 0).await;

    let whole = program.open("POST", "/v1/chat/completions", Some(hello().to_string().into_bytes())).await;
    house.until(|stats| stats.running == 1).await;
    drop(whole);
    house.until(|stats| stats.running == 0 && stats.cancelled_total == 3).await;
}

#[tokio::test]
async fn whoever_waits_is_told_and_a_full_queue_refuses() {
    let options = Options { sequences_max: 1, waiting_max: 1, ..Options::default() };
    let (house, program) = House::keyed(Script { options, ..Script::talks_on() }).await;
    let body = streamed(hello()).to_string().into_bytes();
    let mut first = program.open("POST", "/v1/chat/completions", Some(body.clone())).await;
    first.event().await.unwrap();
    house.until(|stats| stats.running == 1).await;
    let mut second = program.open("POST", "/v1/chat/completions", Some(body)).await;
    let news = second.event().await.unwrap();
    assert_eq!((news.comment.as_str(), news.data.as_str()), ("queue {\"ahead\":1}", ""));

    let refused = program.post("/v1/chat/completions", &hello()).await;
    assert_eq!(refused.error(), (503, "queue_full".into()));
    let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&retry));

    drop(second);
    house.until(|stats| stats.waiting == 0).await;
    assert_eq!(house.stats().running, 1, "a queued client that leaves takes nobody along");
    drop(first);
    house.until(|stats| stats.running == 0).await;
}

#[tokio::test]
async fn one_account_cannot_take_every_place() {
    let options = Options { sequences_max: 1, waiting_max: 32, ..Options::default() };
    let (_house, program) = House::keyed(Script { options, ..Script::talks_on() }).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let body = streamed(hello()).to_string().into_bytes();
        let mut exchange = program.open("POST", "/v1/chat/completions", Some(body)).await;
        assert_eq!(exchange.head().await.status, 200);
        held.push(exchange);
    }
    let refused = program.post("/v1/chat/completions", &hello()).await;
    assert_eq!(refused.error(), (429, "too_many_requests".into()));
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_failure_in_mid_answer_arrives_in_the_stream_and_as_a_status() {
    let script = Script { fail_after: Some(3), ..Script::says("a long enough answer") };
    let (_house, program) = House::keyed(script.clone()).await;
    let events = stream(&program, &streamed(hello())).await;
    let error = events.iter().rev().nth(1).unwrap().json();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["type"]),
        (&json!("engine_failed"), &json!("server_error"))
    );
    assert_eq!(events.last().unwrap().data, "[DONE]");

    let (_house, program) = House::keyed(script).await;
    let failed = program.post("/v1/chat/completions", &hello()).await;
    assert_eq!(failed.error(), (500, "engine_failed".into()));
}

#[tokio::test]
async fn models_are_listed_and_counters_counted() {
    let (house, program) = House::keyed(Script::says("Hi")).await;
    let list = program.get("/v1/models").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("scripted")));
    assert_eq!(program.get("/v1/models/scripted").await.json()["object"], "model");
    assert_eq!(program.get("/v1/models/org/other").await.error(), (404, "model_not_found".into()));

    program.post("/v1/chat/completions", &hello()).await;
    house.until(|stats| stats.finished_total == 1).await;
    let metrics = house.client.get("/metrics").await;
    for line in [
        "wels_http_responses_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "wels_requests_total 1",
        "wels_ttft_seconds_count 1",
        "wels_inter_token_seconds_count 1",
        "wels_build_info{version=",
        "wels_draft_tokens_total{source=\"lookup\"} ",
        "wels_draft_tokens_accepted_total{source=\"draft\"} 0",
    ] {
        assert!(metrics.text().contains(line), "{line} in {}", metrics.text());
    }
    assert_eq!(house.client.get("/healthz").await.json(), json!({ "status": "ok", "model": "ready" }));
}

#[tokio::test]
async fn answers_under_way_finish_when_the_service_ends() {
    let script = Script { step_time: Duration::from_millis(10), ..Script::says("blub blub blub blub") };
    let (house, program) = House::keyed(script).await;
    let body = streamed(hello()).to_string().into_bytes();
    let mut exchange = program.open("POST", "/v1/chat/completions", Some(body)).await;
    exchange.event().await.unwrap();
    let (_, events) = tokio::join!(house.end(), exchange.events());
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert!(chunks(&events).iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "stop"));
}
