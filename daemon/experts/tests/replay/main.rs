//! The simulated cache: by hand, against a plain list, and against an exhaustive search of what is possible.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bound;
mod plain;
mod support;
mod synthetic;
mod table;

use experts::Policy;
use experts::replay::{Choice, Error, Setup, replay};
use support::{choice, hits, lfru, trace, trace_of};

/// Half-life so long that only the number of uses counts.
const FOREVER: f64 = 1e9;

#[test]
fn lru_lets_go_of_what_was_used_longest_ago() {
    // The first half leaves {1, 2}; then 1 is there, 0 takes 2's place, 2 takes 1's.
    let trace = trace(1, 4, &[0, 1, 2, 1, 0, 2]);
    assert_eq!(hits(&trace, 2, choice(Policy::Lru)), (1, 3));
}

#[test]
fn lfru_keeps_what_is_used_often_where_lru_forgets_it() {
    // The first half leaves {0, 1}. LFRU: 2 takes 1's place, 3 takes 2's, 1 takes 3's; LRU has lost 0 to 2.
    let trace = trace(1, 4, &[0, 0, 0, 1, 2, 3, 1, 0]);
    assert_eq!(hits(&trace, 2, choice(lfru(FOREVER))), (1, 4));
    assert_eq!(hits(&trace, 2, choice(Policy::Lru)), (0, 4));
    // A use counts half after a step: the last one outweighs all before it, as with LRU.
    assert_eq!(hits(&trace, 2, choice(lfru(1.0))), (0, 4));
}

#[test]
fn an_expert_keeps_its_worth_when_it_leaves() {
    // 2 takes the place of 0, which was used twice, and leaves {1, 2}; 0 comes back in 2's place, and has five uses
    // when 3 comes, so that 3 takes the place of 1, which has four.
    let trace = trace(1, 4, &[0, 0, 1, 1, 1, 2, 2, 1, 0, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(hits(&trace, 2, choice(lfru(FOREVER))), (6, 8));
}

#[test]
fn pins_stay_and_come_from_the_first_half_alone() {
    // 0 is the most used of the first half; 3, of the second, is no pin.
    let trace = trace(1, 4, &[0, 0, 0, 1, 3, 3, 2, 3, 0, 3]);
    let pinned = |pinned_share| Choice { policy: Policy::Lru, pinned_share };
    // One slot for 0, one for the rest. 3 is the last of the first half; then 3 is there, 2 and 3 change places, 0 is pinned.
    assert_eq!(hits(&trace, 2, pinned(0.5)), (3, 5));
    // Both for pins, 0 and 1.
    assert_eq!(hits(&trace, 2, pinned(1.0)), (1, 5));
}

#[test]
fn what_a_visit_wants_does_not_give_way_to_the_rest_of_it() {
    // The first step leaves {0, 1}: 1 is wanted again and stays, 0 goes.
    let trace =
        trace_of(1, 4, &[(1, &[(0, &[0, 1])]), (1, &[(0, &[1, 2])]), (1, &[(0, &[1])]), (1, &[(0, &[2])])]);
    assert_eq!(hits(&trace, 2, choice(Policy::Lru)), (2, 2));
}

#[test]
fn experts_beyond_the_slots_pass_through() {
    let all: &[(usize, &[u32])] = &[(0, &[0, 1, 2, 3])];
    let trace = trace_of(1, 4, &[(1, all), (1, all), (1, all), (1, all)]);
    for policy in [Policy::Lru, lfru(2.0)] {
        assert_eq!(hits(&trace, 3, choice(policy)), (6, 8));
    }
}

#[test]
fn records_of_other_sizes_have_slots_of_their_own() {
    let visits: &[(usize, &[u32])] = &[(0, &[0]), (1, &[0]), (1, &[1])];
    let trace = trace_of(2, 2, &[(1, visits); 4]);
    let run = |record_bytes: Vec<u64>| {
        let setup = Setup { choices: vec![choice(Policy::Lru)], ..Setup::new(record_bytes, vec![2]) };
        replay(&trace, &setup).unwrap().rows[0].outcomes[0].decode
    };
    // Three records in turn through two slots.
    let one_pool = run(vec![10, 10]);
    assert_eq!((one_pool.misses, one_pool.bytes), (6, 60));
    // A slot for each layer: the first layer's record stays.
    let two_pools = run(vec![10, 7]);
    assert_eq!((two_pools.misses, two_pools.bytes), (4, 28));
}

#[test]
fn decode_steps_and_prompts_are_counted_apart() {
    let few: &[(usize, &[u32])] = &[(0, &[0, 1])];
    let many: &[(usize, &[u32])] = &[(0, &[0, 1, 2, 3])];
    let trace = trace_of(1, 4, &[(1, few), (1, few), (16, few), (17, many), (1, few), (1, few)]);
    let setup = Setup { choices: vec![choice(Policy::Lru)], ..Setup::new(vec![5], vec![4]) };
    let outcome = replay(&trace, &setup).unwrap().rows[0].outcomes[0];
    assert_eq!((outcome.decode.steps, outcome.decode.tokens, outcome.decode.uses), (2, 2, 4));
    assert_eq!((outcome.prefill.steps, outcome.prefill.tokens, outcome.prefill.misses), (1, 17, 2));
    assert_eq!((outcome.prefill.hit_rate(), outcome.prefill.bytes_per_token()), (Some(0.5), 10.0 / 17.0));
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let run = |trace, records| replay(&trace, &Setup::new(vec![1], vec![records])).map(|_| ());
    assert_eq!(run(trace(1, 4, &[]), 1), Err(Error::Short { steps: 0, scored: 0 }));
    assert_eq!(run(trace(1, 4, &[0]), 1), Err(Error::Short { steps: 1, scored: 1 }));
    assert_eq!(
        run(trace_of(1, 4, &[(1, &[(0, &[1])]), (1, &[(0, &[])])]), 1),
        Err(Error::Short { steps: 2, scored: 0 })
    );
    assert_eq!(run(trace(1, 4, &[0, 1]), 0), Err(Error::Size { records: 0, max: 4 }));
    assert_eq!(run(trace(1, 4, &[0, 1]), 5), Err(Error::Size { records: 5, max: 4 }));
}
