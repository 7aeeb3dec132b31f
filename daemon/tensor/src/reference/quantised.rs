//! Activations in 8 bits, and products with them.

use crate::{DType, quant};

/// Values that share a scale when activations are quantised.
pub const ACTIVATION_BLOCK: usize = 32;

/// Activations in 8 bits, per block of [`ACTIVATION_BLOCK`] values:
///
/// ```text
/// scale = max|x| / 127
/// code  = x / scale, rounded to the nearest, halves to even
/// sum   = sum of codes
/// ```
///
/// `x`, `codes`: [n], `x` finite; `scales`, `sums`: [ceil(n / 32)]. Codes lie in -127..=127; a block whose
/// scale rounds to 0 is all zeros. (Kernels want the sums for formats with an offset or a minimum.)
///
/// # Panics
/// Lengths don't fit: a programmer's error.
pub fn quantise_activations(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    let n_blocks = x.len().div_ceil(ACTIVATION_BLOCK);
    assert!(codes.len() == x.len() && scales.len() == n_blocks && sums.len() == n_blocks, "a scale a block");
    let blocks = x.chunks(ACTIVATION_BLOCK).zip(codes.chunks_mut(ACTIVATION_BLOCK));
    for ((values, codes), (scale, sum)) in blocks.zip(scales.iter_mut().zip(sums)) {
        *scale = values.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
        for (code, value) in codes.iter_mut().zip(values) {
            let exact = if *scale == 0.0 { 0.0 } else { value / *scale };
            *code = exact.round_ties_even().clamp(-127.0, 127.0) as i8;
        }
        *sum = codes.iter().map(|&code| i32::from(code)).sum();
    }
}

/// What an integer kernel computes, without its rounding: dequantised weights times dequantised activations,
/// in f64.
///
/// ```text
/// sum_b scales[b] * sum_(i in block b) w[i] * codes[i]
/// ```
///
/// `row`: the bytes of one row of `dtype`, [n]; `codes`: [n]; `scales`: [ceil(n / 32)].
///
/// # Panics
/// Lengths don't fit: a programmer's error.
pub fn dot_quantised(dtype: DType, row: &[u8], codes: &[i8], scales: &[f32]) -> f32 {
    assert_eq!(scales.len(), codes.len().div_ceil(ACTIVATION_BLOCK), "a scale a block");
    let mut weights = vec![0.0; codes.len()];
    quant::dequantize(dtype, row, &mut weights);
    let blocks = weights.chunks(ACTIVATION_BLOCK).zip(codes.chunks(ACTIVATION_BLOCK)).zip(scales);
    let of_block = |((weights, codes), &scale): ((&[f32], &[i8]), &f32)| {
        let sum: f64 = weights.iter().zip(codes).map(|(&w, &code)| f64::from(w) * f64::from(code)).sum();
        sum * f64::from(scale)
    };
    blocks.map(of_block).sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    struct Quantised {
        codes: Vec<i8>,
        scales: Vec<f32>,
        sums: Vec<i32>,
    }

    fn quantised(x: &[f32]) -> Quantised {
        let n_blocks = x.len().div_ceil(ACTIVATION_BLOCK);
        let mut q =
            Quantised { codes: vec![9; x.len()], scales: vec![9.0; n_blocks], sums: vec![9; n_blocks] };
        quantise_activations(x, &mut q.codes, &mut q.scales, &mut q.sums);
        q
    }

    #[test]
    fn halves_round_to_even() {
        let q = quantised(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0]);
        assert_eq!(q.codes, [127, 0, 2, 2, 0, -2, -127]);
        assert_eq!((q.scales[0], q.sums[0]), (1.0, 2));
    }

    #[test]
    fn zeros_and_subnormals_do_not_divide_by_zero() {
        let smallest = f32::from_bits(1);
        assert_eq!(quantised(&[0.0, smallest, -smallest]).codes, [0; 3]);
        let q = quantised(&[f32::from_bits(190), -f32::from_bits(190)]);
        assert_eq!((q.codes.as_slice(), q.scales[0]), ([127, -127].as_slice(), smallest));
    }

    proptest! {
        #[test]
        fn codes_are_off_by_half_a_scale_at_most(x in prop::collection::vec(-1e3f32..1e3, 1..100)) {
            let q = quantised(&x);
            for (i, (&x, &code)) in x.iter().zip(&q.codes).enumerate() {
                let scale = q.scales[i / ACTIVATION_BLOCK];
                prop_assert!((x - f32::from(code) * scale).abs() <= 0.5001 * scale);
            }
            for (codes, &sum) in q.codes.chunks(ACTIVATION_BLOCK).zip(&q.sums) {
                prop_assert_eq!(codes.iter().map(|&code| i32::from(code)).sum::<i32>(), sum);
            }
        }

        #[test]
        fn quantised_dot_is_near_the_exact_one(
            w in prop::collection::vec(-1f32..1.0, 96),
            x in prop::collection::vec(-4f32..4.0, 96),
        ) {
            let mut row = [0; 3 * 34];
            quant::quantise_q8_0(&w, &mut row);
            let mut weights = [0.0; 96];
            quant::dequantize(DType::Q8_0, &row, &mut weights);
            let q = quantised(&x);
            let got = dot_quantised(DType::Q8_0, &row, &q.codes, &q.scales);
            // Every activation is off by half a scale at most.
            let bounds = weights.iter().enumerate().map(|(i, w)| 0.5001 * q.scales[i / 32] * w.abs());
            let bound: f32 = bounds.sum();
            prop_assert!((got - reference::dot(&weights, &x)).abs() <= bound + 1e-5);
        }
    }
}
