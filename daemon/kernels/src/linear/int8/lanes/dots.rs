//! Integer products of a group of values: 16 rows with some tokens.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

use std::marker::PhantomData;

use super::format::Kind;
use crate::linear::activations::Token;
use crate::simd::Simd;

/// A group of 16 rows, wherever it lies.
///
/// # Safety
/// `k` is one of the group's k-steps, `part` counts vectors of `S::LANES` rows: below `16 / S::LANES`.
pub(super) trait Group<S: Simd> {
    /// That of its format.
    type Kind: Kind;
    /// Products are to be made one after another: see [`Integers::in_order`](crate::simd::Integers::in_order).
    const IN_ORDER: bool;
    /// Codes of a k-step, as the level multiplies them.
    unsafe fn codes(&self, s: S, k: usize, part: usize) -> S::I;
    /// Scales.
    unsafe fn scale(&self, s: S, part: usize) -> S::Scale;
    /// What is added to every code.
    fn offset(&self) -> i32;
}

/// As many values of some tokens, wherever they lie.
///
/// # Safety
/// `t` is one of the tokens, `k` a k-step of the group.
pub(super) trait Values<S: Simd> {
    /// Codes of a k-step: four bytes.
    unsafe fn codes(&self, k: usize, t: usize) -> u32;
    /// Their scale.
    unsafe fn scale(&self, t: usize) -> f32;
    /// Scale times the sum of their codes; of those brought together, where the kind has minima.
    unsafe fn sum(&self, t: usize) -> f32;
    /// What a sum begins with and their products with a code `offset` in every place, which is the group's.
    unsafe fn offset_products(&self, s: S, t: usize, offset: i32) -> S::I;
}

/// Values `at ..` of tokens that lie apart.
pub(super) struct Apart<'a, K> {
    pub(super) x: &'a [Token],
    pub(super) at: usize,
    pub(super) kind: PhantomData<K>,
}

impl<S: Simd, K: Kind> Values<S> for Apart<'_, K> {
    #[inline(always)]
    unsafe fn codes(&self, k: usize, t: usize) -> u32 {
        // SAFETY: the caller's promise; four of the token's values.
        unsafe { self.x.get_unchecked(t).codes.add(self.at + 4 * k).cast::<u32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn scale(&self, t: usize) -> f32 {
        // SAFETY: the caller's promise; the token has a scale for every 16 values.
        unsafe { *self.x.get_unchecked(t).scales.add(self.at / 16) }
    }
    #[inline(always)]
    unsafe fn sum(&self, t: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { self.x.get_unchecked(t).sum(K::GROUP, self.at) }
    }
    #[inline(always)]
    unsafe fn offset_products(&self, s: S, t: usize, offset: i32) -> S::I {
        // SAFETY: the caller's promise.
        let pairs = unsafe { self.x.get_unchecked(t).pairs(K::GROUP, self.at) };
        s.offset_products(s.splat_i(pairs), offset)
    }
}

/// sums[t] += scale times the sum of (code + offset) x, over as many values of every token as the group has.
///
/// # Safety
/// The values are those of `T` tokens and as many as the group's.
#[inline(always)]
pub(super) unsafe fn add_dots<S: Simd, G: Group<S>, V: Values<S>, const T: usize>(
    s: S,
    sums: &mut [S::Sixteen; T],
    group: &G,
    x: &V,
) {
    let steps = G::Kind::GROUP / 4;
    let summed = if S::SUMS_OF_16_BITS { G::Kind::SUMMED } else { steps };
    let mut dots = [s.sixteen_i(0); T];
    for first in (0..steps).step_by(summed) {
        // SAFETY: the caller's promise.
        let products: [S::SixteenI; T] = unsafe { products(s, group, x, first, summed) };
        for part in 0..S::PARTS {
            // SAFETY: the caller's promise.
            let scale = unsafe { group.scale(s, part) };
            for t in 0..T {
                let folded = s.folded(products[t][part], scale);
                dots[t][part] = if first == 0 { folded } else { s.add_i(dots[t][part], folded) };
                if first + summed == steps {
                    // SAFETY: the caller's promise.
                    let x_scale = s.splat(unsafe { x.scale(t) });
                    sums[t][part] = s.fma(s.scaled(dots[t][part], scale), x_scale, sums[t][part]);
                }
            }
        }
    }
}

/// minima[t] += a vector's part of a group's minima times the sum of every token's values.
///
/// # Safety
/// The values are those of `T` tokens, with sums.
#[inline(always)]
pub(super) unsafe fn add_minima<S: Simd, V: Values<S>, const T: usize>(
    s: S,
    minima: &mut [S::Sixteen; T],
    part: usize,
    min: S::F,
    x: &V,
) {
    for t in 0..T {
        // SAFETY: the caller's promise.
        let sum = s.splat(unsafe { x.sum(t) });
        minima[t][part] = s.fma(min, sum, minima[t][part]);
    }
}

/// acc[t] += a vector's part of what a block's groups sum up to, times the block's factors: d * sums[t] + m * minima[t].
#[inline(always)]
pub(super) fn add_sums<S: Simd, K: Kind, const T: usize>(
    s: S,
    acc: &mut [S::Sixteen; T],
    part: usize,
    (d, m): (S::F, S::F),
    sums: &[S::Sixteen; T],
    minima: &[S::Sixteen; T],
) {
    for t in 0..T {
        acc[t][part] = s.fma(d, sums[t][part], acc[t][part]);
        if K::MINIMA {
            acc[t][part] = s.fma(m, minima[t][part], acc[t][part]);
        }
    }
}

/// Products of `n` k-steps from `first` on, with those of the offset where they are the first.
///
/// # Safety
/// As [`add_dots`].
#[inline(always)]
unsafe fn products<S: Simd, G: Group<S>, V: Values<S>, const T: usize>(
    s: S,
    group: &G,
    x: &V,
    first: usize,
    n: usize,
) -> [S::SixteenI; T] {
    let shifted = G::Kind::shifted::<S>();
    let mut sums = [s.sixteen_i(S::BEGIN); T];
    if shifted {
        for t in 0..T {
            // SAFETY: the caller's promise.
            let products = unsafe { x.offset_products(s, t, group.offset()) };
            for part in 0..S::PARTS {
                sums[t][part] = products;
            }
        }
    }
    let begins = !shifted && S::BEGIN == 0;
    if G::IN_ORDER {
        // Written out: the compiler keeps the loop, which costs as much as half a token's products.
        macro_rules! each_step {
            ($($k:literal)*) => {
                $(
                    if $k < n {
                        // SAFETY: the caller's promise.
                        unsafe { add_step(s, &mut sums, group, x, first + $k, begins && $k == 0) };
                    }
                )*
            };
        }
        each_step!(0 1 2 3 4 5 6 7);
        return sums;
    }
    for k in (first..first + n).step_by(2) {
        // SAFETY: the caller's promise.
        unsafe {
            add_step(s, &mut sums, group, x, k, begins && k == first);
            if n > 1 {
                add_step(s, &mut sums, group, x, k + 1, false);
            }
        }
    }
    sums
}

/// Adds the products of a k-step, or begins with them where they are the `first`.
///
/// # Safety
/// As [`add_dots`].
#[inline(always)]
unsafe fn add_step<S: Simd, G: Group<S>, V: Values<S>, const T: usize>(
    s: S,
    sums: &mut [S::SixteenI; T],
    group: &G,
    x: &V,
    k: usize,
    first: bool,
) {
    let mut codes = s.sixteen_i(0);
    for part in 0..S::PARTS {
        // SAFETY: the caller's promise.
        codes[part] = unsafe { group.codes(s, k, part) };
    }
    for t in 0..T {
        // SAFETY: the caller's promise.
        let x = s.splat_i(unsafe { x.codes(k, t) });
        for part in 0..S::PARTS {
            let sum = add_products::<S, G::Kind>(s, sums[t][part], codes[part], x, first);
            sums[t][part] = if G::IN_ORDER { s.in_order(sum) } else { sum };
        }
    }
}

/// `sums` and the products of codes and activations; the products alone where they are the `first`.
#[inline(always)]
fn add_products<S: Simd, K: Kind>(s: S, sums: S::I, codes: S::I, x: S::I, first: bool) -> S::I {
    if K::SIGNED && S::SIGNED_CODES {
        // Signed products fill 16 bits, and are folded one by one; in 32 bits they are summed.
        let products = s.signed_products(codes, x);
        if first { products } else { s.add_i(sums, products) }
    } else if first {
        s.products(codes, x)
    } else {
        s.add_products(sums, codes, x)
    }
}
