//! Claiming, signing in and out, sessions, passwords, keys and the admin's page.

use serde_json::json;

use crate::house::{House, PASSWORD, Script, cookie};

#[tokio::test]
async fn the_code_on_the_console_makes_the_first_admin_once() {
    let house = House::unclaimed(Script::says("Hi")).await;
    let code = house.claim_code.clone().unwrap();
    let claim = |code: &str, password: &str| json!({ "code": code, "name": " Ada ", "password": password, "lang": "zh-CN" });
    let browser = house.browser();
    assert_eq!(
        browser.post("/api/claim", &claim("AAAA-AAAA", PASSWORD)).await.error(),
        (403, "bad_code".into())
    );
    assert_eq!(
        browser.post("/api/claim", &claim(&code, "short")).await.error(),
        (400, "weak_password".into())
    );
    let reply = browser.post("/api/claim", &claim(&code.to_lowercase(), PASSWORD)).await;
    let state = reply.json();
    assert_eq!(
        (&state["claimed"], &state["user"]["name"], &state["user"]["role"], &state["user"]["lang"]),
        (&json!(true), &json!("Ada"), &json!("admin"), &json!("zh-CN"))
    );
    assert_eq!(state["model"]["id"], "scripted");
    let set_cookie = reply.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set_cookie.contains(part), "{set_cookie}");
    }
    assert_eq!(
        browser.post("/api/claim", &claim(&code, PASSWORD)).await.error(),
        (409, "already_claimed".into())
    );
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let house = House::unclaimed(Script::says("Hi")).await;
    let claim = json!({ "code": "AAAA-AAAA", "name": "eve", "password": PASSWORD });
    for _ in 0..5 {
        assert_eq!(house.browser().post("/api/claim", &claim).await.status, 403);
    }
    let reply = house.browser().post("/api/claim", &claim).await;
    assert_eq!(reply.error(), (429, "throttled".into()));
    assert!(reply.json()["error"]["retry_after_s"].as_u64().unwrap() >= 1);
    assert!(reply.header("retry-after").is_some());

    let (house, _ada) = House::claimed(Script::says("Hi")).await;
    let login = json!({ "name": "ada", "password": "wrong horse" });
    for _ in 0..5 {
        assert_eq!(house.browser().post("/api/login", &login).await.error(), (401, "bad_credentials".into()));
    }
    assert_eq!(house.browser().post("/api/login", &login).await.error(), (429, "throttled".into()));
}

#[tokio::test]
async fn signing_out_ends_the_session_and_others_stay() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    let other = house.sign_in("ADA", PASSWORD).await;
    let sessions = other.get("/api/sessions").await.json();
    let sessions = sessions["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions.iter().filter(|session| session["current"] == true).count(), 1);
    let reply = other.post("/api/logout", &json!({})).await;
    assert_eq!((reply.status, cookie(&reply).as_str()), (204, "sid="));
    assert_eq!(other.get("/api/chats").await.error(), (401, "signed_out".into()));
    assert!(other.get("/api/state").await.json()["user"].is_null());
    assert_eq!(ada.get("/api/chats").await.status, 200);
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_signs_out_elsewhere() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    let elsewhere = house.sign_in("ada", PASSWORD).await;
    let change =
        |old: &str, new: &str| json!({ "password": { "old": old, "new": new } }).to_string().into_bytes();
    let patch = |body: Vec<u8>| ada.send("PATCH", "/api/me", Some(body));
    let wrong = ada.send("PATCH", "/api/me", Some(change("wrong", "new password"))).await;
    assert_eq!(wrong.error(), (403, "bad_credentials".into()));
    assert_eq!(patch(change(PASSWORD, "short")).await.error(), (400, "weak_password".into()));
    let reply = patch(change(PASSWORD, "new password")).await;
    assert_eq!((reply.status, reply.json()["name"].as_str()), (200, Some("ada")));
    assert_eq!(elsewhere.get("/api/chats").await.status, 401);
    assert_eq!(ada.with("Cookie", &cookie(&reply)).get("/api/chats").await.status, 200);
    house.sign_in("ada", "new password").await;
}

#[tokio::test]
async fn language_and_name_are_kept() {
    let (_house, ada) = House::claimed(Script::says("Hi")).await;
    let reply = ada.send("PATCH", "/api/me", Some(br#"{"lang":"zh-CN","name":"Ada L."}"#.to_vec())).await;
    assert_eq!((&reply.json()["lang"], &reply.json()["name"]), (&json!("zh-CN"), &json!("Ada L.")));
    assert_eq!(ada.get("/api/state").await.json()["user"]["lang"], "zh-CN");
    let reply = ada.send("PATCH", "/api/me", Some(br#"{"name":"a\nb"}"#.to_vec())).await;
    assert_eq!(reply.error(), (400, "invalid_name".into()));
}

#[tokio::test]
async fn keys_are_shown_once() {
    let (_house, ada) = House::claimed(Script::says("Hi")).await;
    let made = ada.post("/api/keys", &json!({ "name": "laptop" })).await.json();
    assert!(made["key"].as_str().unwrap().starts_with(made["prefix"].as_str().unwrap()));
    let listed = ada.get("/api/keys").await;
    assert_eq!(listed.json()["keys"][0]["name"], "laptop");
    assert!(!listed.text().contains(made["key"].as_str().unwrap()));
    assert!(listed.json()["keys"][0].get("key").is_none());
}

#[tokio::test]
async fn the_admin_keeps_accounts_and_cannot_lock_the_box() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    let bob = house.add_person(&ada, "bob").await;
    let users = ada.get("/api/users").await.json()["users"].clone();
    let (ada_id, bob_id) = (users[0]["id"].as_str().unwrap(), users[1]["id"].as_str().unwrap());
    assert!(users[1]["last_seen_at"].is_i64() && users[1].get("password_hash").is_none());
    let twin = json!({ "name": "BOB", "password": PASSWORD, "role": "user" });
    assert_eq!(ada.post("/api/users", &twin).await.error(), (409, "name_taken".into()));

    let patch = |id: &str, body: &str| {
        let (path, body) = (format!("/api/users/{id}"), body.as_bytes().to_vec());
        let ada = ada.clone();
        async move { ada.send("PATCH", &path, Some(body)).await }
    };
    assert_eq!(patch(ada_id, r#"{"role":"user"}"#).await.error(), (409, "last_admin".into()));
    assert_eq!(patch(bob_id, r#"{"disabled":true}"#).await.json()["disabled"], true);
    assert_eq!(bob.get("/api/chats").await.status, 401);
    let login = json!({ "name": "bob", "password": PASSWORD });
    assert_eq!(house.browser().post("/api/login", &login).await.status, 401);
    assert_eq!(patch(bob_id, r#"{"disabled":false,"password":"another one"}"#).await.status, 200);
    house.sign_in("bob", "another one").await;
    assert_eq!(ada.send("DELETE", &format!("/api/users/{bob_id}"), None).await.status, 204);
    assert_eq!(
        ada.send("DELETE", &format!("/api/users/{ada_id}"), None).await.error(),
        (409, "last_admin".into())
    );
}

#[tokio::test]
async fn the_admin_sees_the_box_at_a_glance() {
    let (_house, ada) = House::claimed(Script::says("Hi")).await;
    let status = ada.get("/api/admin/status").await.json();
    assert_eq!(status["engine"]["kv_total"], 16 * 2048);
    assert!(
        status["memory"]["total_bytes"].as_u64().unwrap() > status["memory"]["rss_bytes"].as_u64().unwrap()
    );
    assert!(status["requests_total"].as_u64().unwrap() >= 1);
    assert!(status["outbound_connections"].is_u64());
}
