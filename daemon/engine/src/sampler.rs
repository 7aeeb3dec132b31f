//! From logits to the next token.

use model::TokenId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::{Logprobs, Sampling};

/// The sampler of one sequence: its settings, its random numbers, and what it has generated.
///
/// Order: penalties and bias, temperature, top-k, top-p, min-p, draw. Cuts work on the tempered distribution.
#[derive(Debug)]
pub struct Sampler {
    settings: Sampling,
    rng: ChaCha8Rng,
    generated: Vec<TokenId>,
    window: Vec<TokenId>,
    candidates: Vec<(f32, TokenId)>,
}

impl Sampler {
    /// A sampler that has seen `prompt`: the repetition penalty looks back on it.
    pub fn new(settings: Sampling, prompt: &[TokenId]) -> Self {
        let keep = prompt.len().min(settings.penalty_window);
        Self {
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            window: prompt[prompt.len() - keep..].to_vec(),
            generated: Vec::new(),
            candidates: Vec::new(),
            settings,
        }
    }

    /// Chooses a token and remembers it. `logits` [n_vocab] is changed in place by penalties and bias.
    pub fn sample(&mut self, logits: &mut [f32]) -> TokenId {
        self.penalise(logits);
        let id = if self.settings.temperature <= 0.0 { argmax(logits) } else { self.draw(logits) };
        self.generated.push(id);
        self.window.push(id);
        if self.window.len() > self.settings.penalty_window.max(1) * 2 {
            self.window.drain(..self.window.len() - self.settings.penalty_window);
        }
        id
    }

    /// Repetition penalty: Keskar et al. 2019, arXiv:1909.05858. Frequency and presence: OpenAI's API reference.
    fn penalise(&self, logits: &mut [f32]) {
        let s = &self.settings;
        if s.repetition_penalty != 1.0 {
            let mut seen = self.window[self.window.len().saturating_sub(s.penalty_window)..].to_vec();
            seen.sort_unstable();
            seen.dedup();
            for id in seen {
                let Some(logit) = logits.get_mut(id as usize) else { continue };
                *logit =
                    if *logit > 0.0 { *logit / s.repetition_penalty } else { *logit * s.repetition_penalty };
            }
        }
        if s.frequency_penalty != 0.0 || s.presence_penalty != 0.0 {
            let mut seen = self.generated.clone();
            seen.sort_unstable();
            for run in seen.chunk_by(|a, b| a == b) {
                let Some(logit) = logits.get_mut(run[0] as usize) else { continue };
                *logit -= s.frequency_penalty * run.len() as f32 + s.presence_penalty;
            }
        }
        for &(id, bias) in &s.logit_bias {
            logits.get_mut(id as usize).into_iter().for_each(|logit| *logit += bias);
        }
    }

    fn draw(&mut self, logits: &[f32]) -> TokenId {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = self.settings.temperature.recip();
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(logits.iter().zip(0..).map(|(&logit, id)| (((logit - max) * scale).exp(), id)));
        cut_top_k(candidates, self.settings.top_k);
        cut_top_p(candidates, self.settings.top_p);
        if self.settings.min_p > 0.0 {
            let floor = self.settings.min_p * candidates.iter().map(|c| c.0).fold(0.0, f32::max);
            candidates.retain(|c| c.0 >= floor);
        }
        let total: f64 = candidates.iter().map(|c| f64::from(c.0)).sum();
        let mut left = uniform(&mut self.rng) * total;
        for &(weight, id) in candidates.iter() {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        candidates.iter().rev().find(|c| c.0 > 0.0).map_or_else(|| argmax(logits), |c| c.1)
    }
}

/// [0, 1) with 53 random bits.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (-53f64).exp2()
}

/// Greatest first; equal weights by id, so that a seed means the same everywhere.
fn by_weight(a: &(f32, TokenId), b: &(f32, TokenId)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn cut_top_k(candidates: &mut Vec<(f32, TokenId)>, k: usize) {
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, by_weight);
        candidates.truncate(k);
    }
}

/// Keeps the smallest set of likeliest tokens that reaches `p`, sorting no more than it has to.
fn cut_top_p(candidates: &mut Vec<(f32, TokenId)>, p: f32) {
    if p >= 1.0 || candidates.is_empty() {
        return;
    }
    let want = f64::from(p.max(0.0)) * candidates.iter().map(|c| f64::from(c.0)).sum::<f64>();
    let mut n = 64;
    loop {
        n = n.min(candidates.len());
        if n < candidates.len() {
            candidates.select_nth_unstable_by(n - 1, by_weight);
        }
        candidates[..n].sort_unstable_by(by_weight);
        let mut sum = 0.0;
        let reached = candidates[..n].iter().position(|c| {
            sum += f64::from(c.0);
            sum >= want
        });
        if let Some(last) = reached {
            candidates.truncate(last + 1);
            return;
        }
        if n == candidates.len() {
            return;
        }
        n *= 8;
    }
}

/// The largest logit; the first of equals. NaN is never the largest.
fn argmax(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (idx, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = idx;
        }
    }
    best as TokenId
}

/// Log probabilities of `chosen` and of the `n_top` likeliest tokens, from the model's own logits.
pub(crate) fn logprobs(logits: &[f32], chosen: TokenId, n_top: usize) -> Logprobs {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    let log_sum = max + sum.ln() as f32;
    let mut top: Vec<(f32, TokenId)> = logits.iter().copied().zip(0..).collect();
    cut_top_k(&mut top, n_top.max(1));
    top.sort_unstable_by(by_weight);
    top.truncate(n_top);
    Logprobs {
        chosen: logits[chosen as usize] - log_sum,
        top: top.into_iter().map(|(logit, id)| (id, logit - log_sum)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampler(settings: Sampling) -> Sampler {
        Sampler::new(settings, &[])
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let mut logits = [0.0, 3.0, 3.0, 1.0];
        assert_eq!(sampler(Sampling::greedy()).sample(&mut logits), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0, 1.0, 2.0, -1.0f32];
        let total: f32 = logits.iter().map(|l| l.exp()).sum();
        let mut counts = [0usize; 4];
        let mut s = sampler(Sampling { seed: 7, ..Sampling::default() });
        let n = 20_000;
        for _ in 0..n {
            counts[s.sample(&mut logits.clone()) as usize] += 1;
        }
        for (count, logit) in counts.iter().zip(logits) {
            let (got, want) = (*count as f32 / n as f32, logit.exp() / total);
            assert!((got - want).abs() < 0.015, "{got} against {want}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let logits: Vec<f32> = (0..500).map(|i| ((i * 37) % 101) as f32 / 20.0).collect();
        let draw = |seed| {
            let mut s = sampler(Sampling { seed, top_p: 0.9, temperature: 0.8, ..Sampling::default() });
            (0..50).map(|_| s.sample(&mut logits.clone())).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn penalties_push_seen_tokens_down() {
        let settings = Sampling { repetition_penalty: 2.0, temperature: 0.0, ..Sampling::default() };
        let mut s = Sampler::new(settings, &[1]);
        assert_eq!(s.sample(&mut [1.5, 2.0, -9.0]), 0, "2.0 / 2 is below 1.5");
        let settings = Sampling { frequency_penalty: 0.6, temperature: 0.0, ..Sampling::default() };
        let mut s = sampler(settings);
        let ids: Vec<_> = (0..3).map(|_| s.sample(&mut [1.0, 0.5])).collect();
        assert_eq!(ids, [0, 1, 0]);
    }

    #[test]
    fn logprobs_sum_to_one() {
        let logits = [0.3, -2.0, 5.0, 1.0];
        let all = logprobs(&logits, 2, 4);
        let sum: f32 = all.top.iter().map(|(_, p)| p.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
        assert_eq!(all.top[0], (2, all.chosen));
    }

    proptest! {
        #[test]
        fn top_p_keeps_the_smallest_sufficient_set(
            weights in prop::collection::vec(0.0f32..1.0, 1..400), p in 0.0f32..1.0,
        ) {
            let mut kept: Vec<(f32, TokenId)> = weights.iter().copied().zip(0..).collect();
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            cut_top_p(&mut kept, p);
            let sum: f64 = kept.iter().map(|c| f64::from(c.0)).sum();
            prop_assert!(!kept.is_empty());
            prop_assert!(sum >= f64::from(p) * total * (1.0 - 1e-9) || kept.len() == weights.len());
            let smallest = kept.iter().map(|c| c.0).fold(f32::INFINITY, f32::min);
            prop_assert!(sum - f64::from(smallest) < f64::from(p) * total + 1e-9);
            let dropped = weights.iter().filter(|&&w| w > smallest).count();
            prop_assert!(dropped <= kept.len());
        }

        #[test]
        fn top_k_and_min_p_never_draw_what_they_cut(
            logits in prop::collection::vec(-5.0f32..5.0, 2..100), k in 1usize..8, seed in any::<u64>(),
        ) {
            let settings = Sampling { top_k: k, min_p: 0.2, seed, ..Sampling::default() };
            let id = sampler(settings).sample(&mut logits.clone());
            let above = logits.iter().filter(|&&l| l > logits[id as usize]).count();
            prop_assert!(above < k);
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert!((logits[id as usize] - max).exp() >= 0.2 * 0.999);
        }
    }
}
