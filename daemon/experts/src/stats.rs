//! What streaming does, in numbers.

use std::ops::Sub;
use std::time::{Duration, Instant};

use crate::Policy;

/// Counts since the model was opened. Times are of the thread that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Experts wanted by a layer that were in memory, or on their way as a guess.
    pub hits: u64,
    /// Experts wanted by a layer that were not.
    pub misses: u64,
    /// Bytes that had to be read: of the missed experts' tensors, and of guesses that were wanted.
    pub needed_bytes: u64,
    /// Reads that ended, repeated ones counted again.
    pub reads: u64,
    /// Bytes asked of the drive.
    pub bytes_read: u64,
    /// Reads of guesses, among the above.
    pub prefetches: u64,
    /// Guesses that were wanted while they were there or on their way.
    pub prefetch_hits: u64,
    /// Reads that were repeated: the drive failed, or gave other bytes than were written.
    pub retries: u64,
    /// Reads that gave other bytes than were written.
    pub checksum_failures: u64,
    /// Records written again from another copy.
    pub repairs: u64,
    /// Experts that could not be had.
    pub failures: u64,
    /// Choices left out by a lossy mode.
    pub skipped: u64,
    /// Time with at least one read under way.
    pub busy: Duration,
    /// Time in which the computing thread waited for a read.
    pub stalled: Duration,
    /// Speed gained by guessing what the next layer wants, as measured last (1.1: a tenth faster); 0 before.
    pub prefetch_gain: f32,
    /// Reads under way now.
    pub in_flight: u64,
    /// Who gives way.
    pub policy: Policy,
    /// Share of the slots whose experts never give way.
    pub pinned_share: f64,
    /// Bytes of the largest record, in whole pages.
    pub record_bytes: u64,
    /// Memory for records, in bytes.
    pub slot_bytes: u64,
}

impl Stats {
    /// Experts wanted that were there, of all that were wanted; 1 where none was wanted.
    pub fn hit_rate(&self) -> f64 {
        let wanted = self.hits + self.misses;
        if wanted == 0 { 1.0 } else { self.hits as f64 / wanted as f64 }
    }

    /// Bytes read a second while reading; 0 where nothing was read.
    pub fn read_bytes_s(&self) -> f64 {
        if self.busy.is_zero() { 0.0 } else { self.bytes_read as f64 / self.busy.as_secs_f64() }
    }
}

impl Sub for Stats {
    type Output = Self;

    /// What happened since `earlier`; what is a state, not a count, stays.
    fn sub(self, earlier: Self) -> Self {
        Self {
            hits: self.hits - earlier.hits,
            misses: self.misses - earlier.misses,
            needed_bytes: self.needed_bytes - earlier.needed_bytes,
            reads: self.reads - earlier.reads,
            bytes_read: self.bytes_read - earlier.bytes_read,
            prefetches: self.prefetches - earlier.prefetches,
            prefetch_hits: self.prefetch_hits - earlier.prefetch_hits,
            retries: self.retries - earlier.retries,
            checksum_failures: self.checksum_failures - earlier.checksum_failures,
            repairs: self.repairs - earlier.repairs,
            failures: self.failures - earlier.failures,
            skipped: self.skipped - earlier.skipped,
            busy: self.busy - earlier.busy,
            stalled: self.stalled - earlier.stalled,
            prefetch_gain: self.prefetch_gain,
            in_flight: self.in_flight,
            policy: self.policy,
            pinned_share: self.pinned_share,
            record_bytes: self.record_bytes,
            slot_bytes: self.slot_bytes,
        }
    }
}

/// Adds up the time in which reads are under way.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    since: Option<Instant>,
    total: Duration,
}

impl Busy {
    /// A read begins.
    pub(crate) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// A read ended at `ended`; none is left if `last`.
    pub(crate) fn end(&mut self, ended: Instant, last: bool) {
        let Some(since) = self.since else { return };
        if ended > since {
            self.total += ended - since;
            self.since = Some(ended);
        }
        if last {
            self.since = None;
        }
    }

    pub(crate) fn total(&self) -> Duration {
        self.total
    }
}
