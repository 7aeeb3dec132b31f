//! Model files are untrusted: what contradicts itself is an error, and never a panic.
#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

use proptest::prelude::*;
use text::{Codec, Conversation, Error, GgufVocab, MAX_ENCODE_BYTES, Message, Role, Special, Tokenizer};

fn from_json(json: &str) -> Result<Tokenizer, Error> {
    Tokenizer::from_json(json.as_bytes(), None)
}

/// Bytes a to c, `ab`, and one marker.
fn small() -> GgufVocab {
    GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: ["a", "b", "c", "ab", "<|end|>", "Ġ", "Ċ"].map(String::from).to_vec(),
        token_types: vec![1, 1, 1, 1, 3, 1, 1],
        merges: vec!["a b".into()],
        eos: Some(4),
        ..GgufVocab::default()
    }
}

#[test]
fn a_small_vocabulary_works() {
    let tokenizer = Tokenizer::from_gguf(small()).unwrap();
    assert_eq!(tokenizer.encode("abc<|end|>", Special::Recognise).unwrap(), [3, 2, 4]);
    assert_eq!(tokenizer.decode(&[3, 2, 4, 99], false), "abc<|end|>");
    assert_eq!(tokenizer.decode(&[3, 2, 4, 99], true), "abc");
    assert_eq!(
        (tokenizer.id_of("ab"), tokenizer.id_of("<|end|>"), tokenizer.id_of("x")),
        (Some(3), Some(4), None)
    );
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused() {
    type Spoil = fn(&mut GgufVocab);
    let spoilt: [(&str, Spoil); 9] = [
        ("no tokens", |v| v.tokens.clear()),
        ("types too short", |v| v.token_types.truncate(2)),
        ("scores too long", |v| v.scores = vec![0.0; 99]),
        ("eos outside", |v| v.eos = Some(99)),
        ("merge of unknown tokens", |v| v.merges.push("x y".into())),
        ("merge into an unknown token", |v| v.merges.push("ab ab".into())),
        ("merge without a pair", |v| v.merges.push("ab".into())),
        ("unknown model", |v| v.model = "wordpiece".into()),
        ("llama without scores", |v| v.model = "llama".into()),
    ];
    for (what, spoil) in spoilt {
        let mut vocab = small();
        spoil(&mut vocab);
        assert!(Tokenizer::from_gguf(vocab).is_err(), "{what}");
    }
}

#[test]
fn tokenizer_json_that_contradicts_itself_is_refused() {
    let with =
        |model: &str, rest: &str| format!(r#"{{"decoder":{{"type":"ByteLevel"}},"model":{model}{rest}}}"#);
    let bpe = r#"{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}"#;
    assert!(from_json(&with(bpe, "")).is_ok());
    let bad = [
        String::new(),
        "[]".into(),
        "[".repeat(100_000),
        with(r#"{"type":"Unigram","vocab":[["a",0.0]]}"#, ""),
        with(r#"{"type":"BPE","vocab":{"a":4294967295},"merges":[]}"#, ""),
        with(r#"{"type":"BPE","vocab":{"a":0},"merges":["a a"]}"#, ""),
        with(r#"{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}"#, ""),
        with(r#"{"type":"BPE","vocab":{"a":-1},"merges":[]}"#, ""),
        with(r###"{"type":"BPE","vocab":{},"merges":[],"continuing_subword_prefix":"##"}"###, ""),
        with(bpe, r#","added_tokens":[{"id":4000000000,"content":"<x>"}]"#),
        with(
            bpe,
            r#","pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false}"#,
        ),
        with(bpe, r#","pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}"#),
        r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#.into(),
    ];
    for json in bad {
        assert!(from_json(&json).is_err(), "{}", &json[..json.len().min(200)]);
    }
}

#[test]
fn another_kind_of_model_is_refused_by_name() {
    let error = from_json(r#"{"model":{"type":"Unigram","vocab":[]}}"#).unwrap_err().to_string();
    assert!(error.contains("Unigram") && error.contains("BPE"), "{error}");
}

#[test]
fn a_ten_megabyte_prompt_is_refused_at_once() {
    let codec =
        Codec::new(Tokenizer::from_gguf(small()).unwrap(), Some("{{ messages[0].content }}")).unwrap();
    let text = "a".repeat(10 << 20);
    let is_too_long = |error| matches!(error, Error::TextTooLong { bytes, max_bytes: MAX_ENCODE_BYTES } if bytes >= 10 << 20);
    assert!(is_too_long(codec.tokenizer().encode(&text, Special::Plain).unwrap_err()));
    let conversation =
        Conversation { messages: vec![Message::text(Role::User, text)], ..Conversation::default() };
    assert!(is_too_long(codec.prompt(&conversation).unwrap_err()));
}

#[test]
fn a_long_prompt_of_half_markers_is_not_slow() {
    let codec =
        Codec::new(Tokenizer::from_gguf(small()).unwrap(), Some("{{ messages[0].content }}")).unwrap();
    let text = "<|end|<|end|>".repeat(10_000);
    let conversation =
        Conversation { messages: vec![Message::text(Role::User, text.clone())], ..Conversation::default() };
    let prompt = codec.prompt(&conversation).unwrap();
    assert_eq!(prompt.text, text);
    assert!(!prompt.ids.contains(&4));
}

/// Pieces a hostile user would try: markers, their parts, white space to be trimmed, sentinels.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<|end|>", "<|", "|>", "<", ">", "end", "<|en", "d|>", "<think>", "</think>", "think>", " ", "\n",
        "a", "\u{fdd0}",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever people write, wherever the template puts or trims it, its own two markers stay the only ones.
    #[test]
    fn no_conversation_forges_a_marker(system in hostile_text(), user in hostile_text(), answer in hostile_text()) {
        let template = "{{ messages[0].content | trim }}{{ messages[1].content }}<|end|>{{ messages[1].content | trim }}\
            {% set c = messages[2].content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip() %}{% endif %}\
            {{ c }}{{ messages[2].content.replace('</think>', '').replace('<think>', '') }}{{ messages | tojson }}<|end|>";
        let codec = Codec::new(Tokenizer::from_gguf(small()).unwrap(), Some(template)).unwrap();
        let messages = vec![
            Message::text(Role::System, system),
            Message::text(Role::User, user),
            Message::text(Role::Assistant, answer),
        ];
        let prompt = codec.prompt(&Conversation { messages, ..Conversation::default() }).unwrap();
        prop_assert_eq!(prompt.ids.iter().filter(|&&id| id == 4).count(), 2, "{}", prompt.text);
    }

    #[test]
    fn streamed_text_is_the_whole_text(ids in prop::collection::vec(0u32..260, 0..40)) {
        // One token a byte, so that most sequences are not UTF-8.
        let alphabet: Vec<String> = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")).collect();
        let vocab = GgufVocab { model: "llama".into(), scores: vec![0.0; 256], tokens: alphabet, ..GgufVocab::default() };
        let codec = Codec::new(Tokenizer::from_gguf(vocab).unwrap(), None).unwrap();
        // Favour bytes of long characters.
        let ids: Vec<u32> = ids.into_iter().map(|id| if id % 3 == 0 { id } else { 0x80 + id % 0x80 }).collect();
        let mut decoder = codec.stream_decoder();
        let mut streamed: String = ids.iter().map(|&id| decoder.push(id)).collect();
        streamed.push_str(&decoder.finish());
        prop_assert_eq!(streamed, codec.tokenizer().decode(&ids, true));
    }
}
