//! Attention of one query head.

use super::{dot, mat_vec};
use crate::Matrix;

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

/// One query head of multi-head latent attention, keys and values expanded from latent rows [c | k_rope]:
///
/// ```text
/// k[t] = [W_uk c[t] | k_rope[t]],  v[t] = W_uv c[t],  out = sum_t softmax(scale * q . k[t]) v[t]
/// ```
///
/// `q`: [nope + rope]; `latents`: [n, rank + rope]; `w_uk`: [nope, rank]; `w_uv`: [d_v, rank]; `out`: [d_v]; n >= 1.
/// Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
///
/// # Panics
/// Lengths don't fit: a programmer's error.
pub fn latent_attention(
    out: &mut [f32],
    q: &[f32],
    latents: &[f32],
    w_uk: &Matrix<'_>,
    w_uv: &Matrix<'_>,
    scale: f32,
) {
    let (rank, rope) = (w_uk.cols(), q.len() - w_uk.rows());
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for latent in latents.chunks_exact(rank + rope) {
        let (c, k_rope) = latent.split_at(rank);
        let (mut k, mut v) = (vec![0.0; w_uk.rows()], vec![0.0; w_uv.rows()]);
        mat_vec(&mut k, w_uk, c);
        mat_vec(&mut v, w_uv, c);
        keys.extend_from_slice(&k);
        keys.extend_from_slice(k_rope);
        values.extend_from_slice(&v);
    }
    attention(out, q, &keys, &values, scale);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::DType;

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

    #[test]
    fn latents_become_keys_and_values() {
        // W_uk doubles the first number of c, W_uv is the second; k_rope picks the second row.
        let bytes = |w: [f32; 2]| -> Vec<u8> { w.into_iter().flat_map(f32::to_le_bytes).collect() };
        let (uk, uv) = (bytes([2.0, 0.0]), bytes([0.0, 1.0]));
        let [w_uk, w_uv] = [&uk, &uv].map(|w| Matrix::new(DType::F32, 1, 2, w).unwrap());
        let latents = [1.0, 5.0, 0.0, 1.0, 7.0, 1.0];
        let mut out = [0.0];
        latent_attention(&mut out, &[1.0, 1e3], &latents, &w_uk, &w_uv, 1.0);
        assert_eq!(out, [7.0]);
        // Scores 2 ln 3 + 0 and 0 + ln 9 are equal.
        let latents = [3f32.ln(), 5.0, 0.0, 0.0, 7.0, 9f32.ln()];
        latent_attention(&mut out, &[1.0, 1.0], &latents, &w_uk, &w_uv, 1.0);
        assert!((out[0] - 6.0).abs() < 1e-5, "{out:?}");
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
