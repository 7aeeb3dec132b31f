//! A lost password: whoever reads the code on the box's console becomes its admin.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::house::{House, PASSWORD, Script, cookie};

const LONG: Duration = Duration::from_secs(3600);
const NEW: &str = "not lost again";

fn wish(code: &str, name: &str) -> Value {
    json!({ "code": code, "name": name, "password": NEW })
}

async fn is_recovering(browser: &Client) -> bool {
    browser.get("/api/state").await.json()["recovering"] == true
}

#[tokio::test]
async fn the_code_on_the_console_gives_a_new_password_once() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    let browser = house.browser();
    assert!(!is_recovering(&browser).await);
    assert_eq!(browser.post("/api/recover", &wish("", "ada")).await.error(), (403, "bad_code".into()));
    house.recovery.open(LONG);
    assert!(is_recovering(&browser).await);
    let code = house.recovery.code().unwrap();
    let wrong = browser.post("/api/recover", &wish("AAAA-AAAA", "ada")).await;
    assert_eq!((wrong.error(), &wrong.json()["error"]["param"]), ((403, "bad_code".into()), &json!("code")));
    let short = json!({ "code": code, "name": "ada", "password": "short" });
    assert_eq!(browser.post("/api/recover", &short).await.error(), (400, "weak_password".into()));

    let reply = browser.post("/api/recover", &wish(&code.to_lowercase(), " ADA ")).await;
    let state = reply.json();
    assert_eq!(
        (&state["user"]["name"], &state["user"]["role"], &state["recovering"]),
        (&json!("ada"), &json!("admin"), &json!(false))
    );
    let back = browser.with("Cookie", &cookie(&reply));
    assert_eq!(back.get("/api/users").await.json()["users"].as_array().unwrap().len(), 1);
    assert_eq!(ada.get("/api/chats").await.status, 401, "her other browsers are signed out");
    let old = json!({ "name": "ada", "password": PASSWORD });
    assert_eq!(browser.post("/api/login", &old).await.error(), (401, "bad_credentials".into()));
    house.sign_in("ada", NEW).await;
    assert_eq!(browser.post("/api/recover", &wish(&code, "ada")).await.error(), (403, "bad_code".into()));
}

#[tokio::test]
async fn a_member_becomes_an_admin_and_nobody_else_changes() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    house.add_person(&ada, "bob").await;
    let bob = ada.get("/api/users").await.json()["users"][1].clone();
    let path = format!("/api/users/{}", bob["id"].as_str().unwrap());
    assert_eq!(ada.send("PATCH", &path, Some(br#"{"disabled":true}"#.to_vec())).await.status, 200);
    let recover = async |name| {
        house.recovery.open(LONG);
        let code = house.recovery.code().unwrap();
        house.browser().post("/api/recover", &wish(&code, name)).await
    };
    assert_eq!(recover("bob").await.json()["user"]["id"], bob["id"]);
    assert_eq!(recover("eve").await.status, 200, "an account that was not there is made");
    let users = ada.get("/api/users").await.json()["users"].clone();
    let seen: Vec<_> = users.as_array().unwrap().iter().map(|user| (&user["name"], &user["role"])).collect();
    let admin = json!("admin");
    assert_eq!(seen, [(&json!("ada"), &admin), (&json!("bob"), &admin), (&json!("eve"), &admin)]);
    assert!(users.as_array().unwrap().iter().all(|user| user["disabled"] == false), "{users}");
    house.sign_in("ada", PASSWORD).await;
}

#[tokio::test]
async fn of_many_who_type_the_code_at_once_one_gets_in() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    house.recovery.open(LONG);
    let code = house.recovery.code().unwrap();
    let tries = ["bob", "cleo", "dan", "eve"].map(|name| {
        let (browser, wish) = (house.browser(), wish(&code, name));
        tokio::spawn(async move { browser.post("/api/recover", &wish).await.status })
    });
    let mut statuses = Vec::new();
    for attempt in tries {
        statuses.push(attempt.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403, 403, 403]);
    assert_eq!(ada.get("/api/users").await.json()["users"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_code_ends_with_its_time_and_guessing_is_slowed_down() {
    let (house, _ada) = House::claimed(Script::says("Hi")).await;
    house.recovery.open(LONG);
    let code = house.recovery.code().unwrap();
    house.recovery.close();
    assert_eq!(
        house.browser().post("/api/recover", &wish(&code, "ada")).await.error(),
        (403, "bad_code".into())
    );
    house.recovery.open(Duration::ZERO);
    assert!(!is_recovering(&house.client).await);
    for _ in 0..4 {
        assert_eq!(house.browser().post("/api/recover", &wish("AAAA-AAAA", "ada")).await.status, 403);
    }
    house.recovery.open(LONG);
    let code = house.recovery.code().unwrap();
    let reply = house.browser().post("/api/recover", &wish(&code, "ada")).await;
    assert_eq!(reply.error(), (429, "throttled".into()));
    assert!(reply.json()["error"]["retry_after_s"].as_u64().unwrap() >= 1);
}

#[tokio::test]
async fn an_unclaimed_box_is_claimed_and_not_recovered() {
    let house = House::unclaimed(Script::says("Hi")).await;
    house.recovery.open(LONG);
    let code = house.recovery.code().unwrap();
    assert!(!is_recovering(&house.client).await);
    let reply = house.browser().post("/api/recover", &wish(&code, "eve")).await;
    assert_eq!(reply.error(), (403, "unclaimed".into()));
}
