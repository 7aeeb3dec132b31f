//! Chats of the page: asking, branches, finding, exporting, and being there after a restart.

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::house::{House, PASSWORD, Script};

pub(crate) async fn new_chat(browser: &Client) -> String {
    browser.post("/api/chats", &json!({})).await.json()["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn ask(browser: &Client, chat: &str, content: &str, parent: Option<&str>) -> Reply {
    let body = json!({ "content": content, "parent_id": parent });
    browser.post(&format!("/api/chats/{chat}/messages"), &body).await
}

/// Waits for the run's end and returns its last event's data.
pub(crate) async fn finished(browser: &Client, started: &Reply) -> Value {
    assert_eq!(started.status, 200, "{}", started.text());
    let json = started.json();
    let path = format!("/api/runs/{}/events", json["run_id"].as_str().unwrap());
    browser.open("GET", &path, None).await.events().await.last().unwrap().json()
}

fn id(message: &Value) -> &str {
    message["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_question_is_answered_with_a_receipt_and_titles_its_chat() {
    let (_house, ada) = House::claimed(Script::says("<think>Deep?</think>\n\n10 m 🐟")).await;
    let chat = new_chat(&ada).await;
    let started = ask(&ada, &chat, "How deep?", None).await;
    let json = started.json();
    assert_eq!(
        (&json["user_message"]["role"], &json["user_message"]["parent_id"]),
        (&json!("user"), &json!(null))
    );
    assert_eq!(json["assistant_message"]["parent_id"], json["user_message"]["id"]);
    assert_eq!(json["assistant_message"]["status"], "running");
    let done = finished(&ada, &started).await;
    let message = &done["message"];
    assert_eq!((&message["content"], &message["reasoning"]), (&json!("10 m 🐟"), &json!("Deep?")));
    assert!(message["reasoning_ms"].is_u64() && message["status"] == "done");
    let receipt = &message["receipt"];
    assert_eq!(receipt["model"], "scripted");
    assert!(receipt["n_prompt"].as_u64().unwrap() > 0 && receipt["n_generated"].as_u64().unwrap() > 0);

    let shown = ada.get(&format!("/api/chats/{chat}")).await.json();
    assert_eq!(shown["chat"]["title"], "How deep?");
    assert_eq!(shown["messages"].as_array().unwrap().len(), 2);
    assert_eq!(shown["messages"][1], *message);
    assert!(shown["active_run"].is_null());
    assert_eq!(ada.get("/api/chats?limit=1").await.json()["chats"][0]["id"], json!(chat));
}

#[tokio::test]
async fn editing_and_regenerating_branch() {
    let (_house, ada) = House::claimed(Script::says("ja")).await;
    let chat = new_chat(&ada).await;
    let first = ask(&ada, &chat, "Eins?", None).await;
    finished(&ada, &first).await;
    let answer = first.json()["assistant_message"].clone();
    finished(&ada, &ask(&ada, &chat, "Zwei?", Some(id(&answer))).await).await;
    finished(&ada, &ask(&ada, &chat, "Eins, anders?", None).await).await;
    let again =
        ada.post(&format!("/api/chats/{chat}/regenerate"), &json!({ "message_id": id(&answer) })).await;
    assert_eq!(again.json()["assistant_message"]["parent_id"], answer["parent_id"]);
    finished(&ada, &again).await;
    let messages = ada.get(&format!("/api/chats/{chat}")).await.json()["messages"].clone();
    assert_eq!(messages.as_array().unwrap().len(), 7);
    assert!(messages.as_array().unwrap().iter().all(|message| message["status"] == "done"));

    let question = first.json()["user_message"].clone();
    assert_eq!(ask(&ada, &chat, "?", Some(id(&question))).await.error(), (404, "not_found".into()));
    assert_eq!(ask(&ada, &chat, " \n", None).await.error(), (400, "empty_message".into()));
}

#[tokio::test]
async fn chats_are_found_renamed_exported_and_deleted() {
    let (_house, ada) = House::claimed(Script::says("因为服务器繁忙。")).await;
    let chat = new_chat(&ada).await;
    finished(&ada, &ask(&ada, &chat, "为什么这么慢？", None).await).await;
    let hits = ada.get("/api/chats/search?q=%E7%B9%81%E5%BF%99").await.json();
    assert_eq!(hits["chats"][0]["id"], json!(chat));
    assert!(hits["chats"][0]["snippet"].as_str().unwrap().contains("繁忙"));
    assert_eq!(ada.get("/api/chats/search?q=").await.json(), json!({ "chats": [] }));

    let path = format!("/api/chats/{chat}");
    let renamed = ada.send("PATCH", &path, Some(r#"{"title":"慢"}"#.as_bytes().to_vec())).await;
    assert_eq!(renamed.json()["title"], "慢");
    let export = ada.get(&format!("{path}/export?format=md")).await;
    assert!(export.header("content-disposition").unwrap().starts_with("attachment"));
    assert_eq!(export.text(), "# 慢\n\n## User\n\n为什么这么慢？\n\n## Assistant\n\n因为服务器繁忙。\n");
    assert_eq!(
        ada.get(&format!("{path}/export?format=json")).await.json()["messages"].as_array().unwrap().len(),
        2
    );
    assert_eq!(ada.get(&format!("{path}/export?format=pdf")).await.status, 400);

    assert_eq!(ada.send("DELETE", &path, None).await.status, 204);
    assert_eq!(ada.get(&path).await.error(), (404, "not_found".into()));
    assert_eq!(ada.get("/api/chats/search?q=%E7%B9%81%E5%BF%99").await.json(), json!({ "chats": [] }));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (house, ada) = House::claimed(Script::says("bleibt")).await;
    let chat = new_chat(&ada).await;
    finished(&ada, &ask(&ada, &chat, "Bleibt es?", None).await).await;
    let program = house.program(&ada).await;
    let dir = house.end().await;

    let house = House::on(dir, Script::says("anders")).await;
    assert!(house.claim_code.is_none());
    let at_home = |client: &Client| Client { address: house.client.address, ..client.clone() };
    let ada = at_home(&ada).with("Host", &house.client.address.to_string());
    let shown = ada.get(&format!("/api/chats/{chat}")).await.json();
    assert_eq!(shown["messages"][1]["content"], "bleibt");
    let program = at_home(&program).with("Host", &house.client.address.to_string());
    assert_eq!(program.get("/v1/models").await.status, 200);
    house.sign_in("ada", PASSWORD).await;
}
