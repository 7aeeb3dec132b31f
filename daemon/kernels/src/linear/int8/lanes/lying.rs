//! Blocks read as they lie: with a few tokens, whose sums the registers hold.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

use std::marker::PhantomData;

use super::codes::{Codes, each_kind};
use super::dots::{Apart, Group, add_dots};
use super::format::Kind;
use super::{Blocks, even_tiles};
use crate::level::Kernel;
use crate::linear::activations::Token;
use crate::simd::Simd;

/// A tile's rows times all tokens of the job.
pub(super) struct Lying<'a, F>(pub(super) Blocks<'a, F>);

impl<F: Codes> Kernel for Lying<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for tokens in even_tiles(self.0.of.job.n_tokens(), S::TOKENS) {
            match tokens.len() {
                1 => self.tile::<S, 1>(s, tokens.start),
                2 => self.tile::<S, 2>(s, tokens.start),
                // Compiled only where tiles are that large.
                3 if S::TOKENS > 2 => self.tile::<S, 3>(s, tokens.start),
                4 if S::TOKENS > 2 => self.tile::<S, 4>(s, tokens.start),
                5 if S::TOKENS > 2 => self.tile::<S, 5>(s, tokens.start),
                6 if S::TOKENS > 2 => self.tile::<S, 6>(s, tokens.start),
                7 if S::TOKENS > 2 => self.tile::<S, 7>(s, tokens.start),
                8 if S::TOKENS > 2 => self.tile::<S, 8>(s, tokens.start),
                n => unreachable!("{n} tokens in tiles of {}", S::TOKENS),
            }
        }
    }
}

impl<F: Codes> Lying<'_, F> {
    /// out[first .. first + T, all rows] = the products.
    #[inline(always)]
    fn tile<S: Simd, const T: usize>(&self, s: S, first: usize) {
        let of = &self.0.of;
        let x: [Token; T] = std::array::from_fn(|t| of.x.token(of.job.token(first + t)));
        for i in 0..of.len() {
            let mut acc = [s.sixteen(0.0); T];
            for block in 0..self.0.n_blocks() {
                let w = self.0.at(i, block);
                // SAFETY: one of the rows' blocks; the tokens hold as many values.
                unsafe { add_block::<S, F, T>(s, &mut acc, w, block * F::VALUES, &x) };
            }
            for t in 0..T {
                of.set(s, first + t, i, acc[t], of.job.weight.cols());
            }
        }
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
    let (mut sums, mut minima) = ([s.sixteen(0.0); T], [s.sixteen(0.0); T]);
    for i in 0..F::VALUES / F::GROUP / F::KINDS {
        // SAFETY: the caller's promise; the block's groups.
        unsafe {
            each_kind!(F, i, |group| {
                let lying = LyingGroup { w, codes: s.unknown(w), group, format: PhantomData::<F> };
                lying.add(s, &mut sums, &mut minima, at + group * F::GROUP, x);
            });
        }
    }
    for part in 0..S::PARTS {
        // SAFETY: the caller's promise.
        let (d, m) = unsafe { F::factors(s, w, part) };
        for t in 0..T {
            acc[t][part] = s.fma(d, sums[t][part], acc[t][part]);
            if F::Kind::MINIMA {
                acc[t][part] = s.fma(m, minima[t][part], acc[t][part]);
            }
        }
    }
}

/// A group of a block as it lies.
struct LyingGroup<F> {
    /// The block.
    w: *const u8,
    /// The same, for its codes: the next group has other bits of these bytes.
    codes: *const u8,
    group: usize,
    format: PhantomData<F>,
}

impl<S: Simd, F: Codes> Group<S> for LyingGroup<F> {
    type Kind = F::Kind;
    const IN_ORDER: bool = false;

    #[inline(always)]
    unsafe fn codes(&self, s: S, k: usize, part: usize) -> S::I {
        // SAFETY: the caller's promise.
        unsafe { F::multiplicand(s, self.codes, self.group, k, part) }
    }
    #[inline(always)]
    unsafe fn scale(&self, s: S, part: usize) -> S::Scale {
        // SAFETY: the caller's promise.
        unsafe { F::scale(s, self.w, self.group, part) }
    }
    #[inline(always)]
    fn offset(&self) -> i32 {
        F::offset::<S>()
    }
}

impl<F: Codes> LyingGroup<F> {
    /// sums[t], minima[t] += those of the group with values `at ..` of every token.
    ///
    /// # Safety
    /// As [`add_block`].
    #[inline(always)]
    unsafe fn add<S: Simd, const T: usize>(
        &self,
        s: S,
        sums: &mut [S::Sixteen; T],
        minima: &mut [S::Sixteen; T],
        at: usize,
        x: &[Token; T],
    ) {
        // Every group asks for its share of what comes later.
        let share = F::LANES_BYTES * F::GROUP / F::VALUES;
        for line in (0..share).step_by(64) {
            s.prefetch(self.w.wrapping_add(S::PREFETCH_BYTES + self.group * share + line));
        }
        // SAFETY: the caller's promise.
        unsafe {
            add_dots(s, sums, self, &Apart { x, at, kind: PhantomData::<F::Kind> });
            if F::Kind::MINIMA {
                for part in 0..S::PARTS {
                    let min = F::min(s, self.w, self.group, part);
                    for t in 0..T {
                        let sum = s.splat(x[t].sum(F::GROUP, at));
                        minima[t][part] = s.fma(min, sum, minima[t][part]);
                    }
                }
            }
        }
    }
}
