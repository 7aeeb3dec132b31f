//! What a cache of some size would have hit: policies and sizes compared on a routing trace.
//!
//! ```text
//! trace   |-------- first half --------|-------- second half --------|
//!          fills the caches, is the     counts
//!          profile for the pins
//! ```
//! The simulated cache behaves as the real one does: records of one size share a pool of slots; a layer's visit touches what
//! it finds, then each missing expert takes a free slot or that of the least worth that the visit does not want (ties: the
//! lower layer, then the lower number, which went by longer ago). Where every slot is wanted, a missing expert passes through
//! without staying. Worths are [`Policy::touched`] with the number of the step as time, and an expert keeps its own when it
//! leaves. Pinned experts never leave and take no part.
//!
//! Beside the policies stands Belady's bound (`belady.rs`), which knows the future.

mod belady;
mod cache;
mod compare;
mod profile;
pub mod synthetic;
mod table;

use std::fmt;

pub use compare::replay;
pub use table::{Counts, Outcome, Row, Table};

use crate::Policy;
use crate::trace::Trace;

/// Tokens that a decode step has at most: more are a prompt's.
pub const DECODE_TOKENS_MAX: u32 = 16;
/// Half-lives that are compared where nothing else is said, in steps.
pub const HALF_LIVES: [f64; 5] = [8.0, 32.0, 128.0, 512.0, 2048.0];
/// Pinned shares that are compared where nothing else is said.
pub const PINNED_SHARES: [f64; 3] = [0.0, 0.25, 0.5];

/// What a cache can be told to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Who gives way.
    pub policy: Policy,
    /// Share of the slots whose experts never give way: those that the profile has as the most used.
    pub pinned_share: f64,
}

impl Choice {
    /// What is compared where nothing else is said, the simplest first: LRU, LFRU of [`HALF_LIVES`], each with
    /// [`PINNED_SHARES`].
    pub fn all() -> Vec<Self> {
        let lfru = HALF_LIVES.map(|half_life| Policy::Lfru { half_life });
        let policies: Vec<_> = [Policy::Lru].into_iter().chain(lfru).collect();
        let choices = PINNED_SHARES
            .iter()
            .flat_map(|&pinned_share| policies.iter().map(move |&policy| Self { policy, pinned_share }));
        choices.collect()
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.policy)?;
        if self.pinned_share > 0.0 { write!(f, ", {} % pinned", self.pinned_share * 100.0) } else { Ok(()) }
    }
}

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of each layer, bytes of one expert's record; 0 where nobody knows, then records are counted alone.
    pub record_bytes: Vec<u64>,
    /// Of each layer, the pool that its records share.
    pub classes: Vec<u32>,
    /// Sizes of the cache, in records of all layers together.
    pub records: Vec<usize>,
    /// What the cache is told, the simplest first.
    pub choices: Vec<Choice>,
}

impl Setup {
    /// All of [`Choice::all`], with pools by size of record.
    pub fn new(record_bytes: Vec<u64>, records: Vec<usize>) -> Self {
        Self { classes: classes_of(&record_bytes), record_bytes, records, choices: Choice::all() }
    }
}

/// Of each layer, the pool of its records: one for each size, in order of first appearance.
pub fn classes_of(record_bytes: &[u64]) -> Vec<u32> {
    let mut sizes: Vec<u64> = Vec::new();
    let class = |&bytes: &u64| {
        let known = sizes.iter().position(|&size| size == bytes);
        known.unwrap_or_else(|| {
            sizes.push(bytes);
            sizes.len() - 1
        }) as u32
    };
    record_bytes.iter().map(class).collect()
}

/// The slots of each pool in a cache of `records`: every pool has room for the same share of its records, to a whole slot.
///
/// # Panics
/// There are fewer records than that.
pub fn slots_of(records: usize, classes: &[u32], n_experts: usize) -> Vec<usize> {
    let n_classes = classes.iter().max().map_or(0, |&class| class as usize + 1);
    let mut layers = vec![0; n_classes];
    classes.iter().for_each(|&class| layers[class as usize] += 1);
    let n_layers = classes.len().max(1);
    assert!(records <= classes.len() * n_experts, "at most all records");
    let mut slots: Vec<usize> = layers.iter().map(|n| records * n / n_layers).collect();
    // What is left goes to those that rounding took most from.
    let mut order: Vec<usize> = (0..n_classes).collect();
    order.sort_by_key(|&class| std::cmp::Reverse(records * layers[class] % n_layers));
    let left = records - slots.iter().sum::<usize>();
    order.iter().take(left).for_each(|&class| slots[class] += 1);
    slots
}

/// A comparison that can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One half makes the profile, the other counts.
    #[error(
        "a trace of {steps} steps with experts wanted in {scored} of the second half: too short to compare"
    )]
    Short {
        /// Steps in the trace.
        steps: usize,
        /// Steps of its second half that want experts.
        scored: usize,
    },
    /// A size that no cache of this model has.
    #[error("a cache of {records} records: the model has {max}")]
    Size {
        /// Wanted.
        records: usize,
        /// Of the model.
        max: usize,
    },
}

/// The first step that counts.
fn scored_from(trace: &Trace) -> usize {
    trace.n_steps() / 2
}

/// A decode step, or a prompt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Decode,
    Prefill,
}

impl Kind {
    fn of(n_tokens: u32) -> Self {
        if n_tokens <= DECODE_TOKENS_MAX { Self::Decode } else { Self::Prefill }
    }
}
