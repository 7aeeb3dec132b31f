//! What came of it: runs, rounds of them, and the numbers that are medians of rounds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::engine::Entrant;
use super::raw;
use crate::bench::table::median;
use crate::cgroup::Usage;
use crate::size;

/// One run of one engine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) load_s: f64,
    pub(super) prefill_tok_s: f64,
    /// Read from the drive for the prompt.
    pub(super) prefill_bytes: u64,
    /// Of all tokens together.
    pub(super) decode_tok_s: f64,
    /// Seconds of the token in the middle, where the engine tells.
    pub(super) token_median_s: Option<f64>,
    /// Bytes read from the drive for a decoded token.
    pub(super) token_bytes: f64,
    /// Bytes read from the drive from start to end, by everybody on the machine.
    pub(super) drive_bytes: u64,
    pub(super) usage: Usage,
    /// Wels' own account.
    pub(super) streaming: Option<Streaming>,
}

/// The `streaming` of `wels bench --json`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Streaming {
    /// Of the largest record.
    pub(super) record_bytes: u64,
    pub(super) prefill: Phase,
    pub(super) decode: Phase,
}

/// What was streamed in one phase.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Phase {
    /// Experts that were in memory when they were wanted, and that were not.
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Bytes of the records that had to be read.
    pub(super) needed_bytes: u64,
    pub(super) reads: u64,
    pub(super) bytes_read: u64,
    /// Time with a read under way, in which computing had to wait, and in all.
    pub(super) busy_s: f64,
    pub(super) stall_s: f64,
    pub(super) wall_s: f64,
    pub(super) tokens: u64,
}

impl Phase {
    /// Bytes a second while there was something to read.
    pub(super) fn busy_bytes_s(&self) -> f64 {
        self.bytes_read as f64 / self.busy_s
    }

    /// Bytes a second of the whole time.
    pub(super) fn wall_bytes_s(&self) -> f64 {
        self.bytes_read as f64 / self.wall_s
    }

    /// Bytes read for a byte that had to be.
    pub(super) fn read_for_needed(&self) -> f64 {
        self.bytes_read as f64 / self.needed_bytes as f64
    }

    pub(super) fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses) as f64
    }

    pub(super) fn stall_share(&self) -> f64 {
        self.stall_s / self.wall_s
    }
}

/// Everybody once.
pub(super) struct Round {
    /// The machine's, when it began.
    pub(super) load: f64,
    /// The drive alone.
    pub(super) before: raw::Speed,
    pub(super) after: raw::Speed,
    /// In the order of the entrants; `None` of one that failed.
    pub(super) runs: Vec<Option<Measured>>,
}

impl Round {
    /// The drive's own bytes a second: the mean of before and after.
    pub(super) fn drive_bytes_s(&self) -> f64 {
        f64::midpoint(self.before.bytes_s, self.after.bytes_s)
    }
}

/// One model under one limit.
pub(super) struct Outcome {
    pub(super) model: String,
    pub(super) model_bytes: u64,
    pub(super) limit_bytes: u64,
    /// Of a read when the drive is alone.
    pub(super) record_bytes: u64,
    /// Tokens.
    pub(super) decode: u32,
    pub(super) threads: usize,
    pub(super) entrants: Vec<Entrant>,
    pub(super) rounds: Vec<Round>,
}

impl Outcome {
    fn runs(&self, idx: usize) -> impl Iterator<Item = &Measured> {
        self.rounds.iter().filter_map(move |round| round.runs[idx].as_ref())
    }

    /// The median of `number` over an entrant's runs; `None` without any.
    pub(super) fn median(&self, idx: usize, number: impl Fn(&Measured) -> f64) -> Option<f64> {
        self.runs(idx).next()?;
        Some(median(self.runs(idx).map(number)))
    }

    /// The median of Wels' `number` to the entrant's in the same round.
    pub(super) fn ratio(&self, idx: usize, number: impl Fn(&Measured) -> f64) -> Option<f64> {
        let wels = self.wels().filter(|wels| *wels != idx)?;
        let both =
            self.rounds.iter().filter_map(|round| round.runs[wels].as_ref().zip(round.runs[idx].as_ref()));
        let ratios: Vec<f64> = both.map(|(ours, theirs)| number(ours) / number(theirs)).collect();
        (!ratios.is_empty()).then(|| median(ratios.into_iter()))
    }

    /// The entrant that is Wels.
    pub(super) fn wels(&self) -> Option<usize> {
        self.entrants.iter().position(Entrant::is_wels)
    }

    /// The median over the rounds of a number of Wels' streaming and the drive's own bytes a second.
    pub(super) fn streamed(&self, number: impl Fn(&Streaming, f64) -> f64) -> Option<f64> {
        let wels = self.wels()?;
        let of_round = |round: &Round| Some(number(&round.runs[wels]?.streaming?, round.drive_bytes_s()));
        let numbers: Vec<f64> = self.rounds.iter().filter_map(of_round).collect();
        (!numbers.is_empty()).then(|| median(numbers.into_iter()))
    }

    /// The most memory in any run, and how often the limit was reached in the run in which that was most.
    pub(super) fn usage(&self, idx: usize) -> (Option<u64>, u64) {
        let peak = self.runs(idx).filter_map(|run| run.usage.peak_bytes).max();
        (peak, self.runs(idx).map(|run| run.usage.limit_hits).max().unwrap_or(0))
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { load_s, prefill_tok_s, decode_tok_s, token_bytes, usage, .. } = self;
        let peak = usage.peak_bytes.map_or_else(|| "unknown".to_owned(), size::format);
        write!(
            f,
            "decode {decode_tok_s:.2} tok/s, {:.0} MB read a token, prefill {prefill_tok_s:.1} tok/s, load {load_s:.1} s, \
             peak {peak}, {} times at the limit",
            token_bytes / 1e6,
            usage.limit_hits
        )
    }
}
