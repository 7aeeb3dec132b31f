//! A few tokens: blocks are read as they lie.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

use std::ops::Range;

use super::Blocks;
use super::codes::{Codes, each_kind};
use super::panel::add_products;
use crate::level::Kernel;
use crate::linear::activations::Token;
use crate::simd::Simd;

/// Bytes ahead of their use that weights are asked for.
const PREFETCH_BYTES: usize = 4096;

/// Rows times all tokens of the job.
pub(super) struct Few<'a, F>(pub(super) Blocks<'a, F>);

impl<F: Codes> Kernel for Few<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n_tokens = self.0.of.job.n_tokens();
        for i in 0..self.0.of.len() {
            let mut token = 0;
            while token < n_tokens {
                token += match n_tokens - token {
                    1 => self.tile::<S, 1>(s, i, token),
                    _ => self.tile::<S, 2>(s, i, token),
                };
            }
        }
    }
}

impl<F: Codes> Few<'_, F> {
    /// out[first .. first + T, the `i`-th rows] <- the products; returns `T`.
    #[inline(always)]
    fn tile<S: Simd, const T: usize>(&self, s: S, i: usize, first: usize) -> usize {
        let of = &self.0.of;
        let x: [Token; T] = std::array::from_fn(|t| of.x.token(of.job.token(first + t)));
        let mut acc = [s.sixteen(0.0); T];
        for block in 0..self.0.n_blocks() {
            let w = self.0.at(i, block);
            // SAFETY: one of the rows' blocks; the tokens hold as many values.
            unsafe { add_block::<S, F, T>(s, &mut acc, w, block * F::VALUES, &x) };
        }
        for t in 0..T {
            of.set(s, first + t, i, acc[t], of.job.weight.cols());
        }
        T
    }
}

/// acc[t] += one block of 16 rows times values `at ..` of every token.
///
/// # Safety
/// `w` points to 16 interleaved blocks of the format, the tokens hold `at + F::VALUES` values (padded to 256).
#[inline(always)]
unsafe fn add_block<S: Simd, F: Codes, const T: usize>(
    s: S,
    acc: &mut [S::Sixteen; T],
    w: *const u8,
    at: usize,
    x: &[Token; T],
) {
    for i in 0..F::VALUES / F::GROUP / F::KINDS {
        // SAFETY: the caller's promise; the block's groups.
        unsafe {
            each_kind!(F, i, |group| add_group::<S, F, T>(s, acc, w, group, at + group * F::GROUP, x));
        }
    }
}

/// acc[t] += a group of the block times values `at ..` of every token.
///
/// # Safety
/// As [`add_block`].
#[inline(always)]
unsafe fn add_group<S: Simd, F: Codes, const T: usize>(
    s: S,
    acc: &mut [S::Sixteen; T],
    w: *const u8,
    group: usize,
    at: usize,
    x: &[Token; T],
) {
    // Every group asks for its share of what comes later.
    let share = F::LANES_BYTES * F::GROUP / F::VALUES;
    for line in (0..share).step_by(64) {
        s.prefetch(w.wrapping_add(PREFETCH_BYTES + group * share + line));
    }
    // SAFETY: the caller's promise.
    unsafe {
        let dots = dots::<S, F, T>(s, w, group, at, x);
        for part in 0..S::PARTS {
            let (scale, offset) = F::scale_and_offset(s, w, group, part);
            for t in 0..T {
                if !F::SIGNED || !S::SIGNED_CODES {
                    let sum = if F::GROUP == 16 { x[t].sum::<16>(at) } else { x[t].sum::<32>(at) };
                    acc[t][part] = s.fma(offset, s.splat(sum), acc[t][part]);
                }
                let scale = s.mul(scale, s.splat(*x[t].scales.add(at / 16)));
                acc[t][part] = s.fma(s.to_f32(dots[t][part]), scale, acc[t][part]);
            }
        }
    }
}

/// Integer products of a group: 16 rows with every token.
///
/// # Safety
/// As [`add_block`].
#[inline(always)]
unsafe fn dots<S: Simd, F: Codes, const T: usize>(
    s: S,
    w: *const u8,
    group: usize,
    at: usize,
    x: &[Token; T],
) -> [S::SixteenI; T] {
    let mut dots = [s.sixteen_i(0); T];
    for first in summed::<S, F>() {
        let mut sums = [s.sixteen_i(0); T];
        for k in first.clone() {
            // SAFETY: the caller's promise; four of each token's values.
            unsafe {
                let mut codes = s.sixteen_i(0);
                for part in 0..S::PARTS {
                    codes[part] = F::multiplicand(s, w, group, k, part);
                }
                for t in 0..T {
                    let x = s.splat_i(x[t].codes.add(at + 4 * k).cast::<u32>().read_unaligned());
                    for part in 0..S::PARTS {
                        let (sum, codes, alone) = (sums[t][part], codes[part], k == first.start);
                        sums[t][part] = if F::SIGNED {
                            add_products::<S, true>(s, sum, codes, x, alone)
                        } else {
                            add_products::<S, false>(s, sum, codes, x, alone)
                        };
                    }
                }
            }
        }
        for t in 0..T {
            for part in 0..S::PARTS {
                let folded = s.folded(sums[t][part]);
                dots[t][part] = if first.start == 0 { folded } else { s.add_i(dots[t][part], folded) };
            }
        }
    }
    dots
}

/// K-steps of a group whose products are summed before they are folded, and the next such.
#[inline(always)]
fn summed<S: Simd, F: Codes>() -> impl Iterator<Item = Range<usize>> {
    let summed = if S::SUMS_OF_16_BITS { F::SUMMED } else { F::STEPS };
    (0..F::STEPS).step_by(summed).map(move |first| first..first + summed)
}
