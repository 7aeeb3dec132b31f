//! The most used experts of the part of a trace that does not count.

use std::cmp::Reverse;

use super::scored_from;
use crate::trace::Trace;

/// Of each pool, the records used in the first half, the most used first.
pub(super) struct Profile {
    ranked: Vec<Vec<u32>>,
}

impl Profile {
    pub(super) fn of(trace: &Trace, classes: &[u32]) -> Self {
        let header = trace.header();
        let n_experts = header.n_experts as usize;
        let mut uses = vec![0_u32; header.layers.len() * n_experts];
        for step in trace.steps().take(scored_from(trace)) {
            for visit in step.visits() {
                visit.experts.iter().for_each(|&e| uses[visit.place * n_experts + usize::from(e)] += 1);
            }
        }
        let n_classes = classes.iter().max().map_or(0, |&class| class as usize + 1);
        let mut ranked = vec![Vec::new(); n_classes];
        for record in (0..uses.len()).filter(|&record| uses[record] > 0) {
            ranked[classes[record / n_experts] as usize].push(record as u32);
        }
        ranked.iter_mut().for_each(|records| records.sort_by_key(|&r| Reverse(uses[r as usize])));
        Self { ranked }
    }

    /// What `share` of the slots are to hold for good.
    pub(super) fn pins(&self, share: f64, slots: &[usize]) -> impl Iterator<Item = u32> {
        let pools = self.ranked.iter().zip(slots);
        pools.flat_map(move |(records, &slots)| records.iter().copied().take((share * slots as f64) as usize))
    }
}
