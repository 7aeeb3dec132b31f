//! Builds the `tokenizers` crate's BPE model from checked parts.

use tokenizers::models::bpe::{BPE, Vocab};

use super::MAX_VOCAB;
use crate::Error;

/// What `tokenizer.json` calls them; all off for byte-level vocabularies but Llama 3's `ignore_merges`.
#[derive(Clone, Debug, Default)]
pub(super) struct BpeOptions {
    /// A word that is a token as a whole is that token, whatever the merges would make of it.
    pub(super) ignore_merges: bool,
    /// Characters outside the vocabulary become `<0x..>` tokens.
    pub(super) byte_fallback: bool,
    /// Neighbouring unknown characters become one unknown token.
    pub(super) fuse_unk: bool,
    /// Spelling of the unknown token.
    pub(super) unk_token: Option<String>,
}

/// Checks the parts, then builds the model: the builder itself trusts them and panics on some that are wrong.
pub(super) fn build(vocab: Vocab, merges: Vec<(String, String)>, options: BpeOptions) -> Result<BPE, Error> {
    if let Some((token, id)) = vocab.iter().find(|(_, id)| **id as usize >= MAX_VOCAB) {
        return Err(Error::vocabulary(format!("token {token:?} has id {id}; the limit is {MAX_VOCAB}")));
    }
    let mut merged = String::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        merged.clear();
        merged.push_str(left);
        merged.push_str(right);
        if let Some(missing) = [left, right, &merged].into_iter().find(|part| !vocab.contains_key(*part)) {
            let detail = format!("merge {rank} ({left:?} {right:?}) needs {missing:?}, which is not a token");
            return Err(Error::vocabulary(detail));
        }
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(options.ignore_merges)
        .byte_fallback(options.byte_fallback)
        .fuse_unk(options.fuse_unk);
    if let Some(unk) = options.unk_token {
        builder = builder.unk_token(unk);
    }
    builder.build().map_err(|e| Error::vocabulary(e.to_string()))
}
