//! Integer products of a group of values: 16 rows with some tokens.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

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

/// sums[t] += scale times the sum of (code + offset) x, over values `at ..` of every token.
///
/// # Safety
/// The tokens have as many values from `at` on as the group.
#[inline(always)]
pub(super) unsafe fn add_dots<S: Simd, G: Group<S>, const T: usize>(
    s: S,
    sums: &mut [S::Sixteen; T],
    group: &G,
    x: &[Token; T],
    at: usize,
) {
    let steps = G::Kind::GROUP / 4;
    let summed = if S::SUMS_OF_16_BITS { G::Kind::SUMMED } else { steps };
    let mut dots = [s.sixteen_i(0); T];
    for first in (0..steps).step_by(summed) {
        // SAFETY: the caller's promise.
        let products = unsafe { products(s, group, x, at, first, summed) };
        for part in 0..S::PARTS {
            // SAFETY: the caller's promise.
            let scale = unsafe { group.scale(s, part) };
            for t in 0..T {
                let folded = s.folded(products[t][part], scale);
                dots[t][part] = if first == 0 { folded } else { s.add_i(dots[t][part], folded) };
                if first + summed == steps {
                    // SAFETY: the token has a scale for every 16 values.
                    let x_scale = s.splat(unsafe { *x[t].scales.add(at / 16) });
                    sums[t][part] = s.fma(s.scaled(dots[t][part], scale), x_scale, sums[t][part]);
                }
            }
        }
    }
}

/// Products of `n` k-steps from `first` on, with those of the offset where they are the first.
///
/// # Safety
/// As [`add_dots`].
#[inline(always)]
unsafe fn products<S: Simd, G: Group<S>, const T: usize>(
    s: S,
    group: &G,
    x: &[Token; T],
    at: usize,
    first: usize,
    n: usize,
) -> [S::SixteenI; T] {
    let shifted = G::Kind::SHIFTED || (G::Kind::SIGNED && !S::SIGNED_CODES);
    let mut sums = [s.sixteen_i(0); T];
    if shifted {
        for t in 0..T {
            // SAFETY: the caller's promise.
            let pairs = unsafe { x[t].pairs(G::Kind::GROUP, at) };
            for part in 0..S::PARTS {
                sums[t][part] = s.offset_products(pairs, group.offset());
            }
        }
    }
    // Two at a time: the loop itself costs as much as half a token's products.
    for k in (first..first + n).step_by(2) {
        // SAFETY: the caller's promise.
        unsafe {
            add_step(s, &mut sums, group, x, at, k, k == first && !shifted);
            if n > 1 {
                add_step(s, &mut sums, group, x, at, k + 1, false);
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
unsafe fn add_step<S: Simd, G: Group<S>, const T: usize>(
    s: S,
    sums: &mut [S::SixteenI; T],
    group: &G,
    x: &[Token; T],
    at: usize,
    k: usize,
    first: bool,
) {
    let mut codes = s.sixteen_i(0);
    for part in 0..S::PARTS {
        // SAFETY: the caller's promise.
        codes[part] = unsafe { group.codes(s, k, part) };
    }
    for t in 0..T {
        // SAFETY: the caller's promise; four of each token's values.
        let x = s.splat_i(unsafe { x[t].codes.add(at + 4 * k).cast::<u32>().read_unaligned() });
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
