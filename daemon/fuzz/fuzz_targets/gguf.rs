//! A GGUF file: header, tensor table, tokenizer, hyperparameters. What was read of a tokenizer must survive being
//! written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weights::GgufTokenizer;
use weights::gguf::{Header, TensorFacts, hyperparameters};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes) else { return };
    let _ = header.check_data(bytes.len() as u64);
    let _ = hyperparameters(
        &header.metadata,
        TensorFacts { n_vocab: Some(512), has_output: true, has_router_bias: true },
    );
    if let Ok(Some(tokenizer)) = GgufTokenizer::from_metadata(&header.metadata) {
        let again = Header::parse(&tokenizer.to_gguf()).expect("our own file");
        let again =
            GgufTokenizer::from_metadata(&again.metadata).expect("our own tokenizer").expect("there is one");
        assert_eq!(again.tokens, tokenizer.tokens);
        assert_eq!(again.merges, tokenizer.merges);
        assert_eq!(again.token_types, tokenizer.token_types);
    }
});
