//! Splits what a reasoning model writes into its thoughts and its answer, as it streams.

/// Opens a thought.
pub const THINK_OPEN: &str = "<think>";
/// Closes a thought.
pub const THINK_CLOSE: &str = "</think>";

/// White space held back at the seams at most; more than that is text.
const MAX_HELD_BYTES: usize = 256;

/// A piece of output. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Part of the thoughts.
    Reasoning(String),
    /// Part of the answer.
    Content(String),
    /// All content so far was a thought: the model closed one that nobody had opened.
    WasThought,
}

/// Follows the text of one answer.
///
/// ```text
///             no marker                         marker missing to the end
/// Undecided ────────────► Content    Reasoning ──────────────────────────► all of it is reasoning
///     │ <think>              ▲           │  ▲
///     ├──────► Opened ───────┼───────────┼──┘
///     │  prompt opens it ─►  │  </think> │
///     │ a thought is         └── Closed ◄┤
///     │ expected                         │ </think> on a line of its own: WasThought
///     └────────────────────► Unopened ───┘
/// ```
///
/// A thought is only recognised at the beginning of the answer, so that an answer may write about `<think>`. Line breaks
/// next to the markers belong to neither side, as in DeepSeek's API; other white space is kept.
///
/// R1 sometimes thinks without saying `<think>` and closes the thought all the same. Where a thought is expected
/// ([`Self::expecting`]), such a closer is recognised if it begins a line and is the first one.
#[derive(Clone, Debug)]
pub struct ThinkSplitter {
    state: State,
    /// Text that could still become a marker, or line breaks that a marker would swallow.
    held: String,
    /// The model is one that thinks, and nothing says yet that it doesn't this time.
    expects: bool,
    /// Some content has been passed on.
    has_content: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Undecided,
    /// The prompt opened the thought; a model that opens it once more is forgiven.
    OpenedByPrompt,
    /// In a thought, before its first line.
    Opened,
    /// In a thought.
    Reasoning,
    /// In what looks like the answer of a model that thinks, but has opened no thought.
    Unopened,
    /// After a thought, before the answer's first line.
    Closed,
    /// In the answer.
    Content,
}

impl ThinkSplitter {
    /// `opens_thought`: whether the prompt ends inside a thought ([`crate::Prompt::opens_thought`]).
    pub fn new(opens_thought: bool) -> Self {
        let state = if opens_thought { State::OpenedByPrompt } else { State::Undecided };
        Self { state, held: String::new(), expects: false, has_content: false }
    }

    /// Whether the answer may be a thought that nobody opened ([`crate::Prompt::expects_thought`]).
    pub fn expecting(self, expects: bool) -> Self {
        Self { expects, ..self }
    }

    /// Whether the model is in its thoughts: grammars and token counts begin and end with them.
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::OpenedByPrompt | State::Opened | State::Reasoning)
    }

    /// What becomes certain with this text.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        self.held.push_str(text);
        let mut deltas = Vec::new();
        while self.step(&mut deltas) {}
        deltas
    }

    /// The end of the answer: what was held back turns out to be text.
    pub fn finish(mut self) -> Vec<Delta> {
        let held = std::mem::take(&mut self.held);
        let is_reasoning = self.is_thinking();
        delta(is_reasoning, held).into_iter().collect()
    }

    /// One move of the state machine; false when it needs more text.
    fn step(&mut self, deltas: &mut Vec<Delta>) -> bool {
        match self.state {
            State::Undecided | State::OpenedByPrompt => self.decide(),
            State::Opened => self.skip_line_breaks(State::Reasoning),
            State::Reasoning => self.reason(deltas),
            State::Unopened => self.answer_unless_closed(deltas),
            State::Closed => self.skip_line_breaks(State::Content),
            State::Content => {
                deltas.extend(delta(false, std::mem::take(&mut self.held)));
                false
            }
        }
    }

    fn decide(&mut self) -> bool {
        let text = self.held.trim_start();
        if let Some(rest) = text.strip_prefix(THINK_OPEN) {
            self.held = rest.to_owned();
            self.state = State::Opened;
            return true;
        }
        if THINK_OPEN.starts_with(text) && self.held.len() <= MAX_HELD_BYTES {
            return false;
        }
        self.state = match self.state {
            State::OpenedByPrompt => State::Opened,
            _ if self.expects => State::Unopened,
            _ => State::Content,
        };
        true
    }

    fn skip_line_breaks(&mut self, next: State) -> bool {
        let breaks = self.held.len() - self.held.trim_start_matches(['\n', '\r']).len();
        self.held.drain(..breaks);
        if self.held.is_empty() {
            return false;
        }
        self.state = next;
        true
    }

    fn reason(&mut self, deltas: &mut Vec<Delta>) -> bool {
        if let Some(at) = self.held.find(THINK_CLOSE) {
            let thought = self.held[..at].trim_end_matches(['\n', '\r']).to_owned();
            deltas.extend(delta(true, thought));
            self.held.drain(..at + THINK_CLOSE.len());
            self.state = State::Closed;
            return true;
        }
        let certain = self.certain();
        deltas.extend(delta(true, self.held.drain(..certain).collect()));
        false
    }

    fn answer_unless_closed(&mut self, deltas: &mut Vec<Delta>) -> bool {
        let Some(at) = self.held.find(THINK_CLOSE) else {
            let certain = self.certain();
            self.has_content |= certain > 0;
            deltas.extend(delta(false, self.held.drain(..certain).collect()));
            return false;
        };
        let before = &self.held[..at];
        if !(before.ends_with('\n') || before.is_empty() && !self.has_content) {
            // An answer that writes about the marker.
            self.state = State::Content;
            return true;
        }
        let thought = before.trim_end_matches(['\n', '\r']).to_owned();
        self.held.drain(..at + THINK_CLOSE.len());
        let was_thought = self.has_content || !thought.is_empty();
        deltas.extend(delta(false, thought));
        deltas.extend(was_thought.then_some(Delta::WasThought));
        self.state = State::Closed;
        true
    }

    /// How much of what is held is no part of a closer, nor of the line breaks in front of one.
    fn certain(&self) -> usize {
        let marker = partial_suffix(&self.held, THINK_CLOSE);
        let certain = self.held[..self.held.len() - marker].trim_end_matches(['\n', '\r']).len();
        // Line breaks and the marker are ASCII: every byte past `certain` is a character boundary.
        certain.max(self.held.len().saturating_sub(MAX_HELD_BYTES))
    }
}

fn delta(is_reasoning: bool, text: String) -> Option<Delta> {
    match (text.is_empty(), is_reasoning) {
        (true, _) => None,
        (false, true) => Some(Delta::Reasoning(text)),
        (false, false) => Some(Delta::Content(text)),
    }
}

/// Length of the longest end of `text` that `marker` begins with (and does not end with).
pub(crate) fn partial_suffix(text: &str, marker: &str) -> usize {
    let longest = text.len().min(marker.len().saturating_sub(1));
    (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&marker.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Thoughts and answer of a text that comes in these pieces.
    fn follow<'a>(
        mut splitter: ThinkSplitter,
        pieces: impl IntoIterator<Item = &'a str>,
    ) -> (String, String) {
        let mut deltas: Vec<Delta> = pieces.into_iter().flat_map(|piece| splitter.push(piece)).collect();
        deltas.extend(splitter.finish());
        let mut both = (String::new(), String::new());
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => both.0.push_str(&text),
                Delta::Content(text) => both.1.push_str(&text),
                Delta::WasThought => both.0 = std::mem::take(&mut both.1),
            }
        }
        both
    }

    fn check(opens: bool, text: &str, reasoning: &str, content: &str) {
        check_with(&ThinkSplitter::new(opens), text, reasoning, content);
    }

    fn check_with(splitter: &ThinkSplitter, text: &str, reasoning: &str, content: &str) {
        let want = (reasoning.to_owned(), content.to_owned());
        let split = |pieces: &[String]| follow(splitter.clone(), pieces.iter().map(String::as_str));
        assert_eq!(split(&[text.to_owned()]), want, "{text:?} at once");
        let mut chars: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(split(&chars), want, "{text:?} by character");
        chars.insert(0, String::new());
        assert_eq!(split(&chars), want, "{text:?} after an empty piece");
    }

    #[test]
    fn a_closer_without_an_opener_ends_a_thought_where_one_is_expected() {
        let check = |text: &str, reasoning: &str, content: &str| {
            check_with(&ThinkSplitter::new(false).expecting(true), text, reasoning, content);
        };
        check("Okay, so\n\nhm.\n</think>\n\n42", "Okay, so\n\nhm.", "42");
        check("</think>\n\n42", "", "42");
        check("\n</think>42", "", "42");
        // An answer that writes about markers keeps them, and so does all of the rest.
        check("Close with </think>:\n</think>\nso", "", "Close with </think>:\n</think>\nso");
        check("a\nb </thin", "", "a\nb </thin");
        check("one\n\n", "", "one\n\n");
        check("<think>\nhm\n</think>\n\n4\n</think>\n2", "hm", "4\n</think>\n2");
    }

    #[test]
    fn a_closer_without_an_opener_is_text_where_none_is_expected() {
        check(false, "hm.\n</think>\n\n42", "", "hm.\n</think>\n\n42");
    }

    #[test]
    fn thoughts_and_answer_come_apart_without_their_line_breaks() {
        check(false, "<think>\nhm\n</think>\n\n42", "hm", "42");
        check(true, "hm\nwell\n\n</think>\n\n42\n", "hm\nwell", "42\n");
    }

    #[test]
    fn a_model_may_open_the_thought_that_the_prompt_opened() {
        check(true, "\n<think>\nhm</think>42", "hm", "42");
    }

    #[test]
    fn a_model_that_never_thinks_is_all_answer() {
        check(
            false,
            "  Use <think> like so: <think>x</think>",
            "",
            "  Use <think> like so: <think>x</think>",
        );
        check(false, "<thin", "", "<thin");
        check(false, "\n \n", "", "\n \n");
    }

    #[test]
    fn an_unclosed_thought_is_all_reasoning() {
        check(true, "hm\n</thin", "hm\n</thin", "");
        check(false, "<think>a < b", "a < b", "");
    }

    #[test]
    fn an_empty_thought_leaves_no_delta() {
        check(false, "<think>\n\n</think>\n\n  42", "", "  42");
        check(true, "</think>42", "", "42");
    }

    #[test]
    fn a_thought_about_markers_ends_at_the_first_closer() {
        check(true, "a <think> b </think> c </think> d", "a <think> b ", " c </think> d");
    }

    #[test]
    fn held_line_breaks_are_bounded() {
        let mut splitter = ThinkSplitter::new(true);
        splitter.push("a");
        for _ in 0..10_000 {
            splitter.push("\n");
        }
        assert!(splitter.held.len() <= MAX_HELD_BYTES);
    }

    #[test]
    fn thinking_is_known_while_it_lasts() {
        let mut splitter = ThinkSplitter::new(false);
        let mut seen = Vec::new();
        for piece in ["<think>", "x", "</think>", "y"] {
            splitter.push(piece);
            seen.push(splitter.is_thinking());
        }
        assert_eq!(seen, [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn how_the_text_is_cut_makes_no_difference(
            parts in prop::collection::vec(
                prop_oneof![Just("<think>"), Just("</think>"), Just("\n"), Just("</"), Just("思"), Just("a ")],
                0..12,
            ),
            cuts in prop::collection::vec(0usize..80, 0..6),
            opens: bool,
            expects: bool,
        ) {
            let text = parts.concat();
            let mut at: Vec<usize> = cuts.into_iter().map(|c| text.floor_char_boundary(c)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&str> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let splitter = ThinkSplitter::new(opens).expecting(expects);
            prop_assert_eq!(follow(splitter.clone(), pieces), follow(splitter, [text.as_str()]));
        }
    }
}
