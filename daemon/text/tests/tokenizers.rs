//! Real vocabularies against the ids of the reference implementation, from `tokenizer.json` and from GGUF.
#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

mod support;

use std::collections::BTreeSet;

use support::{Case, cases, tokenizer};
use text::{Codec, GgufVocab, Special, Tokenizer};

/// Every string: ids with special tokens recognised and as plain text, and the way back, whole and token by token.
fn check(name: &str, tokenizer: Tokenizer) {
    let codec = Codec::new(tokenizer, None).unwrap();
    for case in cases(name) {
        check_encode(name, codec.tokenizer(), &case);
        check_decode(name, &codec, &case);
    }
}

fn check_encode(name: &str, tokenizer: &Tokenizer, case: &Case) {
    let Case { text, ids, .. } = case;
    assert_eq!(&tokenizer.encode(text, Special::Recognise).unwrap(), ids, "{name}: {text:?}");
    let plain = case.ids_without_added_tokens.as_ref().unwrap_or(ids);
    assert_eq!(&tokenizer.encode(text, Special::Plain).unwrap(), plain, "{name}: plain {text:?}");
}

fn check_decode(name: &str, codec: &Codec, case: &Case) {
    let tokenizer = codec.tokenizer();
    let decoded = tokenizer.decode(&case.ids, false);
    assert_eq!(decoded == case.text, case.decoded_equals_text, "{name}: {:?} -> {decoded:?}", case.text);
    let mut decoder = codec.stream_decoder();
    let mut streamed: String = case.ids.iter().map(|&id| decoder.push(id)).collect();
    streamed.push_str(&decoder.finish());
    assert_eq!(streamed, tokenizer.decode(&case.ids, true), "{name}: streamed {:?}", case.text);
}

#[test]
fn deepseek_r1_agrees_with_the_reference() {
    let tokenizer = tokenizer("deepseek-r1");
    assert_eq!(tokenizer.n_vocab(), 128_815);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()), (Some(0), Some(1), false));
    assert_eq!(tokenizer.id_of("<think>"), Some(128_798));
    check("deepseek-r1", tokenizer);
}

/// The vocabulary has every word of the reference as one token, so that the ids show where text was cut.
#[test]
fn kimi_k2_cuts_text_as_tiktoken_does() {
    let cases = support::pieces("kimi-k2");
    let words: BTreeSet<&str> = cases.iter().flat_map(|case| &case.pieces).map(String::as_str).collect();
    let tokens: Vec<String> = words.iter().map(|word| support::byte_level(word)).collect();
    let vocab =
        GgufVocab { model: "gpt2".into(), pre: Some("kimi-k2".into()), tokens, ..GgufVocab::default() };
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    for case in &cases {
        let ids = tokenizer.encode(&case.text, Special::Plain).unwrap();
        let got: Vec<_> = ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id))).collect();
        assert_eq!(got, case.pieces, "{:?}", case.text);
    }
}

#[test]
fn deepseek_v3_agrees_with_the_reference() {
    let tokenizer = tokenizer("deepseek-v3");
    assert!(tokenizer.add_bos());
    check("deepseek-v3", tokenizer);
}

#[test]
fn qwen2_agrees_with_the_reference() {
    let tokenizer = tokenizer("qwen2");
    assert_eq!(tokenizer.eos_ids().iter().copied().collect::<Vec<_>>(), [151_643, 151_645]);
    check("qwen2", tokenizer);
}

#[test]
fn r1_distill_qwen_from_gguf_agrees_with_the_reference() {
    let tokenizer = tokenizer("r1-distill-qwen");
    assert_eq!((tokenizer.n_vocab(), tokenizer.bos()), (152_064, Some(151_646)));
    assert_eq!(tokenizer.eos_ids().iter().copied().collect::<Vec<_>>(), [151_643]);
    check("r1-distill-qwen", tokenizer);
}

#[test]
fn r1_distill_llama_from_gguf_agrees_with_the_reference() {
    check("r1-distill-llama", tokenizer("r1-distill-llama"));
}

#[test]
fn smollm2_from_gguf_agrees_with_the_reference() {
    let tokenizer = tokenizer("smollm2");
    assert_eq!(tokenizer.eos_ids().iter().copied().collect::<Vec<_>>(), [0, 2]);
    assert!(!tokenizer.add_bos());
    check("smollm2", tokenizer);
}
