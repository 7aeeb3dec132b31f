//! The lossy mode: experts that are not in memory and that matter little are left out.
//!
//! For each token of a decode step and each layer, choices of missing experts may be dropped as long as their weights sum to
//! at most a stated share of all of the token's weights; the others are scaled up to the same sum. A missing expert is
//! dropped only if every token of the step that chose it can do without: otherwise it is read anyway, and used by all.

use kernels::Choice;

/// Drops choices [n_tokens, top_k] of missing experts, those that matter least first; a dropped choice has weight 0. Adds
/// to `lost` [n_tokens] what share of its weights each token lost.
///
/// `share`: of a token's weights that may be lost, 0 to 1.
pub(crate) fn skip_missing(
    choices: &mut [Choice],
    top_k: usize,
    share: f32,
    is_there: impl Fn(u32) -> bool,
    lost: &mut [f32],
) -> usize {
    let totals: Vec<f32> =
        choices.chunks_exact(top_k).map(|token| token.iter().map(|c| c.weight).sum()).collect();
    let part = |i: usize, choice: &Choice| choice.weight / totals[i / top_k].max(f32::MIN_POSITIVE);
    // The most that any token would lose with each missing expert.
    let mut missing: Vec<(u32, f32)> = Vec::new();
    for (i, choice) in choices.iter().enumerate().filter(|(_, choice)| !is_there(choice.expert)) {
        let part = part(i, choice);
        match missing.iter_mut().find(|(expert, _)| *expert == choice.expert) {
            Some((_, most)) => *most = most.max(part),
            None => missing.push((choice.expert, part)),
        }
    }
    missing.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut left = vec![share; totals.len()];
    let mut n_dropped = 0;
    for (expert, _) in missing {
        let chosen = || choices.iter().enumerate().filter(|(_, choice)| choice.expert == expert);
        if chosen().any(|(i, choice)| part(i, choice) > left[i / top_k]) {
            continue;
        }
        let places: Vec<usize> = chosen().map(|(i, _)| i).collect();
        for i in places {
            left[i / top_k] -= part(i, &choices[i]);
            choices[i].weight = 0.0;
            n_dropped += 1;
        }
    }
    rescale(choices, top_k, &totals);
    lost.iter_mut().zip(&left).for_each(|(lost, left)| *lost += share - left);
    n_dropped
}

/// Brings every token's weights to their old sum.
fn rescale(choices: &mut [Choice], top_k: usize, totals: &[f32]) {
    for (token, &total) in choices.chunks_exact_mut(top_k).zip(totals) {
        let rest: f32 = token.iter().map(|choice| choice.weight).sum();
        if rest > 0.0 && rest != total {
            token.iter_mut().for_each(|choice| choice.weight *= total / rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(all: &[(u32, f32)]) -> Vec<Choice> {
        all.iter().map(|&(expert, weight)| Choice { expert, weight }).collect()
    }

    #[test]
    fn what_is_missing_and_matters_little_is_left_out_within_the_share() {
        let mut of_token = choices(&[(1, 1.0), (2, 0.5), (3, 0.3), (4, 0.2)]);
        let mut lost = [0.0];
        let n = skip_missing(&mut of_token, 4, 0.2, |expert| expert == 1, &mut lost);
        // 4 is a tenth of all and goes; 3 on top of it would be a quarter.
        assert_eq!(n, 1);
        assert_eq!(of_token[3].weight, 0.0);
        assert!((lost[0] - 0.1).abs() < 1e-6);
        let sum: f32 = of_token.iter().map(|choice| choice.weight).sum();
        assert!((sum - 2.0).abs() < 1e-6, "{sum}");
        assert!((of_token[0].weight / of_token[1].weight - 2.0).abs() < 1e-6);
    }

    #[test]
    fn what_one_token_needs_is_read_and_used_by_all() {
        let mut two = choices(&[(1, 0.95), (2, 0.05), (2, 0.9), (3, 0.1)]);
        let before: Vec<f32> = two.iter().map(|choice| choice.weight).collect();
        let mut lost = [0.0; 2];
        assert_eq!(skip_missing(&mut two, 2, 0.05, |_| false, &mut lost), 0);
        assert_eq!(two.iter().map(|choice| choice.weight).collect::<Vec<_>>(), before);
        assert_eq!(skip_missing(&mut two, 2, 0.11, |_| false, &mut lost), 1, "3 alone");
        assert!(two[3].weight == 0.0 && two[1].weight > 0.0);
    }

    #[test]
    fn nothing_is_left_out_of_what_is_there() {
        let mut all = choices(&[(1, 0.99), (2, 0.01)]);
        assert_eq!(skip_missing(&mut all, 2, 1.0, |_| true, &mut [0.0]), 0);
    }
}
