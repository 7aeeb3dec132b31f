//! A cache of one size under one choice.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::Policy;
use crate::trace::Visit;

/// A cache's slots, and the worth of every record there is.
pub(super) struct Cache {
    n_experts: usize,
    records: Vec<Record>,
    pools: Vec<Pool>,
    /// Experts that a visit misses.
    missing: Vec<u32>,
    aside: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Record {
    /// After its latest use, cached or not.
    worth: f64,
    is_cached: bool,
}

/// Slots for records of one size.
struct Pool {
    free: usize,
    /// What may give way, each record once, the least worth first.
    ///
    /// A use leaves the entry as it is: it is then worth more than the entry says, and comes up in time to be corrected.
    entries: BinaryHeap<Reverse<Entry>>,
}

#[derive(Clone, Copy, PartialEq)]
struct Entry {
    worth: f64,
    record: u32,
}

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.worth.total_cmp(&other.worth).then(self.record.cmp(&other.record))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Cache {
    /// A cache with `slots` in each pool, empty but for the pins.
    pub(super) fn new(
        n_records: usize,
        n_experts: usize,
        slots: &[usize],
        classes: &[u32],
        pins: impl Iterator<Item = u32>,
    ) -> Self {
        let mut records = vec![Record { worth: Policy::UNUSED, is_cached: false }; n_records];
        let mut pools: Vec<_> = slots.iter().map(|&free| Pool { free, entries: BinaryHeap::new() }).collect();
        for record in pins.map(|record| record as usize) {
            records[record].is_cached = true;
            pools[classes[record / n_experts] as usize].free -= 1;
        }
        Self { n_experts, records, pools, missing: Vec::new(), aside: Vec::new() }
    }

    /// Serves a layer, given the new worth of each expert it wants; returns how many were missing.
    pub(super) fn visit(&mut self, visit: &Visit<'_>, class: u32, worths: &[f64]) -> usize {
        let first = visit.place * self.n_experts;
        self.missing.clear();
        for (&expert, &worth) in visit.experts.iter().zip(worths) {
            let idx = first + usize::from(expert);
            let record = &mut self.records[idx];
            record.worth = worth;
            if !record.is_cached {
                self.missing.push(idx as u32);
            }
        }
        let n_missing = self.missing.len();
        if n_missing > 0 {
            self.read(visit, class);
        }
        n_missing
    }

    /// Gives the missing experts slots, as far as there are any: what a visit wants does not give way to the rest of it.
    fn read(&mut self, visit: &Visit<'_>, class: u32) {
        let first = visit.place * self.n_experts;
        let is_wanted = |record: u32| {
            let expert = (record as usize).checked_sub(first).and_then(|e| u16::try_from(e).ok());
            expert.is_some_and(|e| visit.experts.binary_search(&e).is_ok())
        };
        let Self { records, pools, missing, aside, .. } = self;
        let pool = &mut pools[class as usize];
        let mut room = pool.free.min(missing.len());
        pool.free -= room;
        while room < missing.len() && pool.evict(records, is_wanted, aside) {
            room += 1;
        }
        pool.entries.extend(aside.drain(..).map(Reverse));
        for &record in &missing[..room] {
            let Record { worth, is_cached } = &mut records[record as usize];
            *is_cached = true;
            pool.entries.push(Reverse(Entry { worth: *worth, record }));
        }
    }
}

impl Pool {
    /// Empties the slot of the least worth that is not wanted, if there is one. Entries of what is wanted go aside.
    fn evict(
        &mut self,
        records: &mut [Record],
        is_wanted: impl Fn(u32) -> bool,
        aside: &mut Vec<Entry>,
    ) -> bool {
        while let Some(mut least) = self.entries.peek_mut() {
            let Reverse(entry) = *least;
            let record = &mut records[entry.record as usize];
            if record.worth > entry.worth {
                *least = Reverse(Entry { worth: record.worth, ..entry });
                continue;
            }
            PeekMut::pop(least);
            if is_wanted(entry.record) {
                aside.push(entry);
                continue;
            }
            record.is_cached = false;
            return true;
        }
        false
    }
}
