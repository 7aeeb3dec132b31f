//! Belady's bound: the fewest misses that any cache of a size can have on a trace.
//!
//! It knows when each record is wanted next, and lets go of what is wanted furthest in the future (MIN). To be below every
//! policy here, in the steps that count, it is given whatever one of them might have:
//! - It starts the second half with the best that a cache can then hold of what was wanted before: a policy holds some of
//!   that, too, whatever it did in the first half.
//! - Experts of a visit are wanted at once, so what is missing is what was not there before the visit. Afterwards it may hold
//!   any of what was there and what was wanted: also those that pass through without staying, as with pins.
//! - Misses of decode steps and of prompts are bounded each for its kind alone: where the other kind wants an expert, it is
//!   there for the taking and costs nothing. No policy need reach both bounds at once.
//!
//! Keeping a record pays from one use to the next, if that one counts: an interval, of which a cache can hold as many at a
//! time as it has slots. Letting go of those that end last leaves the most of them whole. Records of a pool are of one size,
//! and pools don't share slots, so the fewest misses are the fewest bytes.
//! Source: Belady 1966, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2); Mattson
//! et al. 1970, "Evaluation techniques for storage hierarchies", ibid. 9(2).

use std::collections::BinaryHeap;

use super::{Kind, Outcome, Setup, scored_from};
use crate::trace::{Trace, Visit};

/// A use that never comes, or costs nothing.
const NEVER: u32 = u32::MAX;

/// The second half of a trace, as somebody sees it who knows the future.
pub(super) struct Future {
    kind: Kind,
    /// Of each use, the number of the visit that wants the record next, [`NEVER`] if that one does not count.
    next: Vec<u32>,
    /// Of records of the first half, the first visit that wants it, if it counts, the soonest first.
    first: Vec<(u32, u32)>,
}

impl Future {
    pub(super) fn of(trace: &Trace, kind: Kind) -> Self {
        let n_experts = trace.header().n_experts as usize;
        let n_records = trace.header().layers.len() * n_experts;
        let mut coming = vec![NEVER; n_records];
        let mut next = Vec::new();
        let steps = || trace.steps().skip(scored_from(trace));
        let mut number = steps().map(|step| step.visits().count()).sum::<usize>() as u32;
        for step in steps().rev() {
            for visit in step.visits().rev() {
                number -= 1;
                for &expert in visit.experts.iter().rev() {
                    let coming = &mut coming[visit.place * n_experts + usize::from(expert)];
                    next.push(*coming);
                    *coming = if Kind::of(step.n_tokens) == kind { number } else { NEVER };
                }
            }
        }
        next.reverse();
        let mut was_wanted = vec![false; n_records];
        for visit in trace.steps().take(scored_from(trace)).flat_map(|step| step.visits()) {
            visit.experts.iter().for_each(|&e| was_wanted[visit.place * n_experts + usize::from(e)] = true);
        }
        let first = (0..n_records).filter(|&r| was_wanted[r] && coming[r] != NEVER);
        let mut first: Vec<_> = first.map(|record| (coming[record], record as u32)).collect();
        first.sort_unstable();
        Self { kind, next, first }
    }

    /// The steps of this kind, with the fewest misses that a cache with `slots` in each pool can have.
    pub(super) fn bound(&self, trace: &Trace, setup: &Setup, slots: &[usize]) -> Outcome {
        let mut cache = Foresight::new(trace, setup, slots, &self.first);
        let mut outcome = Outcome::default();
        let counts = outcome.of(self.kind);
        let mut next = &self.next[..];
        for step in trace.steps().skip(scored_from(trace)) {
            let counting = Kind::of(step.n_tokens) == self.kind;
            for visit in step.visits() {
                let (here, later) = next.split_at(visit.experts.len());
                next = later;
                let misses = cache.visit(&visit, setup.classes[visit.place], here);
                if counting {
                    counts.add_visit(visit.experts.len(), misses, setup.record_bytes[visit.place]);
                }
            }
            if counting {
                counts.add_step(step.n_tokens);
            }
        }
        outcome
    }
}

/// A cache that holds what is wanted soonest.
struct Foresight {
    n_experts: usize,
    /// Of each record, when it is wanted next if it is cached, [`NEVER`] if it is not.
    next: Vec<u32>,
    pools: Vec<Pool>,
}

struct Pool {
    slots: usize,
    cached: usize,
    /// When cached records are wanted next, the furthest first; entries that `next` doesn't confirm are of the past.
    entries: BinaryHeap<(u32, u32)>,
}

impl Foresight {
    fn new(trace: &Trace, setup: &Setup, slots: &[usize], first: &[(u32, u32)]) -> Self {
        let n_experts = trace.header().n_experts as usize;
        let pools = slots.iter().map(|&slots| Pool { slots, cached: 0, entries: BinaryHeap::new() });
        let next = vec![NEVER; setup.classes.len() * n_experts];
        let mut cache = Self { n_experts, next, pools: pools.collect() };
        for &(soonest, record) in first {
            let pool = &mut cache.pools[setup.classes[record as usize / n_experts] as usize];
            if pool.cached < pool.slots {
                pool.cached += 1;
                pool.entries.push((soonest, record));
                cache.next[record as usize] = soonest;
            }
        }
        cache
    }

    /// Serves a layer, given when each expert is wanted next; returns how many were missing.
    fn visit(&mut self, visit: &Visit<'_>, class: u32, next: &[u32]) -> usize {
        let pool = &mut self.pools[class as usize];
        let mut missing = 0;
        for (&expert, &soonest) in visit.experts.iter().zip(next) {
            let record = visit.place * self.n_experts + usize::from(expert);
            let known = std::mem::replace(&mut self.next[record], soonest);
            let (was_cached, is_cached) = (known != NEVER, soonest != NEVER);
            missing += usize::from(!was_cached);
            pool.cached = pool.cached + usize::from(is_cached) - usize::from(was_cached);
            if is_cached && soonest != known {
                pool.entries.push((soonest, record as u32));
            }
        }
        pool.trim(&mut self.next);
        missing
    }
}

impl Pool {
    /// Lets go of what is wanted last until the rest fits.
    fn trim(&mut self, next: &mut [u32]) {
        while self.cached > self.slots {
            let (soonest, record) = self.entries.pop().expect("an entry for each record");
            let known = &mut next[record as usize];
            if *known == soonest {
                *known = NEVER;
                self.cached -= 1;
            }
        }
        if self.entries.len() > 2 * self.slots + 64 {
            self.entries.retain(|&(soonest, record)| next[record as usize] == soonest);
        }
    }
}
