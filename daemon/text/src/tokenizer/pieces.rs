//! The bytes behind each token id: all that decoding needs.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::think::{THINK_CLOSE, THINK_OPEN};

/// How a vocabulary spells bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// GPT-2's: every byte is one printable character (`Ġ` is the space).
    ByteLevel,
    /// SentencePiece's: `▁` is the space and `<0xE4>` a byte; `prefix` if encoding puts a space before the text.
    SentencePiece { prefix: bool },
}

/// Bytes of every token, in one allocation.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    spelling: Spelling,
    blob: Vec<u8>,
    /// `[n_vocab]` end of each token's bytes in `blob`.
    ends: Vec<u32>,
    /// `[n_vocab]`
    special: Vec<bool>,
}

impl Pieces {
    /// `tokens[id]` is the vocabulary's spelling and whether the token is special; `None` where ids have a hole.
    pub(super) fn new(spelling: Spelling, tokens: &[Option<(&str, bool)>]) -> Self {
        let mut pieces = Self {
            spelling,
            blob: Vec::new(),
            ends: Vec::with_capacity(tokens.len()),
            special: Vec::with_capacity(tokens.len()),
        };
        for token in tokens {
            let (text, special) = token.unwrap_or_default();
            spelling.spell(text, &mut pieces.blob);
            pieces.ends.push(u32::try_from(pieces.blob.len()).unwrap_or(u32::MAX));
            pieces.special.push(special && text != THINK_OPEN && text != THINK_CLOSE);
        }
        pieces
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        self.blob.get(start as usize..end as usize).unwrap_or_default()
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    pub(super) fn prefix(&self) -> &'static str {
        match self.spelling {
            Spelling::SentencePiece { prefix: true } => " ",
            _ => "",
        }
    }
}

impl Spelling {
    fn spell(self, token: &str, out: &mut Vec<u8>) {
        match self {
            Self::ByteLevel => spell_byte_level(token, out),
            Self::SentencePiece { .. } => match byte_token(token) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(token.replace('▁', " ").as_bytes()),
            },
        }
    }
}

/// A token with a character outside the byte alphabet is not spelled in it at all: an added token, taken as it is.
fn spell_byte_level(token: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in token.chars() {
        match BYTE_OF.get(&c) {
            Some(&byte) => out.push(byte),
            None => {
                out.truncate(start);
                out.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// `<0x0A>` is the byte 10.
fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up, in order.
///
/// Source: `bytes_to_unicode` of OpenAI's GPT-2 encoder.
static BYTE_OF: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let (shown, hidden): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(printable);
    let shown = shown.into_iter().map(|byte| (char::from(byte), byte));
    let hidden = ('\u{100}'..).zip(hidden);
    shown.chain(hidden).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_covers_every_byte_once() {
        let mut bytes: Vec<u8> = BYTE_OF.values().copied().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!((BYTE_OF[&'Ġ'], BYTE_OF[&'Ċ'], BYTE_OF[&'a']), (b' ', b'\n', b'a'));
    }

    #[test]
    fn tokens_outside_the_alphabet_are_taken_as_they_are() {
        let tokens = [Some(("Ġa", false)), None, Some(("<｜User｜>", true)), Some((THINK_OPEN, true))];
        let pieces = Pieces::new(Spelling::ByteLevel, &tokens);
        assert_eq!(pieces.bytes(0), b" a");
        assert_eq!(pieces.bytes(1), b"");
        assert_eq!(pieces.bytes(2), "<｜User｜>".as_bytes());
        assert_eq!(pieces.bytes(u32::MAX), b"");
        assert_eq!([0, 1, 2, 3, 4].map(|id| pieces.is_special(id)), [false, false, true, false, false]);
    }

    #[test]
    fn sentence_piece_spells_spaces_and_bytes() {
        let tokens = [Some(("▁a", false)), Some(("<0xE4>", false)), Some(("<0xZZ>", false))];
        let pieces = Pieces::new(Spelling::SentencePiece { prefix: true }, &tokens);
        assert_eq!([pieces.bytes(0), pieces.bytes(1), pieces.bytes(2)], [&b" a"[..], &[0xe4], b"<0xZZ>"]);
    }
}
