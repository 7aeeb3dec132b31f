//! Belady's bound: no cache does better, and one that knows the future does as well.

use experts::Policy;
use experts::replay::{DECODE_TOKENS_MAX, Outcome, Setup, replay};
use experts::trace::Trace;
use proptest::prelude::*;

use crate::support::{choice, steps, trace, trace_from};

/// The fewest misses of one kind of step, by trying all contents that a cache can have after each visit.
///
/// With `keeps`, everything that a visit wants is in the cache after it: nothing passes through.
fn exhaustive(trace: &Trace, slots: usize, is_decode: bool, keeps: bool) -> u64 {
    let n_experts = trace.header().n_experts as usize;
    let n_records = trace.header().layers.len() * n_experts;
    let fits = |set: usize| set.count_ones() as usize <= slots;
    let wanted_by = |steps: std::ops::Range<usize>| {
        let visits = steps.flat_map(|idx| {
            let step = trace.step(idx);
            step.visits().map(move |visit| (step.n_tokens, visit))
        });
        let set = move |(n_tokens, visit): (u32, experts::trace::Visit<'_>)| {
            let bits = visit.experts.iter().map(|&e| 1 << (visit.place * n_experts + usize::from(e)));
            (n_tokens, bits.fold(0_usize, |all, bit| all | bit))
        };
        visits.map(set).collect::<Vec<_>>()
    };
    let before = wanted_by(0..trace.n_steps() / 2).iter().fold(0, |all, (_, set)| all | set);
    let none = u64::MAX;
    let start = |set: usize| if fits(set) && set & !before == 0 { 0 } else { none };
    let mut fewest: Vec<u64> = (0..1 << n_records).map(start).collect();
    for (n_tokens, wanted) in wanted_by(trace.n_steps() / 2..trace.n_steps()) {
        let counts = (n_tokens <= DECODE_TOKENS_MAX) == is_decode;
        let mut after = vec![none; fewest.len()];
        for (set, &misses) in fewest.iter().enumerate().filter(|(_, misses)| **misses != none) {
            let missing = if counts { u64::from((wanted & !set).count_ones()) } else { 0 };
            let may = set | wanted;
            for next in (0..after.len()).filter(|next| next & !may == 0 && fits(*next)) {
                if !keeps || next & wanted == wanted {
                    after[next] = after[next].min(misses + missing);
                }
            }
        }
        fewest = after;
    }
    fewest.into_iter().min().unwrap()
}

fn misses(outcome: &Outcome, is_decode: bool) -> u64 {
    if is_decode { outcome.decode.misses } else { outcome.prefill.misses }
}

#[test]
fn knowing_the_future_saves_what_no_policy_can() {
    // {0, 1} are kept for the last two steps while 2 and 3 pass.
    let trace = trace(1, 4, &[0, 0, 0, 1, 2, 3, 1, 0]);
    let table = replay(&trace, &Setup::new(vec![0], vec![1, 2])).unwrap();
    let missed: Vec<_> = table.belady.iter().map(|outcome| outcome.decode.misses).collect();
    assert_eq!((missed, table.unbounded.decode.misses), (vec![3, 2], 2));
}

proptest! {
    #[test]
    fn no_policy_beats_the_bound(steps in steps()) {
        let trace = trace_from(2, 4, &steps);
        let Ok(table) = replay(&trace, &Setup::new(vec![0, 0], (1..=8).collect())) else { return Ok(()) };
        for is_decode in [false, true] {
            for row in &table.rows {
                for (got, bound) in row.outcomes.iter().zip(&table.belady) {
                    prop_assert!(misses(got, is_decode) >= misses(bound, is_decode), "{}", row.choice);
                }
            }
            let bounds: Vec<_> = table.belady.iter().map(|bound| misses(bound, is_decode)).collect();
            prop_assert!(bounds.is_sorted_by(|a, b| a >= b), "{bounds:?}");
            prop_assert_eq!(bounds[7], misses(&table.unbounded, is_decode));
        }
    }

    #[test]
    fn the_bound_is_the_best_that_an_exhaustive_search_finds(steps in steps(), slots in 1_usize..5) {
        let trace = trace_from(2, 4, &steps);
        let Ok(table) = replay(&trace, &Setup::new(vec![0, 0], vec![slots])) else { return Ok(()) };
        for is_decode in [false, true] {
            let want = exhaustive(&trace, slots, is_decode, false);
            prop_assert_eq!(misses(&table.belady[0], is_decode), want);
        }
    }

    #[test]
    fn of_single_experts_it_is_the_best_with_a_slot_more_at_most(
        records in prop::collection::vec(0_u32..6, 2..32),
        slots in 1_usize..4,
    ) {
        let trace = trace(2, 3, &records);
        let setup = Setup { choices: vec![choice(Policy::Lru)], ..Setup::new(vec![0, 0], vec![slots]) };
        let bound = replay(&trace, &setup).unwrap().belady[0].decode.misses;
        prop_assert_eq!(bound, exhaustive(&trace, slots, true, false));
        // A cache in which nothing passes through needs one slot for that.
        prop_assert!(bound <= exhaustive(&trace, slots, true, true));
        prop_assert!(bound >= exhaustive(&trace, slots + 1, true, true));
    }
}
