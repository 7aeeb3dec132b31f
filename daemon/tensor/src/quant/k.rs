//! K-quants: 256 values in sub-blocks of 16 or 32, whose scales are themselves quantised.

use bytemuck::{Pod, Zeroable};

use super::{Block, f16_to_f32, join, unpack};

/// 256 values: `d * scale * code - dmin * min`, a scale and a minimum for every 16.
///
/// ```text
/// | 16 bytes: scale in bits 0..4, min in 4..8 | 64 bytes: 2-bit codes in runs of 32 | d: f16 | dmin: f16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q2K {
    /// Scale (low 4 bits) and minimum (high 4 bits) of 16 values each.
    pub scales: [u8; 16],
    /// 2-bit codes, two runs of 32 bytes.
    pub codes: [u8; 64],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
}

impl Block<256> for Q2K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (f16_to_f32(self.d), f16_to_f32(self.dmin));
        let scales = self.scales.map(|byte| d * f32::from(byte & 15));
        let mins = self.scales.map(|byte| dmin * f32::from(byte >> 4));
        let codes = unpack::<2, 32, 256>(&self.codes);
        decode_sub_blocks::<16>(out, &codes, |j, code| scales[j] * code - mins[j]);
    }
}

/// 256 values: `d * (scale - 32) * (low + 4 * high - 4)`, a 6-bit scale for every 16.
///
/// ```text
/// | 32 bytes: high bits in a run of 32 | 64 bytes: low 2 bits in runs of 32 | 12 bytes: scales | d: f16 |
///
/// scales: | 8 bytes: low 4 bits of 16 scales in a run of 8 | 4 bytes: high 2 bits in a run of 4 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q3K {
    /// Third bits, one run of 32 bytes.
    pub high: [u8; 32],
    /// Low 2 bits, two runs of 32 bytes.
    pub low: [u8; 64],
    /// Low 4 bits of the scales of 16 values each, one run of 8 bytes.
    pub scales_low: [u8; 8],
    /// High 2 bits of the scales, one run of 4 bytes.
    pub scales_high: [u8; 4],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

impl Block<256> for Q3K {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        let scales =
            join::<4, 16>(unpack::<4, 8, 16>(&self.scales_low), unpack::<2, 4, 16>(&self.scales_high));
        let scales = scales.map(|scale| d * (f32::from(scale) - 32.0));
        let codes = join::<2, 256>(unpack::<2, 32, 256>(&self.low), unpack::<1, 32, 256>(&self.high));
        decode_sub_blocks::<16>(out, &codes, |j, code| scales[j] * (code - 4.0));
    }
}

/// The eight 6-bit scales and eight 6-bit minima of [`Q4K`] and [`Q5K`].
///
/// ```text
/// byte      bits 0..6     bits 6..8
/// 0..4      scale 0..4    high 2 bits of scale 4..8
/// 4..8      min 0..4      high 2 bits of min 4..8
///
/// byte      bits 0..4                bits 4..8
/// 8..12     low bits of scale 4..8   low bits of min 4..8
/// ```
pub fn k_scales(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        let (scale, min, low) = (packed[j], packed[4 + j], packed[8 + j]);
        scales[j] = scale & 63;
        mins[j] = min & 63;
        scales[4 + j] = low & 15 | scale >> 6 << 4;
        mins[4 + j] = low >> 4 | min >> 6 << 4;
    }
    (scales, mins)
}

/// 256 values: `d * scale * code - dmin * min`, a 6-bit scale and minimum for every 32.
///
/// ```text
/// | d: f16 | dmin: f16 | 12 bytes: k_scales | 128 bytes: 4-bit codes in runs of 32 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
    /// Scales and minima of 32 values each, packed as [`k_scales`] says.
    pub scales: [u8; 12],
    /// 4-bit codes, four runs of 32 bytes.
    pub codes: [u8; 128],
}

impl Block<256> for Q4K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scales, mins) = scales_and_mins(self.d, self.dmin, &self.scales);
        let codes = unpack::<4, 32, 256>(&self.codes);
        decode_sub_blocks::<32>(out, &codes, |j, code| scales[j] * code - mins[j]);
    }
}

/// 256 values: `d * scale * (low + 16 * high) - dmin * min`, a 6-bit scale and minimum for every 32.
///
/// ```text
/// | d: f16 | dmin: f16 | 12 bytes: k_scales |
/// | 32 bytes: fifth bits in a run of 32 | 128 bytes: low 4 bits in runs of 32 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q5K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
    /// Scales and minima of 32 values each, packed as [`k_scales`] says.
    pub scales: [u8; 12],
    /// Fifth bits, one run of 32 bytes.
    pub high: [u8; 32],
    /// Low 4 bits, four runs of 32 bytes.
    pub low: [u8; 128],
}

impl Block<256> for Q5K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scales, mins) = scales_and_mins(self.d, self.dmin, &self.scales);
        let codes = join::<4, 256>(unpack::<4, 32, 256>(&self.low), unpack::<1, 32, 256>(&self.high));
        decode_sub_blocks::<32>(out, &codes, |j, code| scales[j] * code - mins[j]);
    }
}

/// `d * scale` and `dmin * min` of the eight sub-blocks.
fn scales_and_mins(d: [u8; 2], dmin: [u8; 2], packed: &[u8; 12]) -> ([f32; 8], [f32; 8]) {
    let (d, dmin) = (f16_to_f32(d), f16_to_f32(dmin));
    let (scales, mins) = k_scales(packed);
    (scales.map(|scale| d * f32::from(scale)), mins.map(|min| dmin * f32::from(min)))
}

/// 256 values: `d * scale * (low + 16 * high - 32)`, a signed scale for every 16.
///
/// ```text
/// | 128 bytes: low 4 bits in runs of 64 | 64 bytes: high 2 bits in runs of 32 |
/// | 16 signed bytes: scales | d: f16 |
/// ```
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q6K {
    /// Low 4 bits, two runs of 64 bytes.
    pub low: [u8; 128],
    /// High 2 bits, two runs of 32 bytes.
    pub high: [u8; 64],
    /// Scales of 16 values each.
    pub scales: [i8; 16],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

impl Block<256> for Q6K {
    fn decode(&self, out: &mut [f32; 256]) {
        let d = f16_to_f32(self.d);
        let scales = self.scales.map(|scale| d * f32::from(scale));
        let codes = join::<4, 256>(unpack::<4, 64, 256>(&self.low), unpack::<2, 32, 256>(&self.high));
        decode_sub_blocks::<16>(out, &codes, |j, code| scales[j] * (code - 32.0));
    }
}

/// out[i] = value(i / SUB, codes[i]): every sub-block of `SUB` values with its own scale.
#[inline(always)]
fn decode_sub_blocks<const SUB: usize>(
    out: &mut [f32; 256],
    codes: &[u8; 256],
    value: impl Fn(usize, f32) -> f32,
) {
    let sub_blocks = out.chunks_exact_mut(SUB).zip(codes.chunks_exact(SUB));
    for (j, (out, codes)) in sub_blocks.enumerate() {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = value(j, f32::from(code));
        }
    }
}
