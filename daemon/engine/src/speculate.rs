//! Speculative decoding: guess the next tokens cheaply, check all guesses in one step.
//!
//! ```text
//! the sequence     .. a b c      c has been chosen, but not fed
//! drafted          x y z
//! fed              c x y z
//! rows of logits   0 1 2 3
//!                  | | row 2 and row 3 follow a token that was not chosen: not looked at
//!                  | row 1 -> the sampler says q: y was wrong; q is the next token, y and z are truncated
//!                  row 0 -> the sampler says x: guessed right, so row 1 counts
//! ```
//!
//! The sampler chooses every token from the logits it would have seen without guesses, and draws as often: the answer is
//! the same for greedy and for seeded sampling, token for token. Guesses never take a step beyond [`EXACT_ROWS`], up to
//! which the model computes every row as it would alone, to the bit. (With more sequences than that in a step an answer's
//! last bits depend on its company, with guesses or without.)
//!
//! Source: Stern et al. 2018, arXiv:1811.03115 (propose, verify, accept); DeepSeek-AI 2024, arXiv:2412.19437, section
//! 2.2 (the draft layer).

mod confidence;
mod lookup;

use model::{EXACT_ROWS, Forward, SeqId, TokenId};

use self::confidence::Confidence;
use self::lookup::Lookup;

/// Which guesses are made. How many at a time follows the sequence's recent acceptance, down to none while they don't pay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// None: a token a step.
    Off,
    /// What followed the last time the sequence had the tokens it ends with.
    Lookup {
        /// Guesses for a sequence in a step at most.
        tokens_max: usize,
    },
    /// What the model's own draft layer says; none where it has no such layer.
    Draft {
        /// Guesses for a sequence in a step at most.
        tokens_max: usize,
    },
    /// Lookup where it finds something, else the draft layer.
    #[default]
    Auto,
}

impl Speculation {
    /// Guesses looked up for a sequence in a step at most, where nobody says otherwise.
    pub const LOOKUP_TOKENS: usize = Self::TOKENS_MAX;
    /// Guesses of the draft layer for a sequence in a step at most, where nobody says otherwise.
    pub const DRAFT_TOKENS: usize = 1;
    /// Guesses there is ever room for.
    pub const TOKENS_MAX: usize = EXACT_ROWS - 1;

    fn tokens_max(self, source: Source) -> usize {
        match (self, source) {
            (Self::Lookup { tokens_max }, Source::Lookup) => tokens_max,
            (Self::Draft { tokens_max }, Source::Draft) => tokens_max,
            (Self::Auto, Source::Lookup) => Self::LOOKUP_TOKENS,
            (Self::Auto, Source::Draft) => Self::DRAFT_TOKENS,
            _ => 0,
        }
    }
}

/// Who made a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The sequence's own past.
    Lookup,
    /// The model's draft layer.
    Draft,
}

/// What came of the guesses of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who guessed.
    pub source: Source,
    /// Tokens guessed.
    pub drafted: usize,
    /// Of these, tokens that the sampler chose too.
    pub accepted: usize,
}

/// Guesses for one sequence, and how much they have been worth.
#[derive(Debug)]
pub struct Drafter {
    speculation: Speculation,
    lookup: Lookup,
    /// By [`Source`].
    confidence: [Confidence; 2],
    source: Source,
    /// The chosen token, then the guesses.
    chunk: Vec<TokenId>,
}

/// A decoding sequence that is about to be fed its last token.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The sequence; it has been fed all but the last of `tokens`.
    pub seq: SeqId,
    /// Prompt and answer so far.
    pub tokens: &'a [TokenId],
    /// Tokens that end the answer: nothing is guessed after them.
    pub stop_ids: &'a [TokenId],
    /// Guesses that memory and the rest of the answer have room for.
    pub n_max: usize,
    /// Where the chunk to feed is put.
    pub drafter: &'a mut Drafter,
}

/// Puts together the chunk of every sequence: its last token, and guesses.
///
/// The draft layer is asked once, for all sequences together. `step_tokens`: tokens the step has left for these chunks.
///
/// # Errors
/// The draft layer's.
pub fn draft(
    model: &mut dyn Forward,
    turns: &mut [Turn<'_>],
    step_tokens: usize,
) -> Result<(), model::Error> {
    let n_turns = turns.len().max(1);
    let share = (step_tokens.min(EXACT_ROWS) / n_turns).saturating_sub(1);
    for turn in turns.iter_mut() {
        turn.n_max = turn.n_max.min(share);
        turn.look_up();
    }
    let mut asking: Vec<(&mut Turn<'_>, usize)> = turns
        .iter_mut()
        .filter_map(|turn| {
            let n = turn.wanted(Source::Draft);
            (n > 0 && turn.drafter.chunk.len() == 1).then_some((turn, n))
        })
        .collect();
    let Some(n) = asking.iter().map(|(_, n)| *n).max() else { return Ok(()) };
    let next: Vec<_> = asking.iter().map(|(turn, _)| (turn.seq, turn.drafter.chunk[0])).collect();
    for ((turn, n), guesses) in asking.iter_mut().zip(model.draft(&next, n)?) {
        turn.guess(Source::Draft, guesses.into_iter().take(*n));
    }
    Ok(())
}

impl Turn<'_> {
    /// Guesses that pay.
    fn wanted(&self, source: Source) -> usize {
        let Drafter { speculation, confidence, .. } = &*self.drafter;
        confidence[source as usize].n_guesses(speculation.tokens_max(source).min(self.n_max))
    }

    /// Begins the chunk, with guesses from the sequence's past where there are any.
    fn look_up(&mut self) {
        let last = *self.tokens.last().expect("a sequence that decodes has tokens");
        self.drafter.chunk.clear();
        self.drafter.chunk.push(last);
        if self.drafter.speculation.tokens_max(Source::Lookup) == 0 {
            return;
        }
        self.drafter.lookup.extend(self.tokens);
        let n = self.wanted(Source::Lookup);
        if n == 0 {
            return;
        }
        if let Some(found) = self.drafter.lookup.find(self.tokens) {
            self.guess(Source::Lookup, found.take(n));
        }
    }

    fn guess(&mut self, source: Source, guesses: impl Iterator<Item = TokenId>) {
        self.drafter.source = source;
        self.drafter.chunk.extend(guesses.take_while(|id| !self.stop_ids.contains(id)));
    }
}

impl Drafter {
    /// A drafter for a sequence of up to `n_tokens` tokens, prompt included. `row_cost`: [`Forward::row_cost`].
    pub fn new(speculation: Speculation, n_tokens: usize, row_cost: f32) -> Self {
        let looks_up = speculation.tokens_max(Source::Lookup) > 0;
        Self {
            speculation,
            lookup: Lookup::new(if looks_up { n_tokens } else { 1 }),
            confidence: [Confidence::new(row_cost); 2],
            source: Source::Lookup,
            chunk: Vec::new(),
        }
    }

    /// What to feed: the last token, then the guesses. Every row of its logits is wanted.
    pub fn chunk(&self) -> &[TokenId] {
        &self.chunk
    }

    /// Takes the chunk out, to be verified.
    pub fn take_chunk(&mut self) -> Vec<TokenId> {
        std::mem::take(&mut self.chunk)
    }

    /// Learns from the verified chunk, of whose guesses the first `accepted` were right.
    pub fn judge(&mut self, chunk: Vec<TokenId>, accepted: usize) -> Verdict {
        let (source, drafted) = (self.source, chunk.len() - 1);
        self.chunk = chunk;
        for other in [Source::Lookup, Source::Draft] {
            let confidence = &mut self.confidence[other as usize];
            if drafted > 0 && other == source {
                confidence.judge(drafted, accepted);
            } else {
                confidence.forget();
            }
        }
        Verdict { source, drafted, accepted }
    }
}

/// Goes through the rows of a chunk for as long as its guesses are right, and says how many were.
///
/// `advance` chooses the next token from a row, [n_vocab], and keeps it; it returns the token unless the answer ends
/// there. It is called once more than guesses are right. The sequence then holds the chunk's first token and the right
/// guesses; the rest is to be truncated.
pub fn verify<'a>(
    chunk: &[TokenId],
    rows: impl IntoIterator<Item = &'a mut [f32]>,
    mut advance: impl FnMut(&mut [f32]) -> Option<TokenId>,
) -> usize {
    let mut accepted = 0;
    for row in rows {
        let chosen = advance(row);
        if chosen.is_none() || chosen.as_ref() != chunk.get(1 + accepted) {
            break;
        }
        accepted += 1;
    }
    accepted
}
