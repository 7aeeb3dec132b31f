//! IQ1: eight values are one of 2048 ternary points of a grid, shifted by an eighth up or down.

use bytemuck::{Pod, Zeroable};

use super::{Block, f16_to_f32, grids, packed_code};

/// What is added to the -1, 0 and 1 of the grid, or taken from them.
const SHIFT: f32 = 0.125;

/// 256 values: `d * (2 * scale + 1) * (point ± 1/8)`, a scale and a sign of the shift for every 32.
///
/// ```text
/// | d: f16 | 32 bytes: low 8 bits of 32 grid indices | 8 words of 16 bits, one for every 32 values |
///
/// word:  15           12..15   9..12  6..9  3..6  0..3
///       | shift down | scale |  high 3 bits of 4 grid indices |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ1S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Low 8 bits of the grid index of 8 values each.
    pub grid_low: [u8; 32],
    /// High bits of four grid indices, scale and sign of the shift, u16, of 32 values each.
    pub words: [[u8; 2]; 8],
}

impl Block<256> for IQ1S {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        for (k, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let word = u16::from_le_bytes(self.words[k / 4]);
            let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
            let shift = if word & 0x8000 == 0 { SHIFT } else { -SHIFT };
            let high = word >> (3 * (k % 4)) & 7;
            *values = shifted_point(scale, shift, u16::from(self.grid_low[k]) | high << 8);
        }
    }
}

/// 256 values: `d * (2 * scale + 1) * (point ± 1/8)`, a scale for every 16, a sign of the shift for every 8.
///
/// ```text
/// | 32 bytes: low 8 bits of 32 grid indices | 16 bytes: 32 nibbles | 4 words of 16 bits |
///
/// nibble:  3            0..3                        word j:  12..16              9..12  6..9  3..6  0..3
///         | shift down | high 3 bits of the index |         | bits 4j.. of d: f16 | scales 4j + 3 .. 4j |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IQ1M {
    /// Low 8 bits of the grid index of 8 values each.
    pub grid_low: [u8; 32],
    /// High bits of the grid index and sign of the shift, 4 bits for 8 values, plain order.
    pub grid_high: [u8; 16],
    /// Four 3-bit scales of 16 values each, and 4 bits of the scale of the scales, u16.
    pub words: [[u8; 2]; 4],
}

impl Block<256> for IQ1M {
    fn decode(&self, out: &mut [f32; 256]) {
        let words = self.words.map(u16::from_le_bytes);
        let d = words.iter().rev().fold(0, |d, word| d << 4 | word >> 12);
        let d = f16_to_f32(d.to_le_bytes());
        for (k, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let scale = words[k / 8] >> (3 * (k / 2 % 4)) & 7;
            let nibble = packed_code::<4, 1>(&self.grid_high, k);
            let shift = if nibble & 8 == 0 { SHIFT } else { -SHIFT };
            let point = u16::from(self.grid_low[k]) | u16::from(nibble & 7) << 8;
            *values = shifted_point(d * f32::from(2 * scale + 1), shift, point);
        }
    }
}

fn shifted_point(scale: f32, shift: f32, point: u16) -> [f32; 8] {
    grids::IQ1[usize::from(point)].map(|value| scale * (f32::from(value) + shift))
}
