//! Added tokens: the spellings in a vocabulary that stand for one token whatever surrounds them.
//!
//! Most are *markers* (`<|im_start|>`, `<think>`): the structure of a prompt, never to be written by a user. A few are
//! *vocabulary*: single characters (`ø` in older DeepSeek files) and runs of spaces, which are ordinary text.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use crate::Error;

/// One added token. The flags are those of `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Left out of decoded text on request.
    pub(crate) special: bool,
    /// Swallows white space before it.
    pub(crate) lstrip: bool,
    /// Swallows white space after it.
    pub(crate) rstrip: bool,
    /// Not recognised inside a word.
    pub(crate) single_word: bool,
}

impl AddedToken {
    /// Whether the token is structure rather than text: at least two characters, not only white space.
    pub(crate) fn is_marker(&self) -> bool {
        self.content.chars().nth(1).is_some() && !self.content.trim().is_empty()
    }
}

/// A stretch of a text: one added token, or text to be tokenized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) range: Range<usize>,
    pub(crate) id: Option<u32>,
}

/// All added tokens of a vocabulary, with a matcher over their spellings.
#[derive(Clone, Debug)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    matcher: AhoCorasick,
}

impl AddedTokens {
    /// Empty spellings are dropped; of two tokens with one spelling the later wins, as in `tokenizers`.
    pub(crate) fn new(mut tokens: Vec<AddedToken>) -> Result<Self, Error> {
        tokens.retain(|token| !token.content.is_empty());
        tokens.reverse();
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| &token.content))
            .map_err(|e| Error::vocabulary(format!("added tokens: {e}")))?;
        Ok(Self { tokens, matcher })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    pub(crate) fn id_of(&self, content: &str) -> Option<u32> {
        self.tokens.iter().find(|token| token.content == content).map(|token| token.id)
    }

    /// The first token spelled at or after byte `from` (a character boundary).
    pub(crate) fn find_at(&self, text: &str, from: usize) -> Option<(Range<usize>, &AddedToken)> {
        let found = self.matcher.find(Input::new(text).range(from..))?;
        Some((found.range(), &self.tokens[found.pattern().as_usize()]))
    }

    /// Cuts a text into added tokens and the text between them; with `markers` off only vocabulary is recognised.
    ///
    /// Source: `AddedVocabulary` of the `tokenizers` crate, for the white-space and word rules.
    pub(crate) fn split(&self, text: &str, markers: bool) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut done = 0;
        let mut from = 0;
        while let Some((range, token)) = self.find_at(text, from) {
            if (!markers && token.is_marker()) || (token.single_word && touches_word(text, &range)) {
                from = range.start + text[range].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            let range = widened(text, range, token, done);
            from = range.end;
            if done < range.start {
                spans.push(Span { range: done..range.start, id: None });
            }
            done = range.end;
            spans.push(Span { range, id: Some(token.id) });
        }
        if done < text.len() {
            spans.push(Span { range: done..text.len(), id: None });
        }
        spans
    }
}

fn touches_word(text: &str, range: &Range<usize>) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text[..range.start].ends_with(is_word) || text[range.end..].starts_with(is_word)
}

/// The range with the white space its token swallows, never reaching back before `done`.
fn widened(text: &str, range: Range<usize>, token: &AddedToken, done: usize) -> Range<usize> {
    let mut widened = range.clone();
    if token.lstrip {
        widened.start = done + text[done..range.start].trim_end().len();
    }
    if token.rstrip {
        let after = &text[range.end..];
        widened.end += after.len() - after.trim_start().len();
    }
    widened
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, content: &str) -> AddedToken {
        let content = content.to_owned();
        AddedToken { id, content, special: true, lstrip: false, rstrip: false, single_word: false }
    }

    fn ids(added: &AddedTokens, text: &str) -> Vec<(String, Option<u32>)> {
        added.split(text, true).into_iter().map(|s| (text[s.range].to_owned(), s.id)).collect()
    }

    #[test]
    fn the_longest_spelling_wins() {
        let added = AddedTokens::new(vec![token(1, "<a>"), token(2, "<a><b>")]).unwrap();
        assert_eq!(ids(&added, "x<a><b>"), [("x".into(), None), ("<a><b>".into(), Some(2))]);
    }

    #[test]
    fn white_space_is_swallowed_on_the_sides_asked_for() {
        let strip = AddedToken { lstrip: true, rstrip: true, ..token(1, "<m>") };
        let added = AddedTokens::new(vec![strip]).unwrap();
        let want =
            [("a".into(), None), (" <m> \n".into(), Some(1)), ("<m> ".into(), Some(1)), ("b".into(), None)];
        assert_eq!(ids(&added, "a <m> \n<m> b"), want);
    }

    #[test]
    fn a_single_word_token_is_text_inside_a_word() {
        let word = AddedToken { single_word: true, ..token(1, "cat") };
        let added = AddedTokens::new(vec![word]).unwrap();
        assert_eq!(ids(&added, "cats cat"), [("cats ".into(), None), ("cat".into(), Some(1))]);
    }

    #[test]
    fn single_characters_and_spaces_are_vocabulary_not_markers() {
        assert!(!token(1, "ø").is_marker());
        assert!(!token(1, "    ").is_marker());
        assert!(token(1, "<|x|>").is_marker());
    }
}
