//! What the engine counts: written by its thread, read by anybody.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use model::{Notice, Streamed};

use crate::speculate::{Source, Verdict};

/// Counters and gauges, written by the engine thread, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) stopped: AtomicBool,
    pub(crate) waiting: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) kv_tokens_used: AtomicUsize,
    pub(crate) requests: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) step_us: AtomicU64,
    /// By [`Source`].
    pub(crate) drafts: [DraftCounters; 2],
    streaming: Mutex<Option<Streamed>>,
    notice: Mutex<Option<Notice>>,
}

/// Guesses of one source.
#[derive(Debug, Default)]
pub(crate) struct DraftCounters {
    drafted: AtomicU64,
    accepted: AtomicU64,
}

impl Counters {
    pub(crate) fn set_streaming(&self, streaming: Option<Streamed>) {
        *self.streaming.lock().expect("nothing panics while it holds the lock") = streaming;
    }

    pub(crate) fn set_notice(&self, notice: Option<&Notice>) {
        let mut kept = self.notice.lock().expect("nothing panics while it holds the lock");
        if kept.as_ref() != notice {
            *kept = notice.cloned();
        }
    }

    pub(crate) fn notice(&self) -> Option<Notice> {
        self.notice.lock().expect("nothing panics while it holds the lock").clone()
    }

    pub(crate) fn streaming(&self) -> Option<Streamed> {
        *self.streaming.lock().expect("nothing panics while it holds the lock")
    }

    pub(crate) fn count_drafts(&self, verdict: Verdict) {
        let counters = &self.drafts[verdict.source as usize];
        counters.drafted.fetch_add(verdict.drafted as u64, Ordering::Relaxed);
        counters.accepted.fetch_add(verdict.accepted as u64, Ordering::Relaxed);
    }

    pub(crate) fn drafts(&self, source: Source) -> Drafts {
        let DraftCounters { drafted, accepted } = &self.drafts[source as usize];
        Drafts {
            drafted_total: drafted.load(Ordering::Relaxed),
            accepted_total: accepted.load(Ordering::Relaxed),
        }
    }
}

/// Guesses of one source: tokens fed before it was known that they would come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafts {
    /// Tokens guessed.
    pub drafted_total: u64,
    /// Of these, tokens that did come.
    pub accepted_total: u64,
}

/// The engine's state at a glance; totals since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Sequences in the batch now.
    pub running: usize,
    /// Requests waiting now.
    pub waiting: usize,
    /// Requests that may wait.
    pub waiting_max: usize,
    /// Tokens of KV cache reserved now.
    pub kv_tokens_used: usize,
    /// Tokens of KV cache there are.
    pub kv_tokens_total: usize,
    /// Longest sequence.
    pub context: usize,
    /// Requests accepted.
    pub requests_total: u64,
    /// Requests that ended by themselves.
    pub finished_total: u64,
    /// Requests whose client left.
    pub cancelled_total: u64,
    /// Requests that failed.
    pub failed_total: u64,
    /// Prompt tokens computed.
    pub prompt_tokens_total: u64,
    /// Tokens generated.
    pub generated_tokens_total: u64,
    /// Steps run.
    pub steps_total: u64,
    /// Time spent in steps.
    pub step_us_total: u64,
    /// Guesses looked up in the sequences' own past.
    pub lookup: Drafts,
    /// Guesses of the model's draft layer.
    pub draft_layer: Drafts,
    /// What streaming experts has done; `None` where the model is in memory.
    pub streaming: Option<Streamed>,
}
