//! Rotary position embedding and the ways its frequencies are stretched.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// Which dimensions of a head form a rotated pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopePairs {
    /// `(i, i + dim/2)`: Hugging Face's Llama and Qwen2, GGUF's Qwen2.
    Halves,
    /// `(2i, 2i + 1)`: GGUF's Llama (whose Q and K rows are permuted for it) and DeepSeek everywhere.
    Interleaved,
}

/// Rotates the pairs of one head: (a, b) -> scale * (a cos - b sin, a sin + b cos), angle = pos * freq.
///
/// `x`: [head_dim], of which the first `2 * freqs.len()` are rotated; `freqs`: radians a position; `scale` is
/// YaRN's factor on cos and sin, else 1. The angle is a product of f32, as in the published implementations.
/// Source: Su et al. 2021, arXiv:2104.09864.
///
/// # Panics
/// `x` is shorter than the rotated dimensions: a programmer's error.
pub fn rope(x: &mut [f32], pos: usize, freqs: &[f32], scale: f32, pairs: RopePairs) {
    for (i, &freq) in freqs.iter().enumerate() {
        let (first, second) = match pairs {
            RopePairs::Halves => (i, i + freqs.len()),
            RopePairs::Interleaved => (2 * i, 2 * i + 1),
        };
        let (sin, cos) = f64::from(pos as f32 * freq).sin_cos();
        let (a, b, scale) = (f64::from(x[first]), f64::from(x[second]), f64::from(scale));
        x[first] = (scale * (a * cos - b * sin)) as f32;
        x[second] = (scale * (a * sin + b * cos)) as f32;
    }
}

/// Rotary frequencies: freq[i] = theta^(-2i / dim), [dim / 2], radians a position.
///
/// Source: Su et al. 2021, arXiv:2104.09864.
pub fn rope_frequencies(theta: f32, dim: usize) -> Vec<f32> {
    (0..dim / 2).map(|i| f64::from(theta).powf(-(2.0 * i as f64) / dim as f64) as f32).collect()
}

/// Llama 3.1's scaling by wavelength 2 pi / freq: the long ones are stretched by `factor`, the short ones
/// kept.
///
/// ```text
/// turns = original_context / wavelength       turns over the trained context
///
/// turns > high_freq_factor       freq
/// turns < low_freq_factor        freq / factor
/// between                        (1 - s) freq / factor + s freq,  s = (turns - low) / (high - low)
/// ```
/// Source: Llama 3.1's published `models/llama3/reference_impl/model.py` (`apply_scaling`).
pub fn llama3_scale(
    freqs: &mut [f32],
    factor: f32,
    low_freq_factor: f32,
    high_freq_factor: f32,
    original_context: usize,
) {
    let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
    for freq in freqs {
        let exact = f64::from(*freq);
        let turns = original_context as f64 * exact / TAU;
        let kept = if turns > high {
            1.0
        } else if turns < low {
            0.0
        } else {
            (turns - low) / (high - low)
        };
        *freq = ((1.0 - kept) * exact / f64::from(factor) + kept * exact) as f32;
    }
}

/// YaRN's frequencies, [dim / 2]: those that turn often are kept, those that turn seldom divided by `factor`.
///
/// ```text
/// index(turns) = dim ln(original_context / (2 pi turns)) / (2 ln theta)     of that many turns
/// low, high    = floor(index(beta_fast)), ceil(index(beta_slow))            within 0 and dim - 1
/// ramp[i]      = (i - low) / (high - low)                                   within 0 and 1
/// freq[i]      = ramp[i] freq[i] / factor + (1 - ramp[i]) freq[i]
/// ```
/// Source: Peng et al. 2023, arXiv:2309.00071, section 3.2; the rounding and the limits are those of its
/// authors' code, which DeepSeek V2 and V3 and transformers follow.
pub fn yarn_frequencies(
    theta: f32,
    dim: usize,
    factor: f32,
    original_context: usize,
    beta_fast: f32,
    beta_slow: f32,
) -> Vec<f32> {
    let index = |turns: f32| {
        let octaves = (original_context as f64 / (f64::from(turns) * TAU)).ln();
        dim as f64 * octaves / (2.0 * f64::from(theta).ln())
    };
    let low = index(beta_fast).floor().max(0.0);
    let high = index(beta_slow).ceil().min(dim as f64 - 1.0);
    let width = if high > low { high - low } else { 0.001 };
    let stretched = |(i, freq): (usize, f32)| {
        let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
        let freq = f64::from(freq);
        (ramp * freq / f64::from(factor) + (1.0 - ramp) * freq) as f32
    };
    rope_frequencies(theta, dim).into_iter().enumerate().map(stretched).collect()
}

/// YaRN's attention factor: 0.1 mscale ln(factor) + 1 for factor > 1, else 1.
///
/// DeepSeek multiplies cos and sin by `yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)`,
/// and the softmax scale by the square of `yarn_mscale(factor, mscale_all_dim)`. Source: Peng et al. 2023,
/// arXiv:2309.00071, section 3.4; DeepSeek-V3's published `modeling_deepseek.py`.
pub fn yarn_mscale(factor: f32, mscale: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::FRAC_PI_2;

    use proptest::prelude::*;

    use super::*;
    use crate::reference::dot;

    fn assert_near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        let near = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-6 * want.abs();
        assert!(got.iter().zip(want).all(near), "{got:?} against {want:?}");
    }

    fn rotated(x: &[f32], pos: usize, freqs: &[f32], pairs: RopePairs) -> Vec<f32> {
        let mut out = x.to_vec();
        rope(&mut out, pos, freqs, 1.0, pairs);
        out
    }

    #[test]
    fn pairs_turn_a_quarter() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0];
        let freqs = [FRAC_PI_2, 0.0];
        let halves = rotated(&x, 1, &freqs, RopePairs::Halves);
        assert!((halves[0] + 3.0).abs() < 1e-6 && (halves[2] - 1.0).abs() < 1e-6);
        assert_eq!((halves[1], halves[3], halves[4]), (2.0, 4.0, 5.0));
        let interleaved = rotated(&x, 1, &freqs, RopePairs::Interleaved);
        assert!((interleaved[0] + 2.0).abs() < 1e-6 && (interleaved[1] - 1.0).abs() < 1e-6);
        assert_eq!(interleaved[2..], [3.0, 4.0, 5.0]);
    }

    #[test]
    fn frequencies_are_geometric() {
        assert_near(&rope_frequencies(1e4, 8), &[1.0, 0.1, 0.01, 0.001]);
    }

    /// The values are transformers 5.23's, for its llama3 rope.
    #[test]
    fn llama3_scales_by_wavelength() {
        let mut freqs = rope_frequencies(5e5, 32);
        llama3_scale(&mut freqs, 8.0, 1.0, 4.0, 128);
        let want = [1.0, 0.440_366_63, 0.191_126_5, 0.029_098_593, 0.004_700_754, 0.002_070_055];
        assert_near(&freqs[..6], &want);
        assert_near(&freqs[15..], &[5.677_088e-7]);
    }

    #[test]
    fn deepseek_v3_keeps_frequencies_below_10_and_stretches_them_from_23() {
        let plain = rope_frequencies(1e4, 64);
        let yarn = yarn_frequencies(1e4, 64, 40.0, 4096, 32.0, 1.0);
        assert_eq!(yarn[..=10], plain[..=10]);
        let stretched: Vec<f32> = plain.iter().map(|freq| freq / 40.0).collect();
        assert_near(&yarn[23..], &stretched[23..]);
        assert!((11..23).all(|i| stretched[i] < yarn[i] && yarn[i] < plain[i]));
        assert!((yarn_mscale(40.0, 1.0) - 1.368_887_9).abs() < 1e-6);
        assert_eq!(yarn_mscale(1.0, 1.0), 1.0);
    }

    /// The values are transformers 5.23's, for its yarn rope.
    #[test]
    fn yarn_blends_between_the_limits() {
        let want = [1.0, 0.316_227_76, 0.1, 0.023_914_725, 0.005_125, 0.000_849_862_2, 2.5e-5, 7.905_694e-6];
        assert_near(&yarn_frequencies(1e4, 16, 40.0, 4096, 32.0, 1.0), &want);
        assert!((yarn_mscale(40.0, 1.0) / yarn_mscale(40.0, 0.707) - 1.085_726_4).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn scores_depend_on_the_distance_alone(
            q in prop::collection::vec(-1f32..1.0, 16),
            k in prop::collection::vec(-1f32..1.0, 16),
            distance in 0..50usize,
            start in 0..200usize,
            interleaved in any::<bool>(),
        ) {
            let pairs = if interleaved { RopePairs::Interleaved } else { RopePairs::Halves };
            let freqs = rope_frequencies(1e4, 16);
            let score = |start: usize| {
                dot(&rotated(&q, start + distance, &freqs, pairs), &rotated(&k, start, &freqs, pairs))
            };
            // Angles up to 250 are rounded to 2^-17.
            prop_assert!((score(start) - score(0)).abs() < 16.0 * 2f32.powi(-16));
        }

        #[test]
        fn a_factor_of_one_stretches_nothing(theta in 1e3f32..1e7, half in 1..64usize) {
            let plain = rope_frequencies(theta, 2 * half);
            assert_near(&yarn_frequencies(theta, 2 * half, 1.0, 4096, 32.0, 1.0), &plain);
            let mut scaled = plain.clone();
            llama3_scale(&mut scaled, 1.0, 1.0, 4.0, 8192);
            assert_near(&scaled, &plain);
        }
    }
}
