//! Keeps users from forging special tokens.
//!
//! A chat template joins the model's structure (`<|im_start|>`) and people's words into one text, in which nobody can
//! tell the two apart again. So before rendering, a sentinel (a Unicode noncharacter that the conversation does not use)
//! is put inside every marker spelled by the conversation: `<`·`|im_end|>`. In the rendered text only the template's own
//! markers are whole. The sentinel is taken out before text becomes tokens, so that what the user wrote is tokenized
//! as if it were any other text.
//!
//! ```text
//! content   "a<|im_end|>b"         ──►  "a<·|im_end|>b"
//! rendered  "<|im_start|>user\na<·|im_end|>b<|im_end|>"
//! ids       [im_start] user \n  a  <  |  im  _  end  |>  b  [im_end]
//! ```
//!
//! Two strings, or a string and the template's own text, could also meet and spell a marker together. So the beginning of
//! a marker at the end of a string, and the end of one at its beginning, are broken as well; the white space around a
//! string does not count, because templates trim it. (Even so a template keeps the right to build markers on purpose:
//! `'<|' + message['role'] + '|>'`.)
//!
//! One exception: `<think>` and `</think>` in the assistant's own messages stay whole. Templates look for them to
//! drop old thoughts, and a model continues its own history best as it wrote it.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use serde_json::Value;

use crate::added::AddedTokens;
use crate::think::{THINK_CLOSE, THINK_OPEN};
use crate::{Conversation, Error, Message, Role};

/// Noncharacters: valid in a string, never assigned, not used for interchange. One is enough; there are 32 so that a
/// text that holds one (this file) can still be sent.
const SENTINELS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// The spellings of markers, prepared for breaking them.
#[derive(Clone, Debug)]
pub(crate) struct Shield {
    markers: Vec<String>,
    matcher: AhoCorasick,
    first: HashSet<char>,
    last: HashSet<char>,
    longest_chars: usize,
}

/// A conversation in which no string spells a marker.
pub(crate) struct Shielded {
    pub(crate) conversation: Conversation,
    pub(crate) sentinel: char,
}

impl Shield {
    pub(crate) fn new(added: &AddedTokens) -> Result<Self, Error> {
        let markers = added.iter().filter(|token| token.is_marker()).map(|token| token.content.clone());
        let think = [THINK_OPEN, THINK_CLOSE].map(str::to_owned);
        let markers: Vec<String> = markers.chain(think).collect();
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&markers)
            .map_err(|e| Error::vocabulary(format!("added tokens: {e}")))?;
        Ok(Self {
            matcher,
            first: markers.iter().filter_map(|marker| marker.chars().next()).collect(),
            last: markers.iter().filter_map(|marker| marker.chars().next_back()).collect(),
            longest_chars: markers.iter().map(|marker| marker.chars().count()).max().unwrap_or(0),
            markers,
        })
    }

    /// # Errors
    /// The conversation uses every sentinel there is.
    pub(crate) fn shield(&self, conversation: &Conversation) -> Result<Shielded, Error> {
        let sentinel = free_sentinel(conversation)?;
        let mut conversation = conversation.clone();
        for message in &mut conversation.messages {
            self.shield_message(message, sentinel);
        }
        conversation.tools.iter_mut().for_each(|tool| self.shield_value(tool, sentinel));
        conversation.extra.values_mut().for_each(|value| self.shield_value(value, sentinel));
        Ok(Shielded { conversation, sentinel })
    }

    fn shield_message(&self, message: &mut Message, sentinel: char) {
        if let Some(content) = &mut message.content {
            *content = match message.role {
                Role::Assistant => self.break_around_thoughts(content, sentinel),
                _ => self.break_markers(content, sentinel),
            };
        }
        let calls = message.tool_calls.iter_mut();
        let calls =
            calls.flat_map(|call| call.id.iter_mut().chain([&mut call.kind, &mut call.function.name]));
        let names = [&mut message.reasoning_content, &mut message.tool_call_id, &mut message.name];
        for text in names.into_iter().flatten().chain(calls) {
            *text = self.break_markers(text, sentinel);
        }
        for call in &mut message.tool_calls {
            self.shield_value(&mut call.function.arguments, sentinel);
        }
    }

    fn shield_value(&self, value: &mut Value, sentinel: char) {
        match value {
            Value::String(text) => *text = self.break_markers(text, sentinel),
            Value::Array(items) => items.iter_mut().for_each(|item| self.shield_value(item, sentinel)),
            Value::Object(fields) => {
                let shielded = std::mem::take(fields).into_iter().map(|(key, mut value)| {
                    self.shield_value(&mut value, sentinel);
                    (self.break_markers(&key, sentinel), value)
                });
                *fields = shielded.collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Breaks every marker but the think markers.
    fn break_around_thoughts(&self, text: &str, sentinel: char) -> String {
        let mut broken = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, marker)) = next_think_marker(rest) {
            broken.push_str(&self.break_markers(&rest[..at], sentinel));
            broken.push_str(marker);
            rest = &rest[at + marker.len()..];
        }
        broken.push_str(&self.break_markers(rest, sentinel));
        broken
    }

    /// The text with a sentinel inside everything that is a marker or could become one at the text's ends.
    fn break_markers(&self, text: &str, sentinel: char) -> String {
        let cuts = self.cuts(text);
        let mut broken = String::with_capacity(text.len() + cuts.len() * sentinel.len_utf8());
        let mut done = 0;
        for cut in cuts {
            broken.push_str(&text[done..cut]);
            broken.push(sentinel);
            done = cut;
        }
        broken.push_str(&text[done..]);
        broken
    }

    /// Byte offsets to break at, ascending.
    fn cuts(&self, text: &str) -> Vec<usize> {
        let mut cuts = self.cuts_in_markers(text);
        let trimmed = text.trim();
        let begin = text.len() - text.trim_start().len();
        cuts.extend(
            self.cuts_of_unbegun(trimmed)
                .into_iter()
                .chain(self.cuts_of_unfinished(trimmed))
                .map(|at| begin + at),
        );
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// After the first character of every marker, those that overlap included.
    fn cuts_in_markers(&self, text: &str) -> Vec<usize> {
        let mut cuts = Vec::new();
        let mut from = 0;
        while let Some(found) = self.matcher.find(Input::new(text).range(from..)) {
            from = found.start() + text[found.range()].chars().next().map_or(1, char::len_utf8);
            cuts.push(from);
        }
        cuts
    }

    /// Cuts in every end of the text that a marker begins with.
    fn cuts_of_unfinished(&self, text: &str) -> Vec<usize> {
        let tail = text.char_indices().rev().take(self.longest_chars).filter(|(_, c)| self.first.contains(c));
        let is_open = |rest: &str| self.markers.iter().any(|m| m.len() > rest.len() && m.starts_with(rest));
        tail.filter(|&(at, _)| is_open(&text[at..])).map(|(at, first)| at + first.len_utf8()).collect()
    }

    /// Cuts in every beginning of the text that a marker ends with.
    fn cuts_of_unbegun(&self, text: &str) -> Vec<usize> {
        let head = text.char_indices().take(self.longest_chars).filter(|(_, c)| self.last.contains(c));
        let is_open = |part: &str| self.markers.iter().any(|m| m.len() > part.len() && m.ends_with(part));
        head.filter(|&(at, last)| is_open(&text[..at + last.len_utf8()])).map(|(at, _)| at).collect()
    }
}

fn next_think_marker(text: &str) -> Option<(usize, &'static str)> {
    let markers = [THINK_OPEN, THINK_CLOSE].into_iter();
    markers.filter_map(|marker| Some((text.find(marker)?, marker))).min()
}

/// A sentinel that no string of the conversation holds.
fn free_sentinel(conversation: &Conversation) -> Result<char, Error> {
    let mut used = HashSet::new();
    let mut note = |text: &str| used.extend(text.chars().filter(|c| SENTINELS.contains(c)));
    for message in &conversation.messages {
        let texts = [&message.content, &message.reasoning_content, &message.tool_call_id, &message.name];
        texts.into_iter().flatten().for_each(|text| note(text));
        for call in &message.tool_calls {
            call.id.iter().chain([&call.kind, &call.function.name]).for_each(|text| note(text));
            each_string(&call.function.arguments, &mut note);
        }
    }
    conversation
        .tools
        .iter()
        .chain(conversation.extra.values())
        .for_each(|value| each_string(value, &mut note));
    SENTINELS.into_iter().find(|c| !used.contains(c)).ok_or(Error::NoSentinel)
}

fn each_string(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each_string(item, visit)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            visit(key);
            each_string(value, visit);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::added::AddedToken;

    const DOT: char = '\u{fdd0}';

    fn shield() -> Shield {
        let token = |(id, content): (u32, &str)| AddedToken {
            id,
            content: content.to_owned(),
            special: true,
            lstrip: false,
            rstrip: false,
            single_word: false,
        };
        let tokens = (0..).zip(["<|im_end|>", "<|im_start|>", "[INST]", "ø"]).map(token);
        Shield::new(&AddedTokens::new(tokens.collect()).unwrap()).unwrap()
    }

    fn check(text: &str, want: &str) {
        assert_eq!(shield().break_markers(text, DOT), want.replace('·', &DOT.to_string()), "{text:?}");
    }

    #[test]
    fn every_marker_is_broken_once() {
        check("a<|im_end|><|im_end|>[INST] b", "a<·|im_end|><·|im_end|>[·INST] b");
        check("</think> a", "<·/think> a");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", " ", "1 < 2", "a <div> b", "[x](y) z", "søster ø", "思考", "<|im_en d|> x"] {
            check(text, text);
        }
    }

    #[test]
    fn ends_that_a_neighbour_could_complete_are_broken() {
        check("a <", "a <·");
        check("a <|im_ \n", "a <·|im_ \n");
        check("> quote", "·> quote");
        check(" end|> b", " end|·> b");
        check("<", "·<·".strip_prefix('·').unwrap());
    }

    #[test]
    fn the_assistant_keeps_its_think_markers_and_nothing_else() {
        let broken = shield().break_around_thoughts("<think>a</think><|im_</think>end|>", DOT);
        assert_eq!(broken.replace(DOT, "·"), "<think>a</think><·|im_</think>end|·>");
    }

    #[test]
    fn a_sentinel_in_the_conversation_is_not_used() {
        let text = ('\u{fdd0}'..='\u{fdd4}').collect::<String>();
        let mut conversation =
            Conversation { messages: vec![Message::text(Role::User, text)], ..Conversation::default() };
        assert_eq!(free_sentinel(&conversation).unwrap(), '\u{fdd5}');
        conversation.messages[0].content = Some(SENTINELS.collect());
        assert!(matches!(free_sentinel(&conversation), Err(Error::NoSentinel)));
    }
}
