//! A cache of one size under one choice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::Policy;
use crate::trace::Visit;

/// A cache's slots, and the worth of every record there is.
pub(super) struct Cache {
    n_experts: usize,
    /// Of each record after its latest use, cached or not.
    worths: Vec<f64>,
    /// Of each record.
    is_cached: Vec<bool>,
    pools: Vec<Pool>,
    /// Experts that a visit misses.
    missing: Vec<u32>,
    aside: Vec<Entry>,
}

/// Slots for records of one size.
struct Pool {
    free: usize,
    /// What may give way, each record once, the least worth first.
    ///
    /// A use leaves the entry as it is: it is then worth more than the entry says, and comes up in time to be corrected.
    entries: BinaryHeap<Reverse<Entry>>,
}

/// A record at a worth, as one number that compares as the two do: worths are never negative, so their bits ascend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

impl Entry {
    fn new(worth: f64, record: u32) -> Self {
        Self(u128::from(worth.to_bits()) << 32 | u128::from(record))
    }

    fn record(self) -> u32 {
        self.0 as u32
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
        let (worths, mut is_cached) = (vec![Policy::UNUSED; n_records], vec![false; n_records]);
        let mut pools: Vec<_> = slots.iter().map(|&free| Pool { free, entries: BinaryHeap::new() }).collect();
        for record in pins.map(|record| record as usize) {
            is_cached[record] = true;
            pools[classes[record / n_experts] as usize].free -= 1;
        }
        Self { n_experts, worths, is_cached, pools, missing: Vec::new(), aside: Vec::new() }
    }

    /// Serves a layer, given the new worth of each expert it wants; returns how many were missing.
    pub(super) fn visit(&mut self, visit: &Visit<'_>, class: u32, worths: &[f64]) -> usize {
        let first = visit.place * self.n_experts;
        self.missing.resize(visit.experts.len(), 0);
        let mut n_missing = 0;
        // Without a branch: whether an expert is there is anybody's guess.
        for (&expert, &worth) in visit.experts.iter().zip(worths) {
            let record = first + usize::from(expert);
            self.worths[record] = worth;
            self.missing[n_missing] = record as u32;
            n_missing += usize::from(!self.is_cached[record]);
        }
        self.missing.truncate(n_missing);
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
        let Self { worths, is_cached, pools, missing, aside, .. } = self;
        let pool = &mut pools[class as usize];
        let mut room = pool.free.min(missing.len());
        pool.free -= room;
        while room < missing.len()
            && let Some(record) = pool.evict(worths, is_wanted, aside)
        {
            is_cached[record as usize] = false;
            room += 1;
        }
        pool.entries.extend(aside.drain(..).map(Reverse));
        for &record in &missing[..room] {
            is_cached[record as usize] = true;
            pool.entries.push(Reverse(Entry::new(worths[record as usize], record)));
        }
    }
}

impl Pool {
    /// Empties the slot of the least worth that is not wanted, if there is one. Entries of what is wanted go aside.
    fn evict(
        &mut self,
        worths: &[f64],
        is_wanted: impl Fn(u32) -> bool,
        aside: &mut Vec<Entry>,
    ) -> Option<u32> {
        while let Some(mut least) = self.entries.peek_mut() {
            let Reverse(entry) = *least;
            let record = entry.record();
            let now = Entry::new(worths[record as usize], record);
            if now != entry {
                *least = Reverse(now);
                continue;
            }
            PeekMut::pop(least);
            if !is_wanted(record) {
                return Some(record);
            }
            aside.push(entry);
        }
        None
    }
}
