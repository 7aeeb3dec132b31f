//! GGML's first formats: 32 values, one f16 scale, with or without a minimum.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, f16_to_f32, join, unpack};

/// 32 values: `d * (code - 8)`.
///
/// ```text
/// | d: f16 | 16 bytes: 4-bit codes in a run of 16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// 4-bit codes, one run of 16 bytes.
    pub codes: [u8; 16],
}

impl Block<32> for Q4_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let d = f16_to_f32(self.d);
        *out = unpack::<4, 16, 32>(&self.codes).map(|code| d * (f32::from(code) - 8.0));
    }
}

/// 32 values: `d * code + m`.
///
/// ```text
/// | d: f16 | m: f16 | 16 bytes: 4-bit codes in a run of 16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// 4-bit codes, one run of 16 bytes.
    pub codes: [u8; 16],
}

impl Block<32> for Q4_1 {
    fn decode(&self, out: &mut [f32; 32]) {
        let (d, m) = (f16_to_f32(self.d), f16_to_f32(self.m));
        *out = unpack::<4, 16, 32>(&self.codes).map(|code| d * f32::from(code) + m);
    }
}

/// 32 values: `d * (code - 16)`, where code is `low + 16 * high`.
///
/// ```text
/// | d: f16 | high: bit i is value i's fifth bit | 16 bytes: low 4 bits in a run of 16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Fifth bits in plain order.
    pub high: [u8; 4],
    /// Low 4 bits, one run of 16 bytes.
    pub low: [u8; 16],
}

impl Block<32> for Q5_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let d = f16_to_f32(self.d);
        *out = five_bits(&self.low, &self.high).map(|code| d * (f32::from(code) - 16.0));
    }
}

/// 32 values: `d * code + m`, where code is `low + 16 * high`.
///
/// ```text
/// | d: f16 | m: f16 | high: bit i is value i's fifth bit | 16 bytes: low 4 bits in a run of 16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// Fifth bits in plain order.
    pub high: [u8; 4],
    /// Low 4 bits, one run of 16 bytes.
    pub low: [u8; 16],
}

impl Block<32> for Q5_1 {
    fn decode(&self, out: &mut [f32; 32]) {
        let (d, m) = (f16_to_f32(self.d), f16_to_f32(self.m));
        *out = five_bits(&self.low, &self.high).map(|code| d * f32::from(code) + m);
    }
}

fn five_bits(low: &[u8; 16], high: &[u8; 4]) -> [u8; 32] {
    join::<4, 32>(unpack::<4, 16, 32>(low), unpack::<1, 1, 32>(high))
}

/// 32 values: `d * code`.
///
/// ```text
/// | d: f16 | 32 signed bytes |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q8_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Codes, one a value.
    pub codes: [i8; 32],
}

impl Block<32> for Q8_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let d = f16_to_f32(self.d);
        *out = self.codes.map(|code| d * f32::from(code));
    }
}

/// Encodes finite values as [`Q8_0`], with the bytes that GGML's reference gives.
///
/// Per 32 values: d = max|x| / 127, code = round(x / d), halves away from zero; d is stored as f16
/// afterwards.
///
/// `x`: [n], n a multiple of 32; `out`: [n / 32 * 34] bytes.
///
/// # Panics
/// The lengths don't match: a programmer's error.
pub fn quantise_q8_0(x: &[f32], out: &mut [u8]) {
    let (values, rest) = x.as_chunks::<32>();
    assert!(rest.is_empty(), "{} values are no whole number of blocks", x.len());
    assert_eq!(out.len(), values.len() * size_of::<Q8_0>(), "bytes of {} values of Q8_0", x.len());
    for (block, values) in bytemuck::cast_slice_mut::<u8, Q8_0>(out).iter_mut().zip(values) {
        let d = values.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { d.recip() };
        block.d = f16::from_f32(d).to_le_bytes();
        block.codes = values.map(|x| (x * inverse).round() as i8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DType, quant};

    proptest! {
        #[test]
        fn q8_0_is_off_by_half_a_code_and_the_scale_s_rounding(x in prop::collection::vec(-9f32..9.0, 96)) {
            let mut bytes = [0; 3 * 34];
            quantise_q8_0(&x, &mut bytes);
            let mut back = [0.0; 96];
            quant::dequantize(DType::Q8_0, &bytes, &mut back);
            for (x, back) in x.chunks(32).zip(back.chunks(32)) {
                let max = x.iter().fold(0f32, |max, x| max.max(x.abs()));
                // Half a code, and 2^-11 of the scale for f16 (2^-25 absolute where it is subnormal), 127
                // codes at most.
                let bound = max * (0.5 / 127.0 + 2f32.powi(-11)) + 127.0 * 2f32.powi(-25) + 1e-6 * max;
                for (x, back) in x.iter().zip(back) {
                    prop_assert!((x - back).abs() <= bound, "{x} came back as {back}, bound {bound}");
                }
            }
        }
    }

    /// The bytes are the `gguf` Python package's.
    #[test]
    fn quantises_as_ggml_does() {
        let x: [f32; 32] = std::array::from_fn(|i| (i as f32 * 37.0 % 101.0 - 50.0) * 0.37);
        let mut bytes = [0; 34];
        quantise_q8_0(&x, &mut bytes);
        let block: Q8_0 = bytemuck::cast(bytes);
        let want = [
            -127, -33, 61, -102, -8, 86, -76, 18, 112, -51, 43, -119, -25, 69, -94, 0, 94, -69, 25, 119, -43,
            51, -112, -18, 76, -86, 8, 102, -61, 33, 127, -36,
        ];
        assert_eq!((block.d, block.codes), ([169, 48], want));
    }

    #[test]
    fn zeros_stay_zero() {
        let mut bytes = [1; 34];
        quantise_q8_0(&[0.0; 32], &mut bytes);
        assert_eq!(bytes, [0; 34]);
    }
}
