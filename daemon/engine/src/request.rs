//! What goes into the engine and what comes out: tokens and numbers, never text.

use std::time::Duration;

use model::TokenId;

/// How the next token is chosen from the logits. Defaults: greedy off, temperature 1, nothing cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divisor of the logits; 0 is greedy.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely; 0 keeps all.
    pub min_p: f32,
    /// Divides (or multiplies, when negative) the logits of tokens seen in the last `penalty_window`; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once for every time a token was generated.
    pub frequency_penalty: f32,
    /// Subtracted if a token was generated at all.
    pub presence_penalty: f32,
    /// Tokens the repetition penalty looks back on.
    pub penalty_window: usize,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Seed of the generator; the same seed and request give the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: 256,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Whether the likeliest token is taken, and nothing but its logit matters.
    pub(crate) fn takes_the_best(&self) -> bool {
        let plain =
            (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) == (1.0, 0.0, 0.0);
        self.temperature <= 0.0 && plain && self.logit_bias.is_empty()
    }

    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}

/// One sequence to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// Prompt tokens, at least one.
    pub prompt: Vec<TokenId>,
    /// Tokens to generate at most, at least one; cut to what the context holds.
    pub max_tokens: usize,
    /// Tokens that end the sequence (they are not sent out).
    pub stop_ids: Vec<TokenId>,
    /// Choice of tokens.
    pub sampling: Sampling,
    /// Report the log probability of each token and of this many likeliest alternatives.
    pub logprobs: Option<usize>,
    /// Whose request it is: fairness and the prefix cache go by owner.
    pub owner: u64,
}

/// Log probability of a token under the model's own distribution (before temperature and cuts).
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the chosen token, natural log.
    pub chosen: f32,
    /// The likeliest tokens, most likely first.
    pub top: Vec<(TokenId, f32)>,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// What a finished sequence cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of these, taken from the prefix cache.
    pub n_cached: usize,
    /// Tokens generated, the stop token not counted.
    pub n_generated: usize,
    /// From submission to the start of prefill.
    pub queued: Duration,
    /// Prefill.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// What a lossy mode left out, as a share of the experts by weight; `None` where everything was computed.
    pub lost: Option<f32>,
    /// The graphics card was lost meanwhile, and the processor went on.
    pub card_lost: bool,
}

/// News of one sequence, in order: `Queued`*, `Prefill`*, `Token`*, then `Finished` or `Failed`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Waiting; this many requests are ahead.
    Queued {
        /// Requests ahead of this one.
        ahead: usize,
    },
    /// Prompt tokens processed so far.
    Prefill {
        /// Done.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// A token.
    Token {
        /// The token.
        id: TokenId,
        /// Asked for by `Request::logprobs`.
        logprobs: Option<Logprobs>,
    },
    /// The end.
    Finished {
        /// Why.
        reason: FinishReason,
        /// What it cost.
        timings: Timings,
    },
    /// The end, unexpectedly: the text says what failed.
    Failed {
        /// For the log and the user.
        message: String,
    },
}

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is at its limit.
    #[error("{waiting} requests are waiting, the limit is {limit}")]
    QueueFull {
        /// Waiting now.
        waiting: usize,
        /// The most that may wait.
        limit: usize,
    },
    /// Prompt longer than the context.
    #[error("the prompt has {got} tokens, the context holds {limit}")]
    PromptTooLong {
        /// Tokens in the prompt.
        got: usize,
        /// Tokens the context holds.
        limit: usize,
    },
    /// No prompt at all.
    #[error("the prompt is empty")]
    PromptEmpty,
    /// A token id beyond the vocabulary.
    #[error("token {id} is outside the vocabulary of {n_vocab}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Vocabulary size.
        n_vocab: usize,
    },
    /// The engine has shut down.
    #[error("the engine has stopped")]
    Stopped,
}
