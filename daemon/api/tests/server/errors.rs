//! Bad input: each a clear error, and the service alive after it.

use serde_json::json;

use crate::house::{House, Script};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn what_is_not_json_is_named_with_its_place() {
    let (_house, program) = House::keyed(Script::says("Hi")).await;
    let reply = program.send("POST", CHAT, Some(b"{\"messages\": [\n  oops".to_vec())).await;
    assert_eq!(reply.error(), (400, "invalid_json".into()));
    let error = &reply.json()["error"];
    assert!(error["message"].as_str().unwrap().contains("line 2 column 3"), "{error}");
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error.get("param").is_some());

    let reply = program.post(CHAT, &json!({ "messages": "Hi" })).await;
    assert_eq!(reply.error(), (400, "invalid_value".into()));
    let reply = program.post(CHAT, &json!({})).await;
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("messages"));
}

#[tokio::test]
async fn an_unknown_model_is_not_found_and_none_is_the_installed_one() {
    let (_house, program) = House::keyed(Script::says("Hi")).await;
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    for model in [json!("scripted"), json!("default"), json!(""), json!(null)] {
        let reply = program.post(CHAT, &json!({ "model": model, "messages": messages })).await;
        assert_eq!(reply.status, 200, "{model}");
    }
    let reply = program.post(CHAT, &json!({ "model": "gpt-9", "messages": messages })).await;
    assert_eq!(reply.error(), (404, "model_not_found".into()));
    assert_eq!(reply.json()["error"]["param"], "model");
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_refused() {
    let (_house, program) = House::keyed(Script { context: 64, ..Script::says("Hi") }).await;
    let body = json!({ "messages": [{ "role": "user", "content": "x".repeat(100) }] });
    let reply = program.post(CHAT, &body).await;
    assert_eq!(reply.error(), (400, "context_length_exceeded".into()));
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("64") || reply.text().contains("63"));
}

#[tokio::test]
async fn a_ten_megabyte_prompt_is_refused_and_the_refusal_arrives() {
    let (_house, program) = House::keyed(Script::says("Hi")).await;
    let body = json!({ "messages": [{ "role": "user", "content": "x".repeat(10 << 20) }] });
    let reply = program.post(CHAT, &body).await;
    assert_eq!(reply.error(), (413, "body_too_large".into()));
    assert!(reply.text().contains("4 MiB"));
    assert_eq!(program.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn what_is_not_supported_yet_is_refused_not_ignored() {
    let (_house, program) = House::keyed(Script::says("Hi")).await;
    let mut body =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "tools": [{ "type": "function" }] });
    let reply = program.post(CHAT, &body).await;
    assert_eq!(reply.error(), (400, "unsupported".into()));
    assert_eq!(reply.json()["error"]["param"], "tools");
    body["tools"] = json!([]);
    body["unheard_of"] = json!({ "a": 1 });
    assert_eq!(program.post(CHAT, &body).await.status, 200);
}

#[tokio::test]
async fn without_a_model_chat_says_so() {
    let (house, ada) = House::claimed(Script { installed: false, ..Script::says("Hi") }).await;
    let program = house.program(&ada).await;
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    assert_eq!(program.post(CHAT, &body).await.error(), (503, "no_model".into()));
    assert_eq!(program.get("/v1/models").await.json()["data"], json!([]));
    let chat = ada.post("/api/chats", &json!({})).await.json();
    let path = format!("/api/chats/{}/messages", chat["id"].as_str().unwrap());
    let reply = ada.post(&path, &json!({ "content": "Hi", "parent_id": null })).await;
    assert_eq!(reply.error(), (503, "no_model".into()));
    assert!(ada.get("/api/state").await.json()["model"].is_null());
}

#[tokio::test]
async fn unknown_places_and_methods_answer_in_json() {
    let (_house, program) = House::keyed(Script::says("Hi")).await;
    assert_eq!(program.get("/v1/embeddings").await.error(), (404, "not_found".into()));
    assert_eq!(program.get("/api/nothing").await.error(), (404, "not_found".into()));
    assert_eq!(program.get(CHAT).await.error(), (405, "method_not_allowed".into()));
}
