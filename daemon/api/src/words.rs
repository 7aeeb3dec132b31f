//! From tokens to words: UTF-8 pieced together, thoughts split from the answer, stop strings held back.

use engine::Logprobs;
use text::{Delta, StopMatcher, StreamDecoder, ThinkSplitter};

/// A token of the answer with its log probability.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) id: u32,
    pub(crate) logprobs: Logprobs,
}

/// Words that may be shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    /// Of the model's thoughts.
    Reasoning(String),
    /// Of the answer, with the tokens it came from where they were asked for.
    Content(String, Vec<Scored>),
    /// All of the answer so far was the model's thoughts: it closed a thought that nobody had opened.
    WasThought,
}

/// Follows one answer.
#[derive(Debug)]
pub(crate) struct Words {
    decoder: StreamDecoder,
    splitter: ThinkSplitter,
    stops: StopMatcher,
    /// Tokens of the answer whose words are still held back.
    scored: Vec<Scored>,
    has_stopped: bool,
    n_tokens: usize,
    n_reasoning: usize,
}

/// What was held back, and what is known at the end.
#[derive(Debug)]
pub(crate) struct LastWords {
    pub(crate) words: Vec<Word>,
    /// A stop string ended the answer.
    pub(crate) has_stopped: bool,
    /// Tokens of thought, their markers counted.
    pub(crate) n_reasoning: usize,
}

impl Words {
    /// Stop strings are looked for in the answer, not in the thoughts.
    pub(crate) fn new(
        decoder: StreamDecoder,
        splitter: ThinkSplitter,
        stops: Vec<String>,
    ) -> Result<Self, text::Error> {
        Ok(Self {
            decoder,
            splitter,
            stops: StopMatcher::new(stops)?,
            scored: Vec::new(),
            has_stopped: false,
            n_tokens: 0,
            n_reasoning: 0,
        })
    }

    /// Whether a stop string has come: the answer is over.
    pub(crate) fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// The words that become certain with this token.
    pub(crate) fn push(&mut self, id: u32, logprobs: Option<Logprobs>) -> Vec<Word> {
        self.n_tokens += 1;
        self.scored.extend(logprobs.map(|logprobs| Scored { id, logprobs }));
        let was_thinking = self.splitter.is_thinking();
        let text = self.decoder.push(id);
        let deltas = self.splitter.push(&text);
        let is_thinking = self.splitter.is_thinking();
        if was_thinking || is_thinking {
            self.n_reasoning += 1;
            // This token's words are thoughts, or the marker that ends them.
            self.scored.clear();
        }
        if deltas.contains(&Delta::WasThought) {
            self.n_reasoning = self.n_tokens;
        }
        show(deltas, &mut self.stops, &mut self.scored, &mut self.has_stopped)
    }

    /// The end of the answer.
    pub(crate) fn finish(self) -> LastWords {
        let Self { decoder, mut splitter, mut stops, mut scored, mut has_stopped, n_reasoning, .. } = self;
        let mut deltas = splitter.push(&decoder.finish());
        deltas.extend(splitter.finish());
        let mut words = show(deltas, &mut stops, &mut scored, &mut has_stopped);
        if !has_stopped {
            let held = stops.finish();
            words.extend((!held.is_empty()).then_some(Word::Content(held, scored)));
        }
        LastWords { words, has_stopped, n_reasoning }
    }
}

/// Looks for stop strings in the answer's part.
fn show(
    deltas: Vec<Delta>,
    stops: &mut StopMatcher,
    scored: &mut Vec<Scored>,
    has_stopped: &mut bool,
) -> Vec<Word> {
    let mut words = Vec::new();
    for delta in deltas {
        match delta {
            Delta::Reasoning(text) => words.push(Word::Reasoning(text)),
            Delta::Content(text) => {
                let passed = stops.push(&text);
                *has_stopped |= passed.stop.is_some();
                if !passed.text.is_empty() {
                    words.push(Word::Content(passed.text, std::mem::take(scored)));
                }
            }
            Delta::WasThought => {
                let held = stops.flush();
                words.extend((!held.is_empty()).then_some(Word::Content(held, Vec::new())));
                scored.clear();
                words.push(Word::WasThought);
            }
        }
    }
    words
}
