//! Stages that treat every value on its own, RMSNorm's mean apart.

/// RMSNorm: out[i] = w[i] * x[i] / sqrt(mean(x^2) + eps).
///
/// `x`, `w`, `out`: [d_model]. The mean is taken in f64.
/// Source: Zhang & Sennrich 2019, arXiv:1910.07467.
///
/// # Panics
/// Lengths differ: a programmer's error.
pub fn rms_norm(out: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    assert!(out.len() == x.len() && x.len() == w.len(), "one weight a value");
    let sum: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = 1.0 / (sum / x.len() as f64 + f64::from(eps)).sqrt();
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(w) {
        *out = (f64::from(x) * scale) as f32 * w;
    }
}

/// silu(x) = x / (1 + e^-x).
pub fn silu(x: f32) -> f32 {
    (f64::from(x) / (1.0 + (-f64::from(x)).exp())) as f32
}

/// SwiGLU: out[i] = silu(gate[i]) * up[i].
///
/// `gate`, `up`, `out`: [d_ff].
/// Source: Shazeer 2020, arXiv:2002.05202.
///
/// # Panics
/// Lengths differ: a programmer's error.
pub fn swiglu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    assert!(out.len() == gate.len() && gate.len() == up.len(), "one gate a value");
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = silu(gate) * up;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rms_norm_of_three_and_four() {
        let mut out = [0.0; 2];
        rms_norm(&mut out, &[3.0, 4.0], &[1.0, 2.0], 0.0);
        let rms = 12.5f32.sqrt();
        assert_eq!(out, [3.0 / rms, 4.0 / rms * 2.0]);
    }

    #[test]
    fn rms_norm_of_zeros_is_zero() {
        let mut out = [1.0; 3];
        rms_norm(&mut out, &[0.0; 3], &[5.0; 3], 1e-6);
        assert_eq!(out, [0.0; 3]);
    }

    #[test]
    fn silu_goes_from_zero_to_identity() {
        assert_eq!(silu(-1e4), 0.0);
        assert_eq!(silu(0.0), 0.0);
        assert_eq!(silu(1.0), 0.731_058_6);
        assert_eq!(silu(1e4), 1e4);
    }

    proptest! {
        #[test]
        fn normed_values_have_mean_square_one(x in prop::collection::vec(-100f32..100.0, 1..300)) {
            prop_assume!(x.iter().any(|x| x.abs() > 0.1));
            let mut out = vec![0.0; x.len()];
            rms_norm(&mut out, &x, &vec![1.0; x.len()], 0.0);
            let mean = out.iter().map(|out| out * out).sum::<f32>() / x.len() as f32;
            prop_assert!((mean - 1.0).abs() < 1e-4, "mean square {mean}");
        }
    }
}
