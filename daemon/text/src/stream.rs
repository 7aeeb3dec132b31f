//! Decoding token by token.

use std::sync::Arc;

use crate::Tokenizer;

/// Turns ids into text as they come, holding back bytes until they make whole characters.
///
/// All pushes and [`Self::finish`] together give exactly `decode(ids, true)`. A push costs the length of its token.
///
/// ```text
/// ids    "Hi", F0 9F, 98 80, "!"
/// pushes "Hi", "",    "😀",  "!"
/// ```
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    /// The beginning of a character whose rest has not come: at most 3 bytes between pushes.
    pending: Vec<u8>,
    /// Whether the vocabulary's own space before the text may still come.
    at_start: bool,
}

impl StreamDecoder {
    /// A decoder at the beginning of an answer. Special tokens are left out.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: Vec::new(), at_start: true }
    }

    /// The text that becomes certain with this token; often empty inside a character.
    pub fn push(&mut self, id: u32) -> String {
        if !self.tokenizer.is_special(id) {
            self.pending.extend_from_slice(self.tokenizer.token_bytes(id));
        }
        let mut text = String::new();
        let mut kept = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            kept += chunk.valid().len();
            if is_beginning(chunk.invalid()) && kept + chunk.invalid().len() == self.pending.len() {
                break;
            }
            kept += chunk.invalid().len();
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..kept);
        self.without_prefix(text)
    }

    /// The end: a character left unfinished becomes U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    fn without_prefix(&mut self, text: String) -> String {
        if text.is_empty() || !std::mem::take(&mut self.at_start) {
            return text;
        }
        match text.strip_prefix(self.tokenizer.prefix()) {
            Some(rest) => rest.to_owned(),
            None => text,
        }
    }
}

/// Whether more bytes could make this a character.
fn is_beginning(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}
