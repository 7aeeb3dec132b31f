//! A vocabulary, as tokenizer.json or in a GGUF file's metadata: whatever is accepted must take any text and give it
//! back, at once and token by token.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use text::{GgufVocab, Special, StreamDecoder, Tokenizer};
use weights::GgufTokenizer;
use weights::gguf::Header;

const TEXT: &str = "Hi <|im_end|> 12345 don't\r\n\n 你好 e\u{301} 👩‍🚀 </think>\t x";

fuzz_target!(|bytes: &[u8]| {
    let tokenizer = match bytes.starts_with(b"GGUF") {
        true => from_gguf(bytes),
        false => Tokenizer::from_json(bytes, None).ok(),
    };
    let Some(tokenizer) = tokenizer.map(Arc::new) else { return };
    for special in [Special::Plain, Special::Recognise] {
        let Ok(ids) = tokenizer.encode(TEXT, special) else { continue };
        let mut decoder = StreamDecoder::new(Arc::clone(&tokenizer));
        let mut streamed: String = ids.iter().map(|&id| decoder.push(id)).collect();
        streamed.push_str(&decoder.finish());
        assert_eq!(streamed, tokenizer.decode(&ids, true));
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
    }
});

fn from_gguf(bytes: &[u8]) -> Option<Tokenizer> {
    let header = Header::parse(bytes).ok()?;
    let GgufTokenizer { model, pre, tokens, token_types, merges, scores, bos, eos, eot, eom, unk, .. } =
        GgufTokenizer::from_metadata(&header.metadata).ok()??;
    let vocab = GgufVocab {
        model,
        pre,
        tokens,
        token_types,
        merges,
        scores,
        bos,
        eos,
        eot,
        eom,
        unk,
        ..GgufVocab::default()
    };
    Tokenizer::from_gguf(vocab).ok()
}
