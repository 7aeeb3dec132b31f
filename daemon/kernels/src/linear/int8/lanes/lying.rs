//! Blocks read as they lie: unpacking them first takes more than it saves.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

use std::marker::PhantomData;

use super::batch::{Batch, Order, Part, Together};
use super::codes::{Codes, each_kind};
use super::dots::{Apart, Group, Values, add_dots, add_minima, add_sums};
use super::format::Kind;
use super::{Blocks, even_tiles};
use crate::level::Kernel;
use crate::linear::activations::Token;
use crate::simd::{Simd, TILE};

/// A tile's rows times all tokens of the job.
pub(super) struct Lying<'a, F> {
    pub(super) blocks: Blocks<'a, F>,
    pub(super) batch: &'a mut Batch,
}

impl<F: Codes> Kernel for Lying<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { blocks, batch } = self;
        let n_tokens = blocks.of.job.n_tokens();
        if n_tokens > S::APART {
            return blocks.times_together(s, batch);
        }
        match n_tokens {
            0 => {}
            1 => blocks.times_apart::<S, 1>(s),
            2 => blocks.times_apart::<S, 2>(s),
            // Compiled only where as many are read where they lie.
            3 if S::APART > 2 => blocks.times_apart::<S, 3>(s),
            4 if S::APART > 2 => blocks.times_apart::<S, 4>(s),
            n => unreachable!("{n} tokens of up to {}", S::APART),
        }
    }
}

impl<F: Codes> Blocks<'_, F> {
    /// All rows times the job's `T` tokens.
    #[inline(always)]
    fn times_apart<S: Simd, const T: usize>(&self, s: S) {
        let of = &self.of;
        let x: [Token; T] = std::array::from_fn(|t| of.x.token(of.job.token(t)));
        for i in 0..of.len() {
            self.times::<S, _, T>(s, i, 0, |block, group| {
                let at = block * F::VALUES + group * F::GROUP;
                Apart { x: &x, at, kind: PhantomData::<F::Kind> }
            });
        }
    }

    /// All rows times all tokens, brought together with all of their columns: with some at a time, weights would be read in
    /// leaps, which cost a third of the speed.
    #[inline(always)]
    fn times_together<S: Simd>(&self, s: S, batch: &mut Batch) {
        let of = &self.of;
        let part = Part { of, cols: &(0..of.job.weight.cols()), offset: F::offset::<S>() };
        for tokens in even_tiles(of.job.n_tokens(), TILE) {
            batch.fill::<S, F::Kind>(s, part, &tokens, Order::Lanes);
            for i in 0..of.len() {
                for tile in even_tiles(tokens.len(), S::TOKENS) {
                    let first = tokens.start + tile.start;
                    // Compiled only where tiles are that large.
                    match tile.len() {
                        4 if S::TOKENS > 4 => self.times_tile::<S, 4>(s, i, batch, first, tile.start),
                        5 if S::TOKENS > 4 => self.times_tile::<S, 5>(s, i, batch, first, tile.start),
                        6 if S::TOKENS > 4 => self.times_tile::<S, 6>(s, i, batch, first, tile.start),
                        7 if S::TOKENS > 4 => self.times_tile::<S, 7>(s, i, batch, first, tile.start),
                        8 if S::TOKENS > 4 => self.times_tile::<S, 8>(s, i, batch, first, tile.start),
                        n => unreachable!("{n} tokens in tiles of {}", S::TOKENS),
                    }
                }
            }
        }
    }

    /// The `i`-th 16 rows times tokens `first .. first + T`, which are the batch's from `at` on.
    #[inline(always)]
    fn times_tile<S: Simd, const T: usize>(&self, s: S, i: usize, batch: &Batch, first: usize, at: usize) {
        self.times::<S, _, T>(s, i, first, |block, group| {
            Together::<F::Kind>::new(s, batch, block * (F::VALUES / F::GROUP) + group, at)
        });
    }

    /// The `i`-th 16 rows times tokens `first .. first + T`, whose values `x` gives for a group of a block.
    #[inline(always)]
    fn times<S: Simd, V: Values<S>, const T: usize>(
        &self,
        s: S,
        i: usize,
        first: usize,
        x: impl Fn(usize, usize) -> V,
    ) {
        let mut acc = [s.sixteen(0.0); T];
        for block in 0..self.n_blocks() {
            // SAFETY: one of the rows' blocks; the tokens hold as many values.
            unsafe { add_block::<S, F, V, T>(s, &mut acc, self.at(i, block), |group| x(block, group)) };
        }
        for t in 0..T {
            self.of.set(s, first + t, i, acc[t], self.of.job.weight.cols());
        }
    }
}

/// acc[t] += one block of 16 rows times the values `x` of `T` tokens for each of its groups.
///
/// # Safety
/// `w` points to 16 interleaved blocks of the format, the values are as many tokens' and as many as a group's.
#[inline(always)]
unsafe fn add_block<S: Simd, F: Codes, V: Values<S>, const T: usize>(
    s: S,
    acc: &mut [S::Sixteen; T],
    w: *const u8,
    x: impl Fn(usize) -> V,
) {
    let (mut sums, mut minima) = ([s.sixteen(0.0); T], [s.sixteen(0.0); T]);
    for i in 0..F::VALUES / F::GROUP / F::KINDS {
        // SAFETY: the caller's promise; the block's groups.
        unsafe {
            each_kind!(F, i, |group| {
                let lying = LyingGroup { w, codes: s.unknown(w), group, format: PhantomData::<F> };
                lying.add(s, &mut sums, &mut minima, &x(group));
            });
        }
    }
    for part in 0..S::PARTS {
        // SAFETY: the caller's promise.
        let factors = unsafe { F::factors(s, w, part) };
        add_sums::<S, F::Kind, T>(s, acc, part, factors, &sums, &minima);
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
    /// sums[t], minima[t] += those of the group with values of every token.
    ///
    /// # Safety
    /// As [`add_block`].
    #[inline(always)]
    unsafe fn add<S: Simd, V: Values<S>, const T: usize>(
        &self,
        s: S,
        sums: &mut [S::Sixteen; T],
        minima: &mut [S::Sixteen; T],
        x: &V,
    ) {
        // Every group asks for its share of what comes later.
        let share = F::LANES_BYTES * F::GROUP / F::VALUES;
        for line in (0..share).step_by(64) {
            s.prefetch(self.w.wrapping_add(S::PREFETCH_BYTES + self.group * share + line));
        }
        // SAFETY: the caller's promise.
        unsafe {
            add_dots(s, sums, self, x);
            if F::Kind::MINIMA {
                for part in 0..S::PARTS {
                    add_minima(s, minima, part, F::min(s, self.w, self.group, part), x);
                }
            }
        }
    }
}
