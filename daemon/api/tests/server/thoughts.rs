//! The manners of models that think: who opens the thought, what cuts it off, and what becomes of it afterwards.

use serde_json::{Value, json};

use crate::chats::{finished, new_chat};
use crate::client::Client;
use crate::house::{House, Script};

/// Drops old thoughts as R1's template does; opens a thought, or closes it at once, where the request says so, as
/// V3.1's does.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n\
                        {% endfor %}<|im_start|>assistant\n\
                        {% if thinking %}<think>{% elif thinking is defined %}<think></think>{% endif %}";

fn says(text: &str) -> Script {
    Script { template: TEMPLATE, ..Script::says(text) }
}

/// Asks with further fields; returns thoughts, answer and the reason of the end.
async fn asked(program: &Client, fields: Value) -> (Value, Value, Value) {
    let mut body = json!({ "messages": [{ "role": "user", "content": "6 x 7?" }] });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let json = program.post("/v1/chat/completions", &body).await.json();
    let choice = &json["choices"][0];
    let message = &choice["message"];
    (message["reasoning_content"].clone(), message["content"].clone(), choice["finish_reason"].clone())
}

#[tokio::test]
async fn the_request_says_whether_the_model_thinks() {
    let (_house, program) = House::keyed(says("hm\n</think>\n\n42")).await;
    let with = |thinking: Value| json!({ "chat_template_kwargs": { "thinking": thinking } });
    let thought = (json!("hm"), json!("42"), json!("stop"));
    assert_eq!(asked(&program, with(json!(true))).await, thought);
    // Told not to think, it has nothing to close.
    let answer = (Value::Null, json!("hm\n</think>\n\n42"), json!("stop"));
    assert_eq!(asked(&program, with(json!(false))).await, answer);
    // Told nothing, it forgot to open what it closes.
    assert_eq!(asked(&program, json!({})).await, thought);
}

#[tokio::test]
async fn a_thought_that_nobody_opened_is_streamed_without_its_marker() {
    let (_house, program) = House::keyed(says("hm\n</think>\n\n42")).await;
    let body = json!({ "messages": [{ "role": "user", "content": "?" }], "stream": true, "logprobs": true });
    let body = Some(body.to_string().into_bytes());
    let events = program.open("POST", "/v1/chat/completions", body).await.events().await;
    let events = events.iter().filter(|sse| sse.comment.is_empty() && sse.data != "[DONE]");
    let chunks: Vec<Value> = events.map(crate::client::Sse::json).collect();
    let content = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(content.collect::<String>(), "hm42");
}

#[tokio::test]
async fn a_thought_cut_off_is_a_thought() {
    let (_house, program) = House::keyed(says("<think>\na long thought")).await;
    let cut = asked(&program, json!({ "max_tokens": 8 })).await;
    assert_eq!(cut, (json!("a long"), json!(""), json!("length")));
    let (_house, program) = House::keyed(says("<think>a stop b</think>c stop d")).await;
    let stopped = asked(&program, json!({ "stop": "stop" })).await;
    assert_eq!(stopped, (json!("a stop b"), json!("c "), json!("stop")), "thoughts are not looked through");
}

#[tokio::test]
async fn old_thoughts_are_taken_and_dropped() {
    let (_house, program) = House::keyed(says("ok")).await;
    let prompt_tokens = async |answer: Value| {
        let user = json!({ "role": "user", "content": "Hi" });
        let body = json!({ "messages": [&user, answer, &user] });
        let json = program.post("/v1/chat/completions", &body).await.json();
        json["usage"]["prompt_tokens"].as_u64().unwrap_or_else(|| panic!("{json}"))
    };
    let plain = prompt_tokens(json!({ "role": "assistant", "content": "42" })).await;
    let answers = [
        json!({ "role": "assistant", "content": "42", "reasoning_content": "a long thought" }),
        json!({ "role": "assistant", "content": "<think>a long thought</think>42" }),
    ];
    for answer in answers {
        assert_eq!(prompt_tokens(answer.clone()).await, plain, "{answer}");
    }
    // An answer that was all thought, as clients send it back.
    let silent =
        prompt_tokens(json!({ "role": "assistant", "content": null, "reasoning_content": "t" })).await;
    assert_eq!(silent, plain - 2);
}

#[tokio::test]
async fn the_page_tells_thought_from_answer_in_the_end() {
    let (_house, ada) = House::claimed(says("hm\n</think>\n\n42")).await;
    let chat = new_chat(&ada).await;
    let path = format!("/api/chats/{chat}/messages");
    for thinking in [json!(null), json!(true)] {
        let started = ada.post(&path, &json!({ "content": "6 x 7?", "thinking": thinking })).await;
        let message = &finished(&ada, &started).await["message"];
        assert_eq!((&message["reasoning"], &message["content"]), (&json!("hm"), &json!("42")), "{thinking}");
    }
    let started = ada.post(&path, &json!({ "content": "6 x 7?", "thinking": false })).await;
    let message = &finished(&ada, &started).await["message"];
    assert_eq!((&message["reasoning"], &message["content"]), (&json!(null), &json!("hm\n</think>\n\n42")));
}
