//! The same cache, written as plainly as can be.

use experts::replay::{Choice, Counts, DECODE_TOKENS_MAX, Outcome, Setup, replay, slots_of};
use experts::trace::Trace;
use experts::{Policy, replay};
use proptest::prelude::*;

use crate::support::{steps, trace_from};

/// A pool of slots: what is in it, and what of that stays.
struct Plain {
    slots: usize,
    cached: Vec<usize>,
    pinned: Vec<usize>,
}

impl Plain {
    /// Whether a missing record gets in.
    fn make_room(&mut self, worth: &[f64], wanted: &[usize]) -> bool {
        if self.cached.len() < self.slots {
            return true;
        }
        let may_go = |r: &&usize| !wanted.contains(r) && !self.pinned.contains(r);
        let order = |a: &&usize, b: &&usize| worth[**a].total_cmp(&worth[**b]).then(a.cmp(b));
        let Some(&least) = self.cached.iter().filter(may_go).min_by(order) else { return false };
        self.cached.retain(|&record| record != least);
        true
    }
}

fn pools(trace: &Trace, setup: &Setup, records: usize, share: f64) -> Vec<Plain> {
    let n_experts = trace.header().n_experts as usize;
    let mut uses = vec![0; n_experts * setup.classes.len()];
    for visit in trace.steps().take(trace.n_steps() / 2).flat_map(|step| step.visits()) {
        visit.experts.iter().for_each(|&e| uses[visit.place * n_experts + usize::from(e)] += 1);
    }
    let slots = slots_of(records, &setup.classes, n_experts);
    let pool = |(class, slots): (usize, usize)| {
        let mut of_class: Vec<usize> = (0..uses.len())
            .filter(|&r| uses[r] > 0 && setup.classes[r / n_experts] as usize == class)
            .collect();
        of_class.sort_by_key(|&r| (std::cmp::Reverse(uses[r]), r));
        of_class.truncate((share * slots as f64).floor() as usize);
        Plain { slots, cached: of_class.clone(), pinned: of_class }
    };
    slots.into_iter().enumerate().map(pool).collect()
}

fn simulate(trace: &Trace, setup: &Setup, records: usize, choice: Choice) -> Outcome {
    let n_experts = trace.header().n_experts as usize;
    let mut pools = pools(trace, setup, records, choice.pinned_share);
    let mut worth = vec![Policy::UNUSED; n_experts * setup.classes.len()];
    let mut outcome = Outcome::default();
    for (now, step) in trace.steps().enumerate() {
        let mut counts = Counts { steps: 1, tokens: u64::from(step.n_tokens), ..Counts::default() };
        for visit in step.visits() {
            let wanted: Vec<_> =
                visit.experts.iter().map(|&e| visit.place * n_experts + usize::from(e)).collect();
            let pool = &mut pools[setup.classes[visit.place] as usize];
            wanted.iter().for_each(|&r| worth[r] = choice.policy.touched(worth[r], now as f64));
            let missing: Vec<_> = wanted.iter().copied().filter(|r| !pool.cached.contains(r)).collect();
            counts.uses += wanted.len() as u64;
            counts.misses += missing.len() as u64;
            counts.bytes += setup.record_bytes[visit.place] * missing.len() as u64;
            for record in missing {
                if pool.make_room(&worth, &wanted) {
                    pool.cached.push(record);
                }
            }
        }
        if now >= trace.n_steps() / 2 {
            let is_decode = step.n_tokens <= DECODE_TOKENS_MAX;
            let sum = if is_decode { &mut outcome.decode } else { &mut outcome.prefill };
            sum.steps += counts.steps;
            sum.tokens += counts.tokens;
            sum.uses += counts.uses;
            sum.misses += counts.misses;
            sum.bytes += counts.bytes;
        }
    }
    outcome
}

proptest! {
    #[test]
    fn every_choice_does_what_a_plain_list_does(steps in steps(), bytes in prop::sample::select(vec![3_u64, 5])) {
        let trace = trace_from(2, 4, &steps);
        let mut setup = Setup::new(vec![3, bytes], (1..=8).collect());
        setup.choices.extend([0.0, 0.5, 1.0].map(|pinned_share| {
            Choice { policy: Policy::Lfru { half_life: 0.75 }, pinned_share }
        }));
        let table = match replay(&trace, &setup) {
            Err(replay::Error::Short { .. }) => return Ok(()),
            table => table.unwrap(),
        };
        for row in &table.rows {
            for (&records, got) in table.sizes.iter().zip(&row.outcomes) {
                let want = simulate(&trace, &setup, records, row.choice);
                prop_assert_eq!(got, &want, "{} records, {}", records, row.choice);
            }
        }
    }
}
