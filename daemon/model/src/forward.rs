//! The border between the engine and whatever computes logits.

use std::fmt;

use crate::{Error, Streamed, TokenId};

/// [`Forward::row_cost`] of weights that all tokens share: SmolLM2 on two cores takes 9.8, 11.3, 13.8 and 15.7 ms for 1, 2, 3
/// and 4 rows.
pub(crate) const DENSE_ROW_COST: f32 = 0.15;

/// An open sequence of one [`Forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub usize);

impl fmt::Display for SeqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which tokens of a chunk the caller wants logits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsOf {
    /// None: an inner chunk of a prompt.
    None,
    /// The last.
    Last,
    /// All, in order.
    All,
    /// All, and of each only the largest counts, the first of equals: the others may be -inf.
    Best,
}

/// Tokens that extend one sequence in a step.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The sequence; at most one chunk a sequence in a step.
    pub seq: SeqId,
    /// Tokens to append.
    pub tokens: &'a [TokenId],
    /// Logits wanted.
    pub logits: LogitsOf,
}

/// A sequence that a step could not carry on.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub seq: SeqId,
    /// Why.
    pub error: Error,
}

/// What people should know about where answers are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A graphics card computed, and was lost; else there was none, or it can't be used.
    pub card_lost: bool,
    /// Why, and what follows from it.
    pub reason: String,
}

/// What a [`Forward`] can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Vocabulary size: the length of a row of logits.
    pub n_vocab: usize,
    /// Tokens a sequence may have.
    pub context: usize,
    /// Tokens a step may carry, over all chunks.
    pub step_tokens: usize,
    /// Tokens the KV cache holds, over all sequences.
    pub kv_tokens: usize,
}

/// Computes logits for batches of sequences and remembers their past.
///
/// Memory is reserved when a sequence is opened, so that a step never fails for want of it.
pub trait Forward: Send {
    /// What this model can hold.
    fn limits(&self) -> Limits;

    /// Opens an empty sequence with room for `n_tokens`; `None` where memory lacks at present.
    fn open(&mut self, n_tokens: usize) -> Option<SeqId>;

    /// Grows or shrinks a sequence's room to `n_tokens`; false, and nothing changed, where memory lacks at present.
    ///
    /// # Panics
    /// The sequence holds more than `n_tokens`: a programmer's error.
    fn resize(&mut self, seq: SeqId, n_tokens: usize) -> bool;

    /// Forgets a sequence and frees its memory.
    fn close(&mut self, seq: SeqId);

    /// Tokens the sequence holds.
    fn len(&self, seq: SeqId) -> usize;

    /// Forgets all but the first `n_tokens` tokens: drafts that were not accepted.
    fn truncate(&mut self, seq: SeqId, n_tokens: usize);

    /// Appends every chunk to its sequence and replaces `logits` by the wanted rows, in the order of the chunks:
    /// `[n_wanted, n_vocab]`. Returns the sequences for which that failed, usually none: their rows mean nothing and they can
    /// only be closed.
    ///
    /// # Errors
    /// The whole step is impossible: a chunk is not as it has to be.
    fn step(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) -> Result<Vec<Failure>, Error>;

    /// What was left out of a sequence so far, as a share of its experts by weight; `None` where all is computed.
    fn lost(&self, seq: SeqId) -> Option<f32> {
        let _ = seq;
        None
    }

    /// There is nothing to do at the moment.
    fn rest(&mut self) {}

    /// What streaming experts from a drive has done so far; `None` where nothing is streamed.
    fn streaming(&self) -> Option<Streamed> {
        None
    }

    /// What people should know about where answers are computed.
    fn notice(&self) -> Option<&Notice> {
        None
    }

    /// What one more row adds to the time of a step of one, as a share of it: guesses have to be right more often to pay.
    fn row_cost(&self) -> f32 {
        DENSE_ROW_COST
    }

    /// Guesses what follows, with the model's own draft layer: for each sequence and the token that has been chosen to
    /// come next (and is not fed yet), up to `n` tokens after it. Empty where there is no draft layer.
    ///
    /// A guess costs a fraction of a step and may be wrong: feed the chosen token and the guesses in one chunk with
    /// [`LogitsOf::All`], keep the guesses that the logits confirm, [`truncate`](Self::truncate) the others.
    fn draft(&mut self, next: &[(SeqId, TokenId)], n: usize) -> Result<Vec<Vec<TokenId>>, Error> {
        let _ = n;
        Ok(vec![Vec::new(); next.len()])
    }
}
