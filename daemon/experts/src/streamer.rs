//! Experts that come from a drive as they are wanted.
//!
//! ```text
//! want ── in memory ──────────────────────────────> ready ──> given, computed ──> may give way
//!   │                                                 ^
//!   └─── missing ──> todo ──(a slot is free)──> in flight ──(failed: again)
//! ```
//! All that a layer misses is handed to the drive as far as slots go, so that the drive has work while the layer computes
//! what is there. When nothing is missing any more, guesses are read: what the next layer of a long prompt will want, or
//! what was used most before the last restart. They give way at once when something is missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, warn};
use weights::{ExpertKey, Record, Weights};

use crate::cache::Cache;
use crate::copies::Chooser;
use crate::disk::{Check, Disk, Done, Read, ReadError, Unpack};
use crate::staging::Staging;
use crate::stats::{Busy, Stats};
use crate::streaming::Streaming;
use crate::{Error, Slot};

/// Reads of a record before it is given up.
const ATTEMPTS_MAX: u32 = 4;
/// Records of a size that have to fit: with fewer, reading and computing would take turns.
const SLOTS_MIN: usize = 2;

/// Reads experts and keeps them.
pub(crate) struct Streamer {
    records: Vec<Arc<Record>>,
    cache: Cache,
    weights: Arc<Weights>,
    staging: Staging,
    disk: Box<dyn Disk>,
    copies: Chooser,
    /// By expert: reads under way.
    flights: BTreeMap<u32, Flight>,
    /// Wanted, and not yet asked of the drive.
    todo: VecDeque<u32>,
    /// Not wanted yet, but perhaps later: read while the drive has nothing else to do.
    guesses: VecDeque<u32>,
    /// Read as guesses, or on their way, and not wanted since.
    guessed: BTreeSet<u32>,
    /// They are what the next layer of a decoding step is likely to want.
    likely: bool,
    /// The step in which they were guessed.
    guessed_at: f64,
    /// Wanted and in memory, not yet given out.
    ready: Vec<u32>,
    /// Given out.
    given: Vec<u32>,
    /// Wanted reads under way.
    n_awaited: usize,
    /// What could not be had since the layer began.
    failed: Vec<(ExpertKey, Error)>,
    stats: Stats,
    busy: Busy,
    /// The most tokens of a step that does without the memory on loan.
    short_tokens: usize,
}

/// A read under way.
struct Flight {
    attempts: u32,
    /// Which copy of the files is read.
    copy: usize,
    /// A layer waits for it; else it is a guess.
    wanted: bool,
}

impl Streamer {
    pub(crate) fn new(
        weights: &Arc<Weights>,
        records: Vec<Record>,
        streaming: Streaming,
    ) -> Result<Self, Error> {
        let Streaming { disk, budget, loan, policy, pinned_share, copies, .. } = streaming;
        let sizes: Vec<usize> = records.iter().map(|record| record.bytes).collect();
        let staging = Staging::new(&records, 2 * disk.depth())?;
        let cache = Cache::new(policy, &sizes, (budget, staging.bytes(), loan.bytes), SLOTS_MIN)?;
        let record_bytes = sizes.iter().max().map_or(0, |&bytes| bytes as u64);
        Ok(Self {
            records: records.into_iter().map(Arc::new).collect(),
            cache,
            weights: Arc::clone(weights),
            staging,
            disk,
            copies: Chooser::new(copies),
            flights: BTreeMap::new(),
            todo: VecDeque::new(),
            guesses: VecDeque::new(),
            guessed: BTreeSet::new(),
            likely: false,
            guessed_at: 0.0,
            ready: Vec::new(),
            given: Vec::new(),
            n_awaited: 0,
            failed: Vec::new(),
            stats: Stats { policy, pinned_share, record_bytes, ..Stats::default() },
            busy: Busy::default(),
            short_tokens: if loan.bytes == 0 { usize::MAX } else { loan.step_tokens },
        })
    }

    pub(crate) fn begin_step(&mut self, n_tokens: usize, sweep: bool) {
        if self.cache.begin_step(sweep) || self.likely {
            self.guesses.clear();
            self.likely = false;
        }
        match (n_tokens > self.short_tokens, self.cache.gave_loan_back()) {
            (true, false) => {
                self.end_reads();
                self.cache.give_loan_back();
            }
            (false, true) => self.cache.take_loan(),
            _ => {}
        }
    }

    /// Whether the step has taken the memory on loan.
    pub(crate) fn gave_loan_back(&self) -> bool {
        self.cache.gave_loan_back()
    }

    /// Waits for what is under way: guesses that nobody wants yet. No more begin.
    fn end_reads(&mut self) {
        self.release();
        self.cancel_guesses();
        self.guesses.clear();
        while !self.flights.is_empty() {
            match self.disk.next(true) {
                Some(done) => self.settle(done),
                None => self.give_up_flights(),
            }
        }
    }

    /// Fills the cache with the experts that were used most, by what was counted before.
    pub(crate) fn warm(&mut self, uses: impl Iterator<Item = u64>) {
        self.cache.set_uses(uses);
        let most_used = self.cache.most_used();
        self.cache.pin(&most_used, self.stats.pinned_share);
        self.guess(most_used.into_iter());
    }

    /// Tokens that each expert was used by.
    pub(crate) fn uses(&self) -> Vec<u64> {
        self.cache.uses().collect()
    }

    /// A layer wants these: experts of the whole model by number, and their tokens.
    pub(crate) fn want(&mut self, experts: impl Iterator<Item = (u32, u32)>) {
        debug_assert!(self.todo.is_empty() && self.ready.is_empty(), "the layer before took all it wanted");
        self.release();
        self.failed.clear();
        self.reap();
        for (expert, n_tokens) in experts {
            self.cache.touch(expert, n_tokens);
            let was_guessed = self.guessed.remove(&expert);
            if was_guessed || !self.is_known(expert) {
                self.stats.needed_bytes += self.records[expert as usize].data_bytes;
            }
            if self.cache.is_resident(expert) {
                self.cache.hold(expert, true);
                self.ready.push(expert);
                self.stats.hits += 1;
                self.stats.prefetch_hits += u64::from(was_guessed);
            } else if let Some(flight) = self.flights.get_mut(&expert) {
                flight.wanted = true;
                self.n_awaited += 1;
                self.stats.hits += 1;
                self.stats.prefetch_hits += 1;
            } else {
                self.todo.push_back(expert);
                self.stats.misses += 1;
            }
        }
        if !self.todo.is_empty() {
            self.cancel_guesses();
        }
        self.start_reads();
    }

    /// Experts that may be wanted soon, likeliest first; they replace those guessed before.
    pub(crate) fn guess(&mut self, experts: impl Iterator<Item = u32>) {
        self.set_guesses(experts, false);
    }

    fn set_guesses(&mut self, experts: impl Iterator<Item = u32>, likely: bool) {
        self.guesses.clear();
        self.guesses.extend(experts);
        (self.guessed_at, self.likely) = (self.cache.now(), likely);
        self.start_reads();
    }

    pub(crate) fn is_sweep(&self) -> bool {
        self.cache.is_sweep()
    }

    pub(crate) fn count_skipped(&mut self, n: usize) {
        self.stats.skipped += n as u64;
    }

    /// Experts that the next layer is likely to want, likeliest first. They may take the place of what is worth least; what
    /// was guessed for the last layer and not begun is forgotten.
    pub(crate) fn guess_likely(&mut self, experts: impl Iterator<Item = u32>) {
        self.cancel_guesses();
        self.set_guesses(experts, true);
    }

    /// Whether an expert is in memory or on its way.
    pub(crate) fn is_known(&self, expert: u32) -> bool {
        self.cache.is_resident(expert) || self.flights.contains_key(&expert)
    }

    /// Experts that are in memory and were not given out, at least one; empty after the last. Those given out before may
    /// give way from here on.
    pub(crate) fn next_ready(&mut self) -> &[u32] {
        self.release();
        loop {
            self.reap();
            self.start_reads();
            if !self.ready.is_empty() || (self.n_awaited == 0 && self.todo.is_empty()) {
                break;
            }
            if self.flights.is_empty() {
                // Nothing is under way and nothing can be started: every slot is gone.
                self.give_up_todo();
                continue;
            }
            let start = Instant::now();
            let done = self.disk.next(true);
            self.stats.stalled += start.elapsed();
            match done {
                Some(done) => self.settle(done),
                None => self.give_up_flights(),
            }
        }
        std::mem::swap(&mut self.given, &mut self.ready);
        self.given.sort_unstable();
        &self.given
    }

    /// Where an expert that was given out lies.
    pub(crate) fn record(&self, expert: u32) -> (&Record, &[u8]) {
        let memory = self.cache.get(expert).expect("what is given out is held");
        (&self.records[expert as usize], memory)
    }

    /// What the layer wanted and could not be had.
    pub(crate) fn take_failed(&mut self) -> Vec<(ExpertKey, Error)> {
        std::mem::take(&mut self.failed)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            busy: self.busy.total(),
            in_flight: self.flights.len() as u64,
            slot_bytes: self.cache.slot_bytes(),
            ..self.stats
        }
    }

    /// The layer takes nothing more: what is left of its wishes is forgotten. Reads under way become guesses.
    pub(crate) fn abandon(&mut self) {
        self.release();
        for expert in self.ready.drain(..) {
            self.cache.hold(expert, false);
        }
        self.todo.clear();
        self.flights.values_mut().for_each(|flight| flight.wanted = false);
        self.n_awaited = 0;
    }

    fn release(&mut self) {
        for expert in self.given.drain(..) {
            self.cache.hold(expert, false);
        }
    }

    /// Takes in what the drive has finished.
    fn reap(&mut self) {
        while let Some(done) = self.disk.next(false) {
            self.settle(done);
        }
    }

    /// Hands the drive what is wanted, then what is guessed, as far as there are slots.
    fn start_reads(&mut self) {
        self.start_wanted();
        while self.todo.is_empty() {
            let Some(&expert) = self.guesses.front() else { return };
            if self.is_known(expert) || self.cache.is_used_since(expert, self.guessed_at) {
                self.guesses.pop_front();
                continue;
            }
            if !self.staging.is_there(&self.records[expert as usize]) {
                return;
            }
            let slot = match self.likely {
                // No more than keeps the drive busy: they may be wrong.
                true if self.flights.len() >= self.disk.depth() => return,
                true => self.cache.take_slot(expert, false),
                false => self.cache.take_spare(expert),
            };
            let Some(slot) = slot else { return };
            self.guesses.pop_front();
            self.stats.prefetches += 1;
            self.guessed.insert(expert);
            self.submit(expert, slot, Flight { attempts: 1, copy: 0, wanted: false }, None);
        }
    }

    /// Takes back guesses that the drive has not begun to read: something is missing.
    fn cancel_guesses(&mut self) {
        let guesses: Vec<u32> =
            self.flights.iter().filter(|(_, f)| !f.wanted).map(|(&expert, _)| expert).collect();
        for expert in guesses.into_iter().rev() {
            if let Some(Read { slot, unpack, .. }) = self.disk.cancel(u64::from(expert)) {
                let flight = self.flights.remove(&expert).expect("listed above");
                self.copies.end(flight.copy, self.records[expert as usize].read_bytes as u64);
                let slot = match unpack {
                    None => slot,
                    Some(unpack) => {
                        self.staging.put(slot);
                        unpack.into
                    }
                };
                self.cache.give_back(expert, slot);
                self.guesses.push_front(expert);
                // What a layer wanted and gave up was not guessed.
                self.stats.prefetches -= u64::from(self.guessed.remove(&expert));
            }
        }
        if self.flights.is_empty() {
            self.busy.end(Instant::now(), true);
        }
    }

    fn start_wanted(&mut self) {
        while let Some(&expert) = self.todo.front() {
            if !self.staging.is_there(&self.records[expert as usize]) {
                return;
            }
            let urgent = self.flights.len() < 2 * self.disk.depth();
            let Some(slot) = self.cache.take_slot(expert, urgent) else { return };
            self.todo.pop_front();
            self.n_awaited += 1;
            self.submit(expert, slot, Flight { attempts: 1, copy: 0, wanted: true }, None);
        }
    }

    /// Starts to read an expert, not from the copy that has just failed if there is another.
    fn submit(&mut self, expert: u32, slot: Slot, mut flight: Flight, failed: Option<usize>) {
        let record = &self.records[expert as usize];
        flight.copy = self.copies.begin(expert, record.read_bytes as u64, failed);
        self.busy.begin();
        let (slot, unpack) = match record.is_coded {
            false => (slot, None),
            true => {
                let (weights, record) = (Arc::clone(&self.weights), Arc::clone(record));
                let decode =
                    Box::new(move |read: &[u8], into: &mut [u8]| weights.decode(&record, read, into));
                (self.staging.take(), Some(Unpack { into: slot, decode }))
            }
        };
        self.disk.submit(Read {
            tag: u64::from(expert),
            extents: self.copies.extents(&record.extents, flight.copy),
            slot,
            check: record.hash.map(|want| Check { parts: Arc::clone(&record.hashed), want }),
            unpack,
        });
        self.flights.insert(expert, flight);
    }

    /// A read has ended: the expert is in memory, or it is read again, or given up.
    fn settle(&mut self, Done { tag, slot, read, result, ended }: Done) {
        let expert = tag as u32;
        self.busy.end(ended, self.flights.len() == 1);
        let flight = self.flights.remove(&expert).expect("the drive gives back what it was given");
        let record = &self.records[expert as usize];
        let bytes = record.read_bytes as u64;
        self.stats.reads += 1;
        self.stats.bytes_read += bytes;
        self.copies.end(flight.copy, bytes);
        let was_read: &[u8] = read.as_deref().unwrap_or(&slot);
        if result.is_ok() {
            self.stats.repairs += self.copies.repair(expert, record, was_read) as u64;
        }
        read.into_iter().for_each(|read| self.staging.put(read));
        match result {
            Ok(()) => {
                self.cache.put(expert, slot);
                if flight.wanted {
                    self.n_awaited -= 1;
                    self.cache.hold(expert, true);
                    self.ready.push(expert);
                }
            }
            Err(cause) => self.failed_read(expert, slot, flight, &cause),
        }
    }

    /// Reads again while there is hope, from another copy where there is one.
    fn failed_read(&mut self, expert: u32, slot: Slot, flight: Flight, cause: &ReadError) {
        let record = &self.records[expert as usize];
        let (key, copy) = (record.key, flight.copy);
        let path = self.copies.path(record, copy).display().to_string();
        if matches!(cause, ReadError::Checksum { .. }) {
            self.stats.checksum_failures += 1;
            self.copies.mark_changed(expert, copy);
        }
        if flight.attempts < ATTEMPTS_MAX {
            warn!(%key, path, attempt = flight.attempts, %cause, "an expert could not be read; reading it again");
            self.stats.retries += 1;
            let again = Flight { attempts: flight.attempts + 1, ..flight };
            return self.submit(expert, slot, again, Some(copy));
        }
        self.cache.give_back(expert, slot);
        if flight.wanted {
            self.n_awaited -= 1;
            let attempts = flight.attempts;
            let cause = match cause {
                // Names the file itself.
                ReadError::Io(_) => cause.to_string(),
                _ => format!("{path}: {cause}"),
            };
            self.fail(expert, Error::Unreadable { key, attempts, cause });
        }
    }

    fn fail(&mut self, expert: u32, error: Error) {
        let key = self.records[expert as usize].key;
        error!(%key, %error, "an expert is missing: `wels doctor` checks the model's files");
        self.stats.failures += 1;
        self.failed.push((key, error));
    }

    /// No slot will ever come free for what is still wanted: a broken drive has kept them.
    fn give_up_todo(&mut self) {
        for expert in std::mem::take(&mut self.todo) {
            let key = self.records[expert as usize].key;
            self.fail(
                expert,
                Error::Unreadable { key, attempts: 0, cause: "no memory is left for it".into() },
            );
        }
    }

    /// The drive has stopped and will bring nothing any more.
    fn give_up_flights(&mut self) {
        for (expert, flight) in std::mem::take(&mut self.flights) {
            if flight.wanted {
                let key = self.records[expert as usize].key;
                let cause = "the drive's reader has stopped".into();
                self.fail(expert, Error::Unreadable { key, attempts: flight.attempts, cause });
            }
        }
        self.n_awaited = 0;
    }
}

impl std::fmt::Debug for Streamer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
