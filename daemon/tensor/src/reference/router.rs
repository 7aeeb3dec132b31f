//! The router of a mixture of experts: which experts a token goes to, and with what weights.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// How the router's logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gating {
    /// Softmax over all experts (V2).
    Softmax,
    /// Sigmoid of each, with a correction bias for the choice only (V3).
    Sigmoid,
}

/// A router's rule. The number of experts is that of the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// Logits to scores.
    pub gating: Gating,
    /// Experts a token uses.
    pub top_k: usize,
    /// Groups of consecutive experts; 1 where there is no grouping.
    pub n_groups: usize,
    /// Groups a token may use.
    pub top_k_groups: usize,
    /// The chosen weights are normalised to sum 1.
    pub normalise: bool,
    /// Factor on the chosen weights.
    pub scale: f32,
}

/// One expert chosen for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choice {
    /// Index within the layer.
    pub expert: u32,
    /// Weight of its output.
    pub weight: f32,
}

/// Chooses experts for one token, listed by descending weight; of equal scores the lower index comes first.
///
/// ```text
/// score[e]  = softmax(logits)[e]  or  sigmoid(logits[e])
/// biased[e] = score[e] + bias[e]                                 the choice goes by it, the weight does not
/// group[g]  = max of biased (softmax), sum of its two greatest (sigmoid)
/// chosen    = the top_k of biased within the top_k_groups groups
/// weight    = score[chosen] (/ their sum + 1e-20) * scale
/// ```
/// `logits`, `bias`: [n_experts]; `choices`: [top_k].
/// Source: DeepSeek-V2, arXiv:2405.04434, section 2.1; DeepSeek-V3, arXiv:2412.19437, section 2.1.2.
///
/// # Panics
/// Lengths don't fit the rule: a programmer's error.
pub fn route(choices: &mut [Choice], logits: &[f32], bias: Option<&[f32]>, router: &Router) {
    let n_experts = logits.len();
    assert_eq!(choices.len(), router.top_k, "a choice for each of the top_k");
    assert!(n_experts.is_multiple_of(router.n_groups), "groups of one size");
    assert!(bias.is_none_or(|bias| bias.len() == n_experts), "a bias for every expert");
    let scores = scores(logits, router.gating);
    let biased: Vec<f32> = match bias {
        Some(bias) => scores.iter().zip(bias).map(|(score, bias)| score + bias).collect(),
        None => scores.clone(),
    };
    let group_size = n_experts / router.n_groups;
    let groups: Vec<f32> =
        biased.chunks_exact(group_size).map(|group| group_score(group, router.gating)).collect();
    let mut candidates: Vec<usize> = greatest(&groups, 0..router.n_groups, router.top_k_groups)
        .into_iter()
        .flat_map(|group| group * group_size..(group + 1) * group_size)
        .collect();
    candidates.sort_unstable();
    let mut chosen = greatest(&biased, candidates, router.top_k);
    chosen.sort_unstable();
    let chosen = greatest(&scores, chosen, router.top_k);
    let sum: f32 = chosen.iter().map(|&expert| scores[expert]).sum();
    let norm = if router.normalise { sum + 1e-20 } else { 1.0 };
    for (choice, expert) in choices.iter_mut().zip(chosen) {
        *choice = Choice { expert: expert as u32, weight: scores[expert] / norm * router.scale };
    }
}

fn scores(logits: &[f32], gating: Gating) -> Vec<f32> {
    match gating {
        Gating::Sigmoid => logits.iter().map(|&x| (1.0 + (-f64::from(x)).exp()).recip() as f32).collect(),
        Gating::Softmax => {
            let mut scores = logits.to_vec();
            super::softmax(&mut scores);
            scores
        }
    }
}

fn group_score(group: &[f32], gating: Gating) -> f32 {
    match gating {
        Gating::Softmax => group.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        Gating::Sigmoid => greatest(group, 0..group.len(), 2).into_iter().map(|e| group[e]).sum(),
    }
}

/// The `n` of `candidates` (in ascending order) with the greatest values, greatest first. NaN is the least.
fn greatest(values: &[f32], candidates: impl IntoIterator<Item = usize>, n: usize) -> Vec<usize> {
    let key = |&i: &usize| if values[i].is_nan() { f32::NEG_INFINITY } else { values[i] };
    let order = |a: &usize, b: &usize| -> Ordering { key(b).total_cmp(&key(a)).then(a.cmp(b)) };
    let mut found: Vec<usize> = candidates.into_iter().collect();
    if n < found.len() {
        found.select_nth_unstable_by(n, order);
        found.truncate(n);
    }
    found.sort_unstable_by(order);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Router = Router {
        gating: Gating::Softmax,
        top_k: 2,
        n_groups: 1,
        top_k_groups: 1,
        normalise: false,
        scale: 1.0,
    };

    fn routed(logits: &[f32], bias: Option<&[f32]>, router: Router) -> Vec<Choice> {
        let mut choices = vec![Choice::default(); router.top_k];
        route(&mut choices, logits, bias, &router);
        choices
    }

    fn experts(choices: &[Choice]) -> Vec<u32> {
        choices.iter().map(|choice| choice.expert).collect()
    }

    #[test]
    fn equal_scores_go_by_index() {
        assert_eq!(experts(&routed(&[1.0, 2.0, 2.0, 2.0], None, PLAIN)), [1, 2]);
    }

    #[test]
    fn a_bias_moves_the_choice_and_not_the_weight() {
        let router = Router { gating: Gating::Sigmoid, ..PLAIN };
        let choices = routed(&[0.0, 0.0, 0.0], Some(&[0.0, 1.0, -1.0]), router);
        assert_eq!(experts(&choices), [0, 1]);
        assert!(choices.iter().all(|choice| choice.weight == 0.5));
    }

    #[test]
    fn experts_outside_of_the_kept_groups_are_not_chosen_even_where_the_others_are_negative() {
        let router = Router { gating: Gating::Sigmoid, n_groups: 2, ..PLAIN };
        let bias = [-3.0, -3.0, -2.0, -5.0];
        // Groups: -6 + 1, -7 + 1: the first is kept, though expert 2 alone is the greatest.
        assert_eq!(experts(&routed(&[0.0; 4], Some(&bias), router)), [0, 1]);
    }

    #[test]
    fn normalised_weights_sum_to_the_scale() {
        let router = Router { normalise: true, scale: 2.5, ..PLAIN };
        let sum: f32 = routed(&[0.3, -1.0, 2.0, 0.1], None, router).iter().map(|c| c.weight).sum();
        assert!((sum - 2.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_a_number_is_chosen_last() {
        assert_eq!(
            experts(&routed(&[f32::NAN, 1.0, 0.0], None, Router { gating: Gating::Sigmoid, ..PLAIN })),
            [1, 2]
        );
    }
}
