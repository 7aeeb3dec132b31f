//! IQ4: 4-bit codes into a table whose steps widen away from zero.

use bytemuck::{Pod, Zeroable};

use super::{Block, f16_to_f32, join, unpack};

/// What the codes of [`IQ4NL`] and [`IQ4XS`] stand for, times the scale.
pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 values: `d * IQ4_VALUES[code]`.
///
/// ```text
/// | d: f16 | 16 bytes: 4-bit codes in a run of 16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ4NL {
    /// Scale, f16.
    pub d: [u8; 2],
    /// 4-bit codes, one run of 16 bytes.
    pub codes: [u8; 16],
}

impl Block<32> for IQ4NL {
    fn decode(&self, out: &mut [f32; 32]) {
        let d = f16_to_f32(self.d);
        *out = unpack::<4, 16, 32>(&self.codes).map(|code| d * f32::from(IQ4_VALUES[usize::from(code)]));
    }
}

/// 256 values: `d * (scale - 32) * IQ4_VALUES[code]`, a 6-bit scale for every 32.
///
/// ```text
/// | d: f16 | 2 bytes: high 2 bits of 8 scales | 4 bytes: low 4 bits | 128 bytes: 4-bit codes in runs of 16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ4XS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// High 2 bits of the scales of 32 values each, plain order.
    pub scales_high: [u8; 2],
    /// Low 4 bits of the scales, plain order.
    pub scales_low: [u8; 4],
    /// 4-bit codes, eight runs of 16 bytes.
    pub codes: [u8; 128],
}

impl Block<256> for IQ4XS {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        let scales = join::<4, 8>(unpack::<4, 1, 8>(&self.scales_low), unpack::<2, 1, 8>(&self.scales_high));
        let sub_blocks = out.as_chunks_mut::<32>().0.iter_mut().zip(self.codes.as_chunks::<16>().0);
        for ((values, codes), scale) in sub_blocks.zip(scales) {
            let scale = d * (f32::from(scale) - 32.0);
            *values = unpack::<4, 16, 32>(codes).map(|code| scale * f32::from(IQ4_VALUES[usize::from(code)]));
        }
    }
}
