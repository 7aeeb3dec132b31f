//! What is chosen of what came out.

use experts::Policy;
use experts::replay::{Counts, Outcome, Row, Table, classes_of, slots_of};

use crate::support::{choice, lfru};

fn table(decode: &[(u64, u64)], prefill_misses: &[u64]) -> Table {
    let policies = [Policy::Lru, lfru(8.0), lfru(32.0)];
    let counts = |uses, misses, bytes| Counts { steps: 1, tokens: 1, uses, misses, bytes };
    let outcome = |idx: usize| {
        let (misses, bytes) = decode.get(idx).copied().unwrap_or_default();
        let uses = if decode.is_empty() { 0 } else { 100_000 };
        Outcome { decode: counts(uses, misses, bytes), prefill: counts(100_000, prefill_misses[idx], 0) }
    };
    let row = |(idx, policy)| Row { choice: choice(policy), outcomes: vec![outcome(idx)] };
    let rows = policies.into_iter().enumerate().map(row).collect();
    let none = Outcome::default();
    Table { sizes: vec![4], n_records: 8, rows, belady: vec![none], unbounded: none }
}

#[test]
fn the_simplest_is_chosen_where_the_best_reads_one_percent_less() {
    let near = table(&[(1010, 0), (1005, 0), (1000, 0)], &[0; 3]);
    assert_eq!(near.best(0).choice, choice(lfru(32.0)));
    assert_eq!(near.choose(0).choice, choice(Policy::Lru));
    let far = table(&[(1011, 0), (1005, 0), (1000, 0)], &[0; 3]);
    assert_eq!(far.choose(0).choice, choice(lfru(8.0)));
}

#[test]
fn bytes_count_where_sizes_are_known_and_prompts_where_nothing_is_decoded() {
    let bytes = table(&[(1000, 9000), (1100, 8000), (1200, 8500)], &[0; 3]);
    assert_eq!(bytes.choose(0).choice, choice(lfru(8.0)));
    assert_eq!(table(&[], &[50, 40, 30]).choose(0).choice, choice(lfru(32.0)));
}

#[test]
fn each_size_of_record_gets_the_same_share_of_slots() {
    assert_eq!(classes_of(&[20, 30, 20, 20]), [0, 1, 0, 0]);
    assert_eq!(slots_of(8, &[0, 1, 0, 0], 4), [6, 2]);
    // Of 7, two thirds are 4.67 and one third 2.33.
    assert_eq!(slots_of(7, &[0, 0, 1], 4), [5, 2]);
    assert_eq!(slots_of(12, &[0, 0, 1], 4), [8, 4]);
    assert_eq!(slots_of(1, &[0, 0, 1], 4), [1, 0]);
}
