//! IQ2: the magnitudes of eight values are a point of a grid; their signs are stored beside it.

use bytemuck::{Pod, Zeroable};

use super::{Block, f16_to_f32, grids, packed_code};

/// 256 values: `d * (1/2 + scale) / 4 * ±point`, a scale for every 32.
///
/// ```text
/// | d: f16 | 8 groups of 8 bytes, one for every 32 values |
///
/// group: | 4 bytes: grid indices | u32 |      u32:  28..32   21..28  14..21  7..14  0..7
///                                                  | scale | even signs of 8 values each |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ2XXS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Grid indices, signs and scale of 32 values each.
    pub groups: [[u8; 8]; 8],
}

impl Block<256> for IQ2XXS {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        for (k, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let group = &self.groups[k / 4];
            let word = u32::from_le_bytes([group[4], group[5], group[6], group[7]]);
            let point = &grids::IQ2_XXS[usize::from(group[k % 4])];
            let signs = even_signs((word >> (7 * (k % 4)) & 127) as u8);
            *values = signed_point(scale(d, (word >> 28) as u8), point, signs);
        }
    }
}

/// 256 values: `d * (1/2 + scale) / 4 * ±point`, a scale for every 16.
///
/// ```text
/// | d: f16 | 32 words of 16 bits, one for every 8 values | 8 bytes: 4-bit scales |
///
/// word:  9..16        0..9
///       | even signs | grid index |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ2XS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Grid index (low 9 bits) and signs (high 7) of 8 values each, u16.
    pub words: [[u8; 2]; 32],
    /// 4-bit scales of 16 values each, plain order.
    pub scales: [u8; 8],
}

impl Block<256> for IQ2XS {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        for (k, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let word = u16::from_le_bytes(self.words[k]);
            let point = &grids::IQ2_XS[usize::from(word & 511)];
            let scale = scale(d, packed_code::<4, 1>(&self.scales, k / 2));
            *values = signed_point(scale, point, even_signs((word >> 9) as u8));
        }
    }
}

/// 256 values: `d * (1/2 + scale) / 4 * ±point`, a scale for every 16, every sign stored.
///
/// ```text
/// | d: f16 | 32 bytes: low 8 bits of 32 grid indices | 32 bytes: signs, bit i of value i, set: negative |
/// | 8 bytes: high 2 bits of the indices | 8 bytes: 4-bit scales |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ2S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Low 8 bits of the grid index of 8 values each.
    pub grid_low: [u8; 32],
    /// Signs of 8 values each, a set bit for a negative one.
    pub signs: [u8; 32],
    /// High 2 bits of the grid indices, plain order.
    pub grid_high: [u8; 8],
    /// 4-bit scales of 16 values each, plain order.
    pub scales: [u8; 8],
}

impl Block<256> for IQ2S {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        for (k, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = usize::from(packed_code::<2, 1>(&self.grid_high, k));
            let point = &grids::IQ2_S[usize::from(self.grid_low[k]) | high << 8];
            let scale = scale(d, packed_code::<4, 1>(&self.scales, k / 2));
            *values = signed_point(scale, point, self.signs[k]);
        }
    }
}

fn scale(d: f32, scale: u8) -> f32 {
    d * (0.5 + f32::from(scale)) * 0.25
}

/// Eight signs from seven bits: the eighth makes the number of negative values even.
pub(super) fn even_signs(seven: u8) -> u8 {
    seven | ((seven.count_ones() as u8 & 1) << 7)
}

/// `scale * point`, negated where the bit is set.
pub(super) fn signed_point<const N: usize>(scale: f32, point: &[i8; N], signs: u8) -> [f32; N] {
    std::array::from_fn(|i| {
        let value = scale * f32::from(point[i]);
        if signs >> i & 1 == 0 { value } else { -value }
    })
}
