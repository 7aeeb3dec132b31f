//! Activations quantised to 8 bits, shared by all matrices of a linear stage.
//!
//! ```text
//! one token, padded with zeros to a multiple of 256 values:
//! codes  i8  [cols]       x = scale * code, scale = max|x| / 127 over each 32 values
//! scales f32 [cols / 16]  the scale of each 16 values (two and two alike)
//! sums16 f32 [cols / 16]  scale times the sum of each 16 codes
//! sums32 f32 [cols / 16]  (0, scale times the sum of 32 codes), pair by pair
//! pairs16, pairs32        i16 [cols / 16][2] each: the same two sums of codes alone, of those in the first and the last two
//!                         places of every four
//! ```
//! The sums carry offsets and minima: sum of (d q + m) x = d (sum of q x) + m (sum of x). They are laid out like the
//! scales of 256 weights, so that a kernel multiplies vector by vector.

use bytemuck::{Pod, Zeroable};

use super::Rows;
use crate::Fit;
use crate::level::{Isa, Kernel};
use crate::simd::Simd;

/// Values whose scales fill a vector of 16: the unit of all integer kernels.
pub(crate) const STEP: usize = 256;

/// A cache line: keeps codes and scales aligned.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

impl Default for Line {
    fn default() -> Self {
        Self::zeroed()
    }
}

/// Quantised activations of a step.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    lines: Vec<Line>,
    /// Values of a token, padded.
    stride: usize,
}

/// One token's part, by pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) codes: *const i8,
    pub(crate) scales: *const f32,
    pub(crate) sums16: *const f32,
    pub(crate) sums32: *const f32,
    pub(crate) pairs16: *const u32,
    pub(crate) pairs32: *const u32,
}

impl Token {
    /// Scale times the sum of the codes of the `group` values, 16 or 32, that begin at `at`.
    ///
    /// # Safety
    /// The token has such a group.
    #[inline(always)]
    #[expect(unsafe_code, reason = "reads the token's record by pointer")]
    pub(crate) unsafe fn sum(&self, group: usize, at: usize) -> f32 {
        // SAFETY: the caller's promise; the records have an entry for every 16 values.
        unsafe { if group == 16 { *self.sums16.add(at / 16) } else { *self.sums32.add(at / 16 + 1) } }
    }

    /// Sums of the group's codes in the first and the last two places of every four, 16 bits each.
    ///
    /// # Safety
    /// The token has such a group.
    #[inline(always)]
    #[expect(unsafe_code, reason = "reads the token's record by pointer")]
    pub(crate) unsafe fn pairs(&self, group: usize, at: usize) -> u32 {
        // SAFETY: the caller's promise; the records have an entry for every 16 values.
        unsafe { if group == 16 { *self.pairs16.add(at / 16) } else { *self.pairs32.add(at / 16 + 1) } }
    }
}

/// Cache lines that a token of `stride` values takes: 1 + 5 * 4/16 bytes a value.
const fn record_lines(stride: usize) -> usize {
    stride / STEP * 9
}

impl Activations {
    /// Makes room for tokens of `cols` values and returns their records, all of the same length, to be filled.
    pub(crate) fn records(&mut self, n_tokens: usize, cols: usize) -> (&mut [Line], usize) {
        self.stride = cols.next_multiple_of(STEP);
        let record = record_lines(self.stride);
        self.lines.fit(n_tokens * record);
        (&mut self.lines, record)
    }

    /// One token: `stride` codes and `stride / 16` of each kind of number.
    #[inline]
    pub(crate) fn token(&self, token: usize) -> Token {
        let record = record_lines(self.stride);
        let codes = self.lines[token * record..(token + 1) * record].as_ptr().cast::<i8>();
        let numbers = |i: usize| codes.wrapping_add(self.stride + i * (self.stride / 16 * size_of::<f32>()));
        Token {
            codes,
            scales: numbers(0).cast(),
            sums16: numbers(1).cast(),
            sums32: numbers(2).cast(),
            pairs16: numbers(3).cast(),
            pairs32: numbers(4).cast(),
        }
    }
}

/// Quantises the rows of `x` from `first` on into their records.
pub(crate) fn quantise(isa: Isa, records: &mut [Line], record: usize, x: &Rows<'_>, first: usize) {
    for (lines, row) in records.chunks_exact_mut(record).zip(first..) {
        isa.run(Quantise { lines, x: x.row(row) });
    }
}

struct Quantise<'a> {
    lines: &'a mut [Line],
    x: &'a [f32],
}

impl Kernel for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let stride = self.x.len().next_multiple_of(STEP);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(self.lines);
        let (codes, floats) = bytes.split_at_mut(stride);
        let (codes, floats): (&mut [i8], &mut [f32]) =
            (bytemuck::cast_slice_mut(codes), bytemuck::cast_slice_mut(floats));
        let (scales, sums) = floats.split_at_mut(stride / 16);
        let (sums, pairs) = sums.split_at_mut(stride / 8);
        let (sums16, sums32) = sums.split_at_mut(stride / 16);
        let pairs: &mut [[i16; 2]] = bytemuck::cast_slice_mut(pairs);
        let (pairs16, pairs32) = pairs.split_at_mut(stride / 16);
        let mut n_blocks = 0;
        for (block, x) in self.x.chunks_exact(32).enumerate() {
            let x: &[f32; 32] = x.try_into().expect("exact chunks");
            let codes = &mut codes[32 * block..][..32];
            let scale = block_of_32(s, x, codes);
            let (first, last) = codes.split_at(16);
            let (first, last) = (pairs_of(first), pairs_of(last));
            let both = [first[0] + last[0], first[1] + last[1]];
            let sum = |[a, b]: [i16; 2]| f32::from(a + b) * scale;
            scales[2 * block..][..2].fill(scale);
            sums16[2 * block..][..2].copy_from_slice(&[sum(first), sum(last)]);
            sums32[2 * block..][..2].copy_from_slice(&[0.0, sum(first) + sum(last)]);
            pairs16[2 * block..][..2].copy_from_slice(&[first, last]);
            pairs32[2 * block..][..2].copy_from_slice(&[[0; 2], both]);
            n_blocks += 1;
        }
        codes[32 * n_blocks..].fill(0);
        for floats in [scales, sums16, sums32] {
            floats[2 * n_blocks..].fill(0.0);
        }
        for pairs in [pairs16, pairs32] {
            pairs[2 * n_blocks..].fill([0; 2]);
        }
    }
}

/// Codes of 32 values, and their scale.
#[inline(always)]
#[expect(unsafe_code, reason = "vector loads and stores in arrays of 32")]
fn block_of_32<S: Simd>(s: S, x: &[f32; 32], codes: &mut [i8]) -> f32 {
    assert_eq!(codes.len(), 32);
    let mut largest = s.splat(0.0);
    for i in (0..32).step_by(S::LANES) {
        // SAFETY: i + LANES is at most 32.
        let x = unsafe { s.load(x.as_ptr().add(i)) };
        largest = s.max(largest, s.max(x, s.sub(s.splat(0.0), x)));
    }
    let scale = s.largest(largest) / 127.0;
    // Blocks too small for an inverse are zeros.
    let (scale, inverse) = if scale >= f32::MIN_POSITIVE { (scale, scale.recip()) } else { (0.0, 0.0) };
    let inverse = s.splat(inverse);
    for i in (0..32).step_by(S::LANES) {
        // SAFETY: i + LANES is at most 32.
        unsafe {
            let code = s.round(s.mul(s.load(x.as_ptr().add(i)), inverse));
            s.store_i8(codes.as_mut_ptr().add(i), code);
        }
    }
    scale
}

/// Sums of 16 codes in the first and the last two places of every four.
#[inline(always)]
fn pairs_of(codes: &[i8]) -> [i16; 2] {
    const LOW_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    /// What makes codes unsigned adds as much to each of the two sums of eight.
    const SHIFT: i16 = 8 * 128;
    let codes: &[[u8; 8]] = bytemuck::cast_slice(codes);
    let mut pairs = 0;
    for eight in codes {
        let eight = u64::from_le_bytes(*eight) ^ 0x8080_8080_8080_8080;
        pairs += (eight & LOW_BYTES) + (eight >> 8 & LOW_BYTES);
    }
    let pairs = pairs + (pairs >> 32);
    [pairs as i16 - SHIFT, (pairs >> 16) as i16 - SHIFT]
}
