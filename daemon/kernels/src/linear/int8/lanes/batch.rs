//! Some columns of up to 16 tokens, brought together from wherever each token lies: one pointer reaches them all.
//!
//! ```text
//! codes:    [k-steps][16 tokens][4 values] bytes, or for tiles [16 tokens][ROW_BYTES]
//! scales:   [groups][16 tokens] f32
//! sums:     [groups][16 tokens] f32, where the kind has minima
//! offsets:  [groups][16 tokens] what sums begin with and products of the panel's offset, as the level sums products, where it
//!           has one
//! ```
#![expect(unsafe_code, reason = "reads activations by pointer")]

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Zeroable;

use super::Sixteens;
use super::dots::Values;
use super::format::Kind;
use super::interleave::words;
use crate::linear::activations::{Line, Token};
use crate::simd::{Simd, TILE};

/// Columns of a batch for tiles.
pub(super) const TILE_COLS: usize = 2048;
/// For tiles, from one token's codes to the next. Not a power of two, or all would fall into a few sets of the cache.
pub(super) const ROW_BYTES: usize = TILE_COLS + size_of::<Line>();

/// See the top.
#[derive(Debug, Default)]
pub(super) struct Batch {
    codes: Vec<Line>,
    scales: Vec<Line>,
    sums: Vec<Line>,
    offsets: Vec<Line>,
}

/// How the codes of a batch lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// For vectors: k-step by k-step.
    Lanes,
    /// For tiles: token by token, up to [`TILE_COLS`] columns.
    Rows,
}

/// Of which activations a batch is made.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) of: &'a Sixteens<'a>,
    pub(super) cols: &'a Range<usize>,
    /// What is added to every code that they are multiplied with.
    pub(super) offset: i32,
}

impl Batch {
    /// Takes some columns of up to 16 tokens; the last one again where there are not 16.
    #[inline(always)]
    pub(super) fn fill<S: Simd, K: Kind>(
        &mut self,
        s: S,
        Part { of, cols, offset }: Part<'_>,
        tokens: &Range<usize>,
        order: Order,
    ) {
        let tokens: [Token; TILE] =
            std::array::from_fn(|t| of.x.token(of.job.token((tokens.start + t).min(tokens.end - 1))));
        // SAFETY: the tokens have the columns, padded to 256, and a number for every 16 of them.
        unsafe {
            match order {
                Order::Lanes => {
                    gather(s, &tokens.map(|x| x.codes.cast()), cols.start, cols.len() / 4, &mut self.codes);
                }
                Order::Rows => self.copy_rows(&tokens, cols),
            }
            gather_numbers::<S, K>(s, &tokens.map(|x| x.scales.cast()), cols, &mut self.scales);
            if K::MINIMA {
                let sums = tokens.map(|x| if K::GROUP == 16 { x.sums16 } else { x.sums32 });
                gather_numbers::<S, K>(s, &sums.map(<*const f32>::cast), cols, &mut self.sums);
            }
            if K::shifted::<S>() {
                let pairs = tokens.map(|x| if K::GROUP == 16 { x.pairs16 } else { x.pairs32 });
                gather_numbers::<S, K>(s, &pairs.map(<*const u32>::cast), cols, &mut self.offsets);
                for line in &mut self.offsets {
                    let line = std::ptr::from_mut(line).cast::<u8>();
                    for part in 0..S::PARTS {
                        let line = line.add(4 * S::LANES * part);
                        s.store_i(line, s.offset_products(s.load_i(line), offset));
                    }
                }
            }
        }
    }

    /// Codes in rows.
    ///
    /// # Safety
    /// The tokens have the columns.
    unsafe fn copy_rows(&mut self, tokens: &[Token; TILE], cols: &Range<usize>) {
        self.codes.resize(TILE * ROW_BYTES / size_of::<Line>(), Line::zeroed());
        let codes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.codes);
        for (codes, token) in codes.chunks_exact_mut(ROW_BYTES).zip(tokens) {
            // SAFETY: the caller's promise.
            let from = unsafe { std::slice::from_raw_parts(token.codes.add(cols.start).cast(), cols.len()) };
            codes[..cols.len()].copy_from_slice(from);
        }
    }

    /// Where the codes of group `group` begin, in rows for tiles.
    #[inline(always)]
    pub(super) fn rows<K: Kind>(&self, group: usize) -> *const i8 {
        self.codes.as_ptr().cast::<i8>().wrapping_add(group * K::GROUP)
    }
}

/// lines[i][t] <- the `i`-th of `n` units of four bytes from byte `at` of row `t` on.
///
/// # Safety
/// Every row has them.
#[inline(always)]
unsafe fn gather<S: Simd>(s: S, rows: &[*const u8; TILE], at: usize, n: usize, lines: &mut Vec<Line>) {
    lines.resize(n, Line::zeroed());
    // SAFETY: the caller's promise.
    unsafe { words(s, rows, at, n, bytemuck::cast_slice_mut(lines)) }
}

/// lines[group][t] <- the number that row `t`, which has one for every 16 columns, has for the group: of two the second.
///
/// # Safety
/// The rows have numbers for these columns, padded to 64, which begin at a multiple of 64.
#[inline(always)]
unsafe fn gather_numbers<S: Simd, K: Kind>(
    s: S,
    rows: &[*const u8; TILE],
    cols: &Range<usize>,
    lines: &mut Vec<Line>,
) {
    const { assert!(K::GROUP == 16 || K::GROUP == 32, "one number of four bytes for every 16 columns, or two") }
    let at = cols.start / 16 * size_of::<f32>();
    lines.resize(cols.len() / K::GROUP, Line::zeroed());
    for (i, lines) in lines.chunks_mut(64 / K::GROUP).enumerate() {
        let mut four = [Line::zeroed(); 4];
        // SAFETY: the caller's promise; four numbers are those of 64 columns.
        unsafe { s.interleave(rows, at + 16 * i, four.as_mut_ptr().cast()) };
        for (line, four) in lines.iter_mut().zip(four.chunks_exact(K::GROUP / 16)) {
            *line = four[K::GROUP / 16 - 1];
        }
    }
}

/// A group of a batch, from one of its tokens on.
pub(super) struct Together<'a, K> {
    codes: *const u32,
    scales: *const f32,
    sums: *const f32,
    offsets: *const u32,
    of: PhantomData<(&'a Batch, K)>,
}

impl<K: Kind> Together<'_, K> {
    /// Group `group` of a batch of kind `K` from token `first` on.
    #[inline(always)]
    pub(super) fn new<S: Simd>(s: S, batch: &Batch, group: usize, first: usize) -> Together<'_, K> {
        let (line, number) = (group * (K::GROUP / 4) * TILE + first, group * TILE + first);
        Together {
            // One register: with two, each product is two operations for the processor's front end.
            codes: s.unknown(batch.codes.as_ptr().cast::<u8>().wrapping_add(4 * line)).cast(),
            scales: batch.scales.as_ptr().cast::<f32>().wrapping_add(number),
            sums: batch.sums.as_ptr().cast::<f32>().wrapping_add(number),
            offsets: batch.offsets.as_ptr().cast::<u32>().wrapping_add(number),
            of: PhantomData,
        }
    }
}

impl<S: Simd, K: Kind> Values<S> for Together<'_, K> {
    #[inline(always)]
    unsafe fn codes(&self, k: usize, t: usize) -> u32 {
        // SAFETY: the caller's promise; a line is 16 times four codes.
        unsafe { *self.codes.add(k * TILE + t) }
    }
    #[inline(always)]
    unsafe fn scale(&self, t: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.scales.add(t) }
    }
    #[inline(always)]
    unsafe fn sum(&self, t: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.sums.add(t) }
    }
    #[inline(always)]
    unsafe fn offset_products(&self, s: S, t: usize, _: i32) -> S::I {
        // SAFETY: the caller's promise; made with the same offset.
        s.splat_i(unsafe { *self.offsets.add(t) })
    }
}
