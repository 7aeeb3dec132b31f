//! Where quantised blocks keep their scales: the part of a format that does not depend on the instruction set.
//!
//! Every format is read as unsigned codes with a scale and an offset: `w = d q + m`, `m` a multiple (`OFFSET`) of a
//! number stored in the block, or of `d` itself. A kernel takes 256 values at a time, a *step*: 8 blocks of 32, or one
//! super-block; their scales fill one vector of 16.
//!
//! ```text
//! groups of 32: (d, m') of each of 8 groups, interleaved;   m = OFFSET * m'
//! groups of 16: d of each of 16 groups;                     m = OFFSET * d
//! ```
#![expect(unsafe_code, reason = "reads blocks by pointer")]

use super::super::activations::STEP;

/// A block layout with integer codes.
pub(super) trait Format {
    /// Bytes of a block.
    const BYTES: usize;
    /// Values of a block.
    const VALUES: usize;
    /// Groups of 16 values share a scale, not of 32.
    const GROUPS_OF_16: bool = false;
    /// Factor from the stored number to the offset of a value.
    const OFFSET: f32;
    /// Bytes before the codes.
    const CODES_AT: usize;

    /// Bytes of a step.
    const STEP_BYTES: usize = STEP / Self::VALUES * Self::BYTES;
}

/// 32 values around 8: `d f16 | 16 bytes`, low nibbles first.
pub(super) struct Q4_0;
/// 32 values: `d f16 | m f16 | 16 bytes`.
pub(super) struct Q4_1;
/// 32 values around 16: `d f16 | fifth bits u32 | 16 bytes`.
pub(super) struct Q5_0;
/// 32 values: `d f16 | m f16 | fifth bits u32 | 16 bytes`.
pub(super) struct Q5_1;
/// 32 signed bytes: `d f16 | 32 bytes`.
pub(super) struct Q8_0;
/// 8 groups of 32: `d f16 | m f16 | 12 bytes of 6-bit scales and minima | 128 bytes`, two groups' nibbles in 32 bytes.
pub(super) struct Q4K;
/// The same with a plane of fifth bits: `d | m | 12 bytes | 32 bytes | 128 bytes`.
pub(super) struct Q5K;
/// 16 groups of 16 around 32: `128 bytes low | 64 bytes high | 16 scales i8 | d f16`.
pub(super) struct Q6K;

impl Format for Q4_0 {
    const BYTES: usize = 18;
    const VALUES: usize = 32;
    const OFFSET: f32 = -8.0;
    const CODES_AT: usize = 2;
}
impl Format for Q4_1 {
    const BYTES: usize = 20;
    const VALUES: usize = 32;
    const OFFSET: f32 = 1.0;
    const CODES_AT: usize = 4;
}
impl Format for Q5_0 {
    const BYTES: usize = 22;
    const VALUES: usize = 32;
    const OFFSET: f32 = -16.0;
    const CODES_AT: usize = 6;
}
impl Format for Q5_1 {
    const BYTES: usize = 24;
    const VALUES: usize = 32;
    const OFFSET: f32 = 1.0;
    const CODES_AT: usize = 8;
}
impl Format for Q8_0 {
    const BYTES: usize = 34;
    const VALUES: usize = 32;
    const OFFSET: f32 = -128.0;
    const CODES_AT: usize = 2;
}
impl Format for Q4K {
    const BYTES: usize = 144;
    const VALUES: usize = 256;
    const OFFSET: f32 = -1.0;
    const CODES_AT: usize = 16;
}
impl Format for Q5K {
    const BYTES: usize = 176;
    const VALUES: usize = 256;
    const OFFSET: f32 = -1.0;
    const CODES_AT: usize = 48;
}
impl Format for Q6K {
    const BYTES: usize = 210;
    const VALUES: usize = 256;
    const GROUPS_OF_16: bool = true;
    const OFFSET: f32 = -32.0;
    const CODES_AT: usize = 0;
}

/// Bits of `(d, m)` as half floats of up to 8 blocks; zeros behind the last.
///
/// # Safety
/// `p` points to `n_blocks` blocks that begin with `d` and `m`.
#[inline(always)]
pub(super) unsafe fn scale_and_min<F: Format>(p: *const u8, n_blocks: usize) -> [u32; 8] {
    let mut pairs = [0; 8];
    for (block, pair) in pairs.iter_mut().enumerate().take(n_blocks) {
        // SAFETY: the block begins with both.
        *pair = unsafe { p.add(block * F::BYTES).cast::<u32>().read_unaligned() };
    }
    pairs
}

/// Bits of `(d, d)` as half floats of up to 8 blocks; zeros behind the last.
///
/// # Safety
/// `p` points to `n_blocks` blocks that begin with `d`.
#[inline(always)]
pub(super) unsafe fn scale_twice<F: Format>(p: *const u8, n_blocks: usize) -> [u32; 8] {
    let mut pairs = [0; 8];
    for (block, pair) in pairs.iter_mut().enumerate().take(n_blocks) {
        // SAFETY: the block begins with it.
        let d = unsafe { p.add(block * F::BYTES).cast::<u16>().read_unaligned() };
        *pair = u32::from(d) * 0x1_0001;
    }
    pairs
}

/// 6-bit scales and minima of Q4_K and Q5_K, interleaved: (scale 0, min 0, scale 1, ...).
///
/// ```text
/// byte j < 4:  scale j in bits 0..6, the top two of scale j + 4 above
/// byte 4 + j:  min j in bits 0..6, the top two of min j + 4 above
/// byte 8 + j:  low four of scale j + 4, low four of min j + 4
/// ```
/// # Safety
/// `p` points to a super-block.
#[inline(always)]
pub(super) unsafe fn scales_of_6_bits(p: *const u8) -> [u8; 16] {
    // SAFETY: the 12 bytes follow d and m.
    let [s, m, low] = unsafe { p.add(4).cast::<[u32; 3]>().read_unaligned() };
    let scales = u64::from(s & 0x3f3f_3f3f) | u64::from((low & 0x0f0f_0f0f) | ((s >> 2) & 0x3030_3030)) << 32;
    let minima =
        u64::from(m & 0x3f3f_3f3f) | u64::from(((low >> 4) & 0x0f0f_0f0f) | ((m >> 2) & 0x3030_3030)) << 32;
    let (scales, minima) = (scales.to_le_bytes(), minima.to_le_bytes());
    std::array::from_fn(|i| if i % 2 == 0 { scales[i / 2] } else { minima[i / 2] })
}
