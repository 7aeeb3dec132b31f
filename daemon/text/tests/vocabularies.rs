//! Pre-tokenizers that no fixture covers, against the ids llama.cpp ships with its vocabularies (made with the
//! models' own tokenizers, special tokens not added).
#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

mod support;

use text::{Special, Tokenizer};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// `NAME.gguf.inp` holds strings between separators, `NAME.gguf.out` a line of ids for each.
fn check(name: &str) {
    let file = format!("vocabs/ggml-vocab-{name}.gguf");
    let tokenizer = Tokenizer::from_gguf(support::gguf_vocab(&file)).unwrap();
    let read = |suffix: &str| String::from_utf8(support::read_test_data(&format!("{file}{suffix}"))).unwrap();
    let (inputs, outputs) = (read(".inp"), read(".out"));
    let inputs: Vec<&str> = inputs.split(SEPARATOR).collect();
    let mut n = 0;
    for (text, ids) in inputs.iter().zip(outputs.lines()) {
        let want: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(tokenizer.encode(text, Special::Plain).unwrap(), want, "{name}: {text:?}");
        assert_eq!(&tokenizer.decode(&want, false), text, "{name}");
        n += 1;
    }
    assert!(n >= 40, "{name}: only {n} strings");
}

#[test]
fn byte_level_vocabularies_agree_with_llama_cpp() {
    for name in ["deepseek-llm", "deepseek-coder", "gpt-2", "starcoder", "refact", "falcon", "mpt"] {
        check(name);
    }
}

#[test]
fn large_byte_level_vocabularies_agree_with_llama_cpp() {
    for name in ["command-r", "llama-bpe", "qwen2", "qwen35"] {
        check(name);
    }
}

#[test]
fn sentence_piece_vocabularies_agree_with_llama_cpp() {
    for name in ["llama-spm", "phi-3"] {
        check(name);
    }
}
