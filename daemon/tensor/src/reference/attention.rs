//! Attention of one query head.

use super::dot;

/// softmax(x)[i] = e^(x[i] - max) / sum_j e^(x[j] - max), in place.
///
/// At least one value is finite, none is NaN or +inf; -inf becomes 0.
pub fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).collect();
    let sum: f64 = exps.iter().sum();
    for (x, exp) in x.iter_mut().zip(exps) {
        *x = (exp / sum) as f32;
    }
}

/// One query head: out = sum_t softmax(scale * q . k[t]) v[t].
///
/// `q`: [d_k]; `keys`: [n, d_k]; `values`: [n, d_v]; `out`: [d_v]; n >= 1. Causal masking is the choice of
/// `n`. Source: Vaswani et al. 2017, arXiv:1706.03762.
///
/// # Panics
/// Lengths don't fit: a programmer's error.
pub fn attention(out: &mut [f32], q: &[f32], keys: &[f32], values: &[f32], scale: f32) {
    let mut weights: Vec<f32> = keys.chunks_exact(q.len()).map(|key| scale * dot(q, key)).collect();
    assert_eq!(keys.len(), weights.len() * q.len(), "keys [n, d_k]");
    assert_eq!(values.len(), weights.len() * out.len(), "values [n, d_v]");
    softmax(&mut weights);
    let d_v = out.len();
    for (i, out) in out.iter_mut().enumerate() {
        let column = values.iter().skip(i).step_by(d_v);
        *out = weights.iter().zip(column).map(|(&w, &v)| f64::from(w) * f64::from(v)).sum::<f64>() as f32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn softmax_of_logarithms_is_proportional() {
        let mut x = [1f32.ln(), 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()];
        softmax(&mut x);
        for (got, want) in x.into_iter().zip([0.125, 0.25, 0.0, 0.625]) {
            assert!((got - want).abs() < 1e-7, "{got} against {want}");
        }
    }

    #[test]
    fn attention_picks_the_matching_key() {
        let mut out = [0.0; 3];
        attention(&mut out, &[1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1e3);
        assert_eq!(out, [4.0, 5.0, 6.0]);
    }

    #[test]
    fn equal_keys_average_the_values() {
        let mut out = [0.0];
        attention(&mut out, &[0.3, 0.7], &[1.0; 8], &[1.0, 2.0, 3.0, 6.0], 0.5);
        assert_eq!(out, [3.0]);
    }

    proptest! {
        #[test]
        fn softmax_sums_to_one_wherever_it_starts(
            x in prop::collection::vec(-50f32..50.0, 1..200),
            up in -1e4f32..1e4,
        ) {
            let mut a = x.clone();
            softmax(&mut a);
            prop_assert!((a.iter().map(|&p| f64::from(p)).sum::<f64>() - 1.0).abs() < 1e-5);
            let mut b: Vec<f32> = x.iter().map(|x| x + up).collect();
            softmax(&mut b);
            // x + up is rounded to 2^-11 at most.
            prop_assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 2e-3 * a + 1e-7));
        }
    }
}
