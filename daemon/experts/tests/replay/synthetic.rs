//! The law's statistics are the published ones that it was fitted to.

use experts::Policy;
use experts::replay::synthetic::Law;
use experts::replay::{Choice, Setup, replay};
use proptest::prelude::*;

use crate::support::choice;

#[test]
fn lru_and_the_most_used_hit_what_was_published() {
    let mut sums = [0.0; 3];
    for seed in 1..=4 {
        let law = format!("layers=1,experts=512,top-k=10,tokens=6000,prompt=0,answer=6000,seed={seed}");
        let trace = law.parse::<Law>().unwrap().trace();
        let rate = |records, choice| {
            let setup = Setup { choices: vec![choice], ..Setup::new(vec![0], vec![records]) };
            replay(&trace, &setup).unwrap().rows[0].outcomes[0].decode.hit_rate().unwrap()
        };
        let most_used = Choice { pinned_share: 1.0, ..choice(Policy::Lru) };
        let rates = [rate(64, choice(Policy::Lru)), rate(128, choice(Policy::Lru)), rate(32, most_used)];
        sums.iter_mut().zip(rates).for_each(|(sum, rate)| *sum += rate);
    }
    let means = sums.map(|sum| sum / 4.0);

    for (got, published) in means.into_iter().zip([0.67, 0.81, 0.10]) {
        assert!((got - published).abs() < 0.015, "{means:?}");
    }
}

#[test]
fn a_prompt_of_300_tokens_wants_most_experts() {
    let trace = "layers=4,tokens=2000,answer=200".parse::<Law>().unwrap().trace();
    let prompts = trace.steps().filter(|step| step.n_tokens == 300);
    let wanted: Vec<usize> =
        prompts.flat_map(|step| step.visits().map(|visit| visit.experts.len())).collect();
    let mean = wanted.iter().sum::<usize>() as f64 / wanted.len() as f64 / 256.0;
    assert!(wanted.len() == 40 && (0.84..0.90).contains(&mean), "{mean} of {wanted:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_comparison() {
    let law = "layers=3,experts=16,top-k=4,tokens=200,prompt=20,answer=50".parse::<Law>().unwrap();
    let trace = law.trace();
    assert_eq!(trace, law.trace());
    assert_ne!(trace.to_bytes(), Law { seed: 2, ..law }.trace().to_bytes());
    let setup = Setup::new(vec![5, 5, 7], vec![8, 24, 40]);
    assert_eq!(replay(&trace, &setup).unwrap(), replay(&trace, &setup).unwrap());
    let tokens: u32 = trace.steps().filter(|step| step.n_tokens == 1).count() as u32;
    assert_eq!((tokens, trace.n_steps()), (200, 204));
    assert!(
        trace.steps().filter(|step| step.n_tokens == 1).all(|s| s.visits().all(|v| v.experts.len() == 4))
    );
}

#[test]
fn laws_are_read_as_they_are_written_and_refused_with_words() {
    let law = Law { seed: 7, zipf: 0.5, ..Law::default() };
    assert_eq!(law.to_string().parse(), Ok(law));
    assert_eq!("".parse(), Ok(Law::default()));
    for wrong in [
        "layers",
        "layers=0",
        "layers=9999",
        "experts=4,top-k=5",
        "recency=1.5",
        "churn=nan",
        "zipf=-1",
        "colour=3",
        "tokens=4000000000",
        "answer=1,prompt=4000000000",
        "window=0",
        "topic=0",
        "tokens=-1",
    ] {
        wrong.parse::<Law>().expect_err(wrong);
    }
}

proptest! {
    #[test]
    fn any_accepted_law_makes_a_trace(
        (experts, top_k) in (1_u32..12).prop_flat_map(|experts| (Just(experts), 1..=experts)),
        (tokens, prompt, answer) in (1_u32..40, 0_u32..20, 1_u32..40),
        (zipf, recency, churn) in (0.0..16.0, 0.0..=1.0, 0.0..=1.0),
        (window, topic, seed) in (1_u32..8, 1_u32..8, any::<u64>()),
    ) {
        let law =
            Law { layers: 2, experts, top_k, tokens, prompt, answer, zipf, recency, churn, window, topic, seed };
        let law = law.to_string().parse::<Law>().unwrap();
        let trace = law.trace();
        prop_assert_eq!(trace.n_steps() as u32, tokens + if prompt > 0 { tokens.div_ceil(answer) } else { 0 });
    }
}
