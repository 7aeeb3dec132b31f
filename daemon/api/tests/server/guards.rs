//! Who gets in: hosts, origins, keys, and the time before the claim.

use api::Config;
use serde_json::json;

use crate::house::{House, PASSWORD, Script};

#[tokio::test]
async fn before_the_claim_there_is_the_claim_page_and_nothing_else() {
    let house = House::unclaimed(Script::says("Hi")).await;
    let state = house.client.get("/api/state").await.json();
    assert_eq!(
        (&state["claimed"], &state["user"], &state["model"]),
        (&json!(false), &json!(null), &json!(null))
    );
    assert_eq!(house.client.get("/healthz").await.status, 200);
    assert_eq!(house.client.get("/").await.status, 200);
    for (method, path, _) in api::route_list() {
        if ["/api/state", "/api/claim", "/healthz"].contains(&path) {
            continue;
        }
        let reply = house.browser().send(method.as_str(), path, Some(b"{}".to_vec())).await;
        assert_eq!(reply.error(), (403, "unclaimed".into()), "{method} {path}");
    }
}

#[tokio::test]
async fn only_own_names_and_addresses_are_answered() {
    let config = Config { hosts: vec!["ai.office.example".into()], ..Config::default() };
    let house = House::unclaimed(Script { config, ..Script::says("Hi") }).await;
    for host in [
        "wels",
        "wels.local:8080",
        "WELS.LOCAL",
        "localhost",
        "10.1.2.3:80",
        "[::1]:8080",
        "ai.office.example",
    ] {
        assert_eq!(house.client.with("Host", host).get("/healthz").await.status, 200, "{host}");
    }
    for host in ["evil.example", "wels.evil.example", "10.1.2.3.evil.example", ""] {
        let reply = house.client.with("Host", host).get("/healthz").await;
        assert_eq!(reply.error(), (421, "unknown_host".into()), "{host}");
    }
    assert_eq!(house.client.without("Host").get("/healthz").await.error(), (421, "unknown_host".into()));
}

#[tokio::test]
async fn changes_come_from_the_own_page_as_json_only() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    let login = json!({ "name": "ada", "password": PASSWORD });
    for origin in ["http://evil.example", "null", "http://wels.local.evil.example", "https://127.0.0.1:1"] {
        let reply = ada.with("Origin", origin).post("/api/login", &login).await;
        assert_eq!(reply.error(), (403, "bad_origin".into()), "{origin}");
        let reply = ada.with("Origin", origin).send("DELETE", "/api/keys/1", None).await;
        assert_eq!(reply.error(), (403, "bad_origin".into()), "{origin}");
    }
    assert_eq!(house.client.post("/api/login", &login).await.error(), (403, "bad_origin".into()));
    let form = ada.with("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(form.post("/api/login", &login).await.error(), (415, "not_json".into()));
    let page = ada.with("Content-Type", "application/json; charset=utf-8");
    assert_eq!(page.post("/api/login", &login).await.status, 200);
}

#[tokio::test]
async fn a_program_needs_a_key_that_works() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    let key = ada.post("/api/keys", &json!({ "name": "script" })).await.json();
    let (key, id) = (key["key"].as_str().unwrap(), key["id"].as_str().unwrap());
    let with = |value: &str| house.client.with("Authorization", value);
    assert_eq!(with(&format!("bearer {key}")).get("/v1/models").await.status, 200);
    for wrong in ["Bearer wels_1_00", "Basic abc", "Bearer", "", &format!("Bearer {key}0")] {
        let reply = with(wrong).get("/v1/models").await;
        assert_eq!(reply.error(), (401, "invalid_api_key".into()), "{wrong}");
        assert_eq!(reply.json()["error"]["type"], "authentication_error");
    }
    assert_eq!(ada.get("/v1/models").await.status, 401, "a cookie is no key");
    assert_eq!(ada.send("DELETE", &format!("/api/keys/{id}"), None).await.status, 204);
    assert_eq!(with(&format!("Bearer {key}")).get("/v1/models").await.status, 401);
}

#[tokio::test]
async fn without_keys_this_machine_gets_in_even_unclaimed() {
    let config = Config { require_api_key: false, ..Config::default() };
    let house = House::unclaimed(Script { config, ..Script::says("Hi") }).await;
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    assert_eq!(house.client.post("/v1/chat/completions", &body).await.status, 200);
    assert_eq!(house.client.get("/api/chats").await.status, 403);
}
