//! IQ3: the magnitudes of four values are a point of a grid; their signs are stored beside it.

use bytemuck::{Pod, Zeroable};

use super::iq2::{even_signs, signed_point};
use super::{Block, f16_to_f32, grids, packed_code};

/// 256 values: `d * (1/2 + scale) / 2 * ±point`, a scale for every 32.
///
/// ```text
/// | d: f16 | 64 bytes: grid indices | 8 words of 32 bits, one for every 32 values |
///
/// word:  28..32   21..28  14..21  7..14  0..7
///       | scale | even signs of 8 values each |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ3XXS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Grid index of 4 values each.
    pub grid: [u8; 64],
    /// Signs and scale of 32 values each, u32.
    pub words: [[u8; 4]; 8],
}

impl Block<256> for IQ3XXS {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        for (k, values) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let word = u32::from_le_bytes(self.words[k / 8]);
            let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
            let signs = even_signs((word >> (7 * (k / 2 % 4)) & 127) as u8);
            let point = &grids::IQ3_XXS[usize::from(self.grid[k])];
            *values = signed_point(scale, point, signs >> (4 * (k % 2)));
        }
    }
}

/// 256 values: `d * (1 + 2 * scale) * ±point`, a scale for every 32, every sign stored.
///
/// ```text
/// | d: f16 | 64 bytes: low 8 bits of 64 grid indices | 8 bytes: their ninth bits |
/// | 32 bytes: signs, bit i of value i, set: negative | 4 bytes: 4-bit scales |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ3S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Low 8 bits of the grid index of 4 values each.
    pub grid_low: [u8; 64],
    /// Ninth bits of the grid indices, plain order.
    pub grid_high: [u8; 8],
    /// Signs of 8 values each, a set bit for a negative one.
    pub signs: [u8; 32],
    /// 4-bit scales of 32 values each, plain order.
    pub scales: [u8; 4],
}

impl Block<256> for IQ3S {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        for (k, values) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let scale = d * f32::from(1 + 2 * packed_code::<4, 1>(&self.scales, k / 8));
            let high = usize::from(packed_code::<1, 1>(&self.grid_high, k));
            let point = &grids::IQ3_S[usize::from(self.grid_low[k]) | high << 8];
            *values = signed_point(scale, point, packed_code::<4, 1>(&self.signs, k));
        }
    }
}
