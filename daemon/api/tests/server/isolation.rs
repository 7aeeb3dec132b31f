//! Every route of the table as the wrong person: whatever is ada's is not there for bob.

use api::Access;
use serde_json::json;

use crate::chats::{ask, finished, new_chat};
use crate::client::Client;
use crate::house::{House, Script};

/// Ids of things that are ada's.
struct Things {
    chat: String,
    run: String,
    key: String,
    session: String,
    user: String,
    answer: String,
}

impl Things {
    async fn of(ada: &Client) -> Self {
        let chat = new_chat(ada).await;
        let started = ask(ada, &chat, "geheim", None).await;
        finished(ada, &started).await;
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        Self {
            chat,
            run: text(&started.json()["run_id"]),
            answer: text(&started.json()["assistant_message"]["id"]),
            key: text(&ada.post("/api/keys", &json!({ "name": "k" })).await.json()["id"]),
            session: text(&ada.get("/api/sessions").await.json()["sessions"][0]["id"]),
            user: text(&ada.get("/api/state").await.json()["user"]["id"]),
        }
    }

    /// The route's pattern with the id of such a thing of ada's. A route about a new kind of thing must be added here.
    fn fill(&self, pattern: &str) -> String {
        let kind = pattern.split('/').nth(2).unwrap_or_default();
        let id = match kind {
            "chats" => &self.chat,
            "runs" => &self.run,
            "keys" => &self.key,
            "sessions" => &self.session,
            "users" => &self.user,
            _ => panic!("whose is {pattern}?"),
        };
        pattern.replace("{id}", id)
    }
}

/// A body that every route would accept.
fn body(things: &Things) -> Vec<u8> {
    json!({ "content": "x", "parent_id": things.answer, "message_id": things.answer, "title": "mine", "name": "mine",
        "password": { "old": "x", "new": "x" }, "role": "admin" })
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn no_route_gives_one_person_anothers_things() {
    let (house, ada) = House::claimed(Script::says("streng geheim")).await;
    let bob = house.add_person(&ada, "bob").await;
    let things = Things::of(&ada).await;
    let before = ada.get(&format!("/api/chats/{}", things.chat)).await.json();
    let mut n_tried = 0;
    for (method, pattern, access) in api::route_list() {
        if !pattern.contains("{id}") || access == Access::Key {
            continue;
        }
        n_tried += 1;
        let path = things.fill(pattern);
        let reply = bob.send(method.as_str(), &path, Some(body(&things))).await;
        let expected = if access == Access::Admin { (403, "forbidden") } else { (404, "not_found") };
        assert_eq!(reply.error(), (expected.0, expected.1.into()), "{method} {pattern} as bob");
        let nobody = house.browser().send(method.as_str(), &path, Some(body(&things))).await;
        assert_eq!(nobody.error(), (401, "signed_out".into()), "{method} {pattern} as nobody");
    }
    assert!(n_tried >= 12, "only {n_tried} routes name a thing");
    assert_eq!(ada.get(&format!("/api/chats/{}", things.chat)).await.json(), before);
    assert_eq!(ada.get("/api/keys").await.json()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_route_asks_for_what_its_table_says() {
    let (house, ada) = House::claimed(Script::says("geheim")).await;
    let bob = house.add_person(&ada, "bob").await;
    let things = Things::of(&ada).await;
    for (method, pattern, access) in api::route_list() {
        let path = if pattern.contains("{id}") {
            things.fill(pattern)
        } else {
            pattern.replace("{*id}", "scripted")
        };
        let nobody = house.browser().send(method.as_str(), &path, Some(b"{}".to_vec())).await;
        match access {
            Access::Public => assert!(![401, 403].contains(&nobody.status), "{method} {pattern}"),
            // The counters are open to this machine.
            Access::Key if pattern == "/metrics" => assert_eq!(nobody.status, 200),
            Access::Key | Access::Session | Access::Admin => {
                assert_eq!(nobody.status, 401, "{method} {pattern}");
            }
        }
        if access == Access::Admin {
            let reply = bob.send(method.as_str(), &path, Some(b"{}".to_vec())).await;
            assert_eq!(reply.error(), (403, "forbidden".into()), "{method} {pattern}");
        }
    }
}

#[tokio::test]
async fn lists_and_searches_hold_ones_own_things_only() {
    let (house, ada) = House::claimed(Script::says("streng geheim")).await;
    let bob = house.add_person(&ada, "bob").await;
    Things::of(&ada).await;
    for path in ["/api/chats", "/api/chats/search?q=geheim", "/api/keys"] {
        let json = bob.get(path).await.json();
        let list = json.as_object().unwrap().values().next().unwrap();
        assert_eq!(list, &json!([]), "{path}");
    }
    assert_eq!(bob.get("/api/sessions").await.json()["sessions"].as_array().unwrap().len(), 1);
}
