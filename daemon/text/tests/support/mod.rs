//! Vocabularies, templates and expected values for the tests.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

mod gguf;

use std::path::PathBuf;

use serde::Deserialize;
use text::{Codec, Conversation, GgufVocab, Tokenizer};

/// One string of `NAME.cases.json`.
#[derive(Deserialize)]
pub struct Case {
    pub text: String,
    pub ids: Vec<u32>,
    pub ids_without_added_tokens: Option<Vec<u32>>,
    pub decoded_equals_text: bool,
    #[serde(default)]
    pub not_nfc: bool,
}

/// One conversation of `chat_templates.json`.
#[derive(Deserialize)]
pub struct Chat {
    pub tokenizer: String,
    pub template: String,
    pub name: String,
    #[serde(flatten)]
    pub conversation: Conversation,
    pub text: Option<String>,
    pub ids: Option<Vec<u32>>,
    pub error: Option<String>,
}

pub fn cases(name: &str) -> Vec<Case> {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Case>,
    }
    let file: File = serde_json::from_slice(&fixture(&format!("{name}.cases.json"))).unwrap();
    assert_eq!(file.cases.len(), 215);
    file.cases
}

/// One string of `NAME.pieces.json`.
#[derive(Deserialize)]
pub struct Pieces {
    pub text: String,
    pub pieces: Vec<String>,
}

pub fn pieces(name: &str) -> Vec<Pieces> {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Pieces>,
    }
    let file: File = serde_json::from_slice(&fixture(&format!("{name}.pieces.json"))).unwrap();
    assert_eq!(file.cases.len(), 228);
    file.cases
}

/// A word as byte-level vocabularies spell it: printable Latin-1 for itself, the other bytes from U+0100.
pub fn byte_level(word: &str) -> String {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let spell = |byte: u8| match is_printable(byte) {
        true => char::from(byte),
        false => {
            let rank = (0..byte).filter(|&other| !is_printable(other)).count();
            char::from_u32(0x100 + rank as u32).unwrap()
        }
    };
    word.bytes().map(spell).collect()
}

pub fn chats() -> Vec<Chat> {
    #[derive(Deserialize)]
    struct File {
        chats: Vec<Chat>,
    }
    let file: File = serde_json::from_slice(&fixture("chat_templates.json")).unwrap();
    assert_eq!(file.chats.len(), 104);
    file.chats
}

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/tokenizers")).join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Third-party text, which is fetched and not committed.
pub fn test_data(name: &str) -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/test-data"));
    let path = std::env::var_os("WELS_TEST_DATA").map_or_else(default, PathBuf::from).join(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask fetch`", path.display());
    path
}

pub fn read_test_data(name: &str) -> Vec<u8> {
    std::fs::read(test_data(name)).unwrap()
}

pub fn gguf_vocab(name: &str) -> GgufVocab {
    gguf::read_vocab(&test_data(name))
}

/// The tokenizers of the fixtures, from the files their README names.
pub fn tokenizer(name: &str) -> Tokenizer {
    match name {
        "smollm2" => Tokenizer::from_gguf(gguf_vocab("smollm2.gguf")),
        "r1-distill-qwen" => Tokenizer::from_gguf(gguf_vocab("r1-distill-qwen-7b.header.gguf")),
        "r1-distill-llama" => Tokenizer::from_gguf(r1_distill_llama()),
        _ => {
            let json = read_test_data(&format!("{name}/tokenizer.json"));
            let config = read_test_data(&format!("{name}/tokenizer_config.json"));
            Tokenizer::from_json(&json, Some(&config))
        }
    }
    .unwrap()
}

/// Llama 3's vocabulary with R1's special tokens in the places the fixtures put them.
fn r1_distill_llama() -> GgufVocab {
    let mut vocab = gguf_vocab("llama-3-vocab.gguf");
    let specials = [
        (128_000, "<｜begin▁of▁sentence｜>"),
        (128_001, "<｜end▁of▁sentence｜>"),
        (128_011, "<｜User｜>"),
        (128_012, "<｜Assistant｜>"),
        (128_013, "<think>"),
        (128_014, "</think>"),
        (128_015, "<｜▁pad▁｜>"),
    ];
    for (id, token) in specials {
        vocab.tokens[id] = token.to_owned();
    }
    vocab
}

/// A template of the fixtures, from the file their README names.
pub fn template(name: &str) -> String {
    let config = |tokenizer: &str| tokenizer_from_json(tokenizer).chat_template().unwrap().to_owned();
    match name {
        "r1" => config("deepseek-r1"),
        // As published later: the same template, opening the thought for the model.
        "r1-think" => {
            config("deepseek-r1").replace("{{'<｜Assistant｜>'}}", "{{'<｜Assistant｜><think>\\n'}}")
        }
        "v3" => config("deepseek-v3"),
        "smollm2" => gguf_vocab("smollm2.gguf").chat_template.unwrap(),
        "r1-distill-qwen" => gguf_vocab("r1-distill-qwen-7b.header.gguf").chat_template.unwrap(),
        _ => String::from_utf8(read_test_data(&format!("templates/{name}.jinja"))).unwrap(),
    }
}

/// Only the configuration matters here, so the vocabulary is empty.
fn tokenizer_from_json(name: &str) -> Tokenizer {
    let config = read_test_data(&format!("{name}/tokenizer_config.json"));
    let empty = br#"{"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{},"merges":[]}}"#;
    Tokenizer::from_json(empty, Some(&config)).unwrap()
}

pub fn codec(tokenizer_name: &str, template_name: &str) -> Codec {
    Codec::new(tokenizer(tokenizer_name), Some(&template(template_name))).unwrap()
}
