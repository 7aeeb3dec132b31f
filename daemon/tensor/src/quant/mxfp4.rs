//! MXFP4 of the OCP Microscaling specification 1.0, in GGML's order.

use bytemuck::{Pod, Zeroable};

use super::{Block, unpack};

/// Twice the value of every E2M1 code: sign bit, two exponent bits, one mantissa bit.
pub const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 values: `2^(scale - 127) * E2M1[code]`.
///
/// ```text
/// | scale: E8M0 | 16 bytes: 4-bit codes in a run of 16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct MXFP4 {
    /// Exponent of the scale, biased by 127.
    pub scale: u8,
    /// E2M1 codes, one run of 16 bytes.
    pub codes: [u8; 16],
}

impl Block<32> for MXFP4 {
    fn decode(&self, out: &mut [f32; 32]) {
        let half = e8m0_half_to_f32(self.scale);
        *out = unpack::<4, 16, 32>(&self.codes).map(|code| half * f32::from(E2M1_DOUBLED[usize::from(code)]));
    }
}

/// Half of an E8M0 scale: `2^(exponent - 128)`, exact.
///
/// Halved because the whole of exponent 255 is no f32, and [`E2M1_DOUBLED`] makes up for it. (The
/// specification calls exponent 255 NaN; GGML computes with it, and so do we.)
pub fn e8m0_half_to_f32(exponent: u8) -> f32 {
    match exponent {
        0 | 1 => f32::from_bits(0x0020_0000 << exponent),
        _ => f32::from_bits(u32::from(exponent - 1) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_scales_are_powers_of_two() {
        for exponent in 0..=255u8 {
            assert_eq!(f64::from(e8m0_half_to_f32(exponent)), 2f64.powi(i32::from(exponent) - 128));
        }
    }
}
