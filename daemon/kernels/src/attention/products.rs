//! The inner loops of attention over plain slices: products of rows and a block's keys or values.
#![expect(unsafe_code, reason = "vector loads and stores into buffers of checked length")]

use std::ops::Range;

use crate::kv::BLOCK_TOKENS;
use crate::simd::{Element, Simd};

/// Rows that share loads of keys and values in the inner loops, twice as many where there are registers for them;
/// buffers of rows are padded to whole groups.
pub(super) const ROWS: usize = 4;
/// Widths of rows are padded to this: two vectors at every level.
pub(super) const WIDTH_STEP: usize = 32;

/// Width rounded up to whole steps of the inner loops at every level.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(WIDTH_STEP)
}

/// `n` rows of numbers, each `stride` values after the one before.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E> {
    pub(super) values: &'a [E],
    pub(super) stride: usize,
    pub(super) n: usize,
}

/// to[row] <- rows[row], widened to f32; the padding up to `stride` becomes 0.
///
/// `rows`: [n, width]; `to`: [n, stride].
#[inline(always)]
pub(super) fn widen<S: Simd, E: Element>(s: S, to: &mut [f32], stride: usize, rows: &[E], width: usize) {
    assert!(width <= stride, "rows are padded, not cut");
    let whole = width - width % S::LANES;
    for (row, to) in rows.chunks_exact(width).zip(to.chunks_exact_mut(stride)) {
        for d in (0..whole).step_by(S::LANES) {
            // SAFETY: d + LANES is at most the length of both rows.
            unsafe { s.store(to.as_mut_ptr().add(d), E::load(s, row.as_ptr().add(d))) };
        }
        for d in whole..width {
            to[d] = row[d].to_f32();
        }
        if width < stride {
            to[width..].fill(0.0);
        }
    }
}

/// to[c, r] <- from[r, c].
///
/// `from`: [n_rows, n_cols]; `to`: [n_cols, n_rows]; both multiples of the vectors' length.
#[inline(always)]
pub(super) fn transpose<S: Simd>(s: S, to: &mut [f32], from: &[f32], n_rows: usize, n_cols: usize) {
    let n = n_rows * n_cols;
    assert!(from.len() >= n && to.len() >= n, "whole matrices");
    assert!(n_rows.is_multiple_of(S::LANES) && n_cols.is_multiple_of(S::LANES), "whole squares");
    for r in (0..n_rows).step_by(S::LANES) {
        for c in (0..n_cols).step_by(S::LANES) {
            // SAFETY: squares of LANES lie inside [n_rows][n_cols] and [n_cols][n_rows].
            unsafe {
                let (from, to) = (from.as_ptr().add(r * n_cols + c), to.as_mut_ptr().add(c * n_rows + r));
                s.transpose(from, n_cols, to, n_rows);
            }
        }
    }
}

/// out[row, t] <- rows[row] . x[.., t], summed in the order of the dimensions.
///
/// `rows`: [.., stride]; `x`: [width][BLOCK_TOKENS], a block of transposed keys; `out`: [..][BLOCK_TOKENS]. `wanted`
/// begins with a whole group; the rows that fill up its last group are computed too.
#[inline(always)]
pub(super) fn times_transposed<S: Simd>(
    s: S,
    out: &mut [f32],
    rows: Rows<'_, f32>,
    x: &[f32],
    wanted: Range<usize>,
) {
    let end = wanted.end.next_multiple_of(ROWS);
    assert!(wanted.start.is_multiple_of(ROWS) && rows.n >= end, "whole groups");
    let mut row = wanted.start;
    while S::LANES == 16 && row + 2 * ROWS <= end {
        products_of::<S, { 2 * ROWS }>(s, out, rows, row, x);
        row += 2 * ROWS;
    }
    while row < end {
        products_of::<S, ROWS>(s, out, rows, row, x);
        row += ROWS;
    }
}

/// The products of rows `row .. row + R`.
#[inline(always)]
fn products_of<S: Simd, const R: usize>(s: S, out: &mut [f32], rows: Rows<'_, f32>, row: usize, x: &[f32]) {
    let (width, stride) = (x.len() / BLOCK_TOKENS, rows.stride);
    assert!(width <= stride, "rows as wide as the keys");
    let values = &rows.values[row * stride..][..R * stride];
    let out = &mut out[row * BLOCK_TOKENS..][..R * BLOCK_TOKENS];
    for t in (0..BLOCK_TOKENS).step_by(2 * S::LANES) {
        let mut acc = [[s.splat(0.0); 2]; R];
        // SAFETY: t + 2 LANES is at most BLOCK_TOKENS, d below the width of all rows.
        unsafe {
            for d in 0..width {
                let x = x.as_ptr().add(d * BLOCK_TOKENS + t);
                let (x0, x1) = (s.load(x), s.load(x.add(S::LANES)));
                for r in 0..R {
                    let w = s.splat(*values.as_ptr().add(r * stride + d));
                    acc[r] = [s.fma(w, x0, acc[r][0]), s.fma(w, x1, acc[r][1])];
                }
            }
            for r in 0..R {
                let to = out.as_mut_ptr().add(r * BLOCK_TOKENS + t);
                s.store(to, acc[r][0]);
                s.store(to.add(S::LANES), acc[r][1]);
            }
        }
    }
}

/// out[row, t] <- rows[row] . keys[t], summed in as many parts as a vector has lanes: the same whichever rows and
/// keys are computed beside.
///
/// `rows`: [.., stride]; `keys`: [n, stride]; `out`: [..][BLOCK_TOKENS]; the products behind the last key are any.
#[inline(always)]
pub(super) fn dots<S: Simd, E: Element>(
    s: S,
    out: &mut [f32],
    rows: Rows<'_, f32>,
    keys: Rows<'_, E>,
    wanted: Range<usize>,
) {
    for row in wanted.clone().step_by(ROWS) {
        for t in (0..keys.n).step_by(4) {
            match wanted.end - row {
                1 => dots_of::<S, E, 1>(s, out, rows, row, keys, t),
                2 => dots_of::<S, E, 2>(s, out, rows, row, keys, t),
                3 => dots_of::<S, E, 3>(s, out, rows, row, keys, t),
                _ => dots_of::<S, E, ROWS>(s, out, rows, row, keys, t),
            }
        }
    }
}

/// The products of rows `row .. row + R` with keys `t .. t + 4`; keys behind the last repeat it.
#[inline(always)]
fn dots_of<S: Simd, E: Element, const R: usize>(
    s: S,
    out: &mut [f32],
    rows: Rows<'_, f32>,
    row: usize,
    keys: Rows<'_, E>,
    t: usize,
) {
    let stride = keys.stride;
    assert!(rows.stride == stride && stride.is_multiple_of(S::LANES), "whole vectors of equal rows");
    let last = keys.n - 1;
    let queries = &rows.values[row * stride..][..R * stride];
    let keys: [&[E]; 4] = std::array::from_fn(|i| &keys.values[(t + i).min(last) * stride..][..stride]);
    let mut acc = [[s.splat(0.0); 4]; R];
    for d in (0..stride).step_by(S::LANES) {
        // SAFETY: the stride is a multiple of LANES, and the length of every row.
        unsafe {
            let mut ks = [s.splat(0.0); 4];
            for i in 0..4 {
                ks[i] = E::load(s, keys[i].as_ptr().add(d));
            }
            for r in 0..R {
                let q = s.load(queries.as_ptr().add(r * stride + d));
                for i in 0..4 {
                    acc[r][i] = s.fma(q, ks[i], acc[r][i]);
                }
            }
        }
    }
    for r in 0..R {
        // BLOCK_TOKENS is a multiple of 4; the softmax masks what is behind the last key.
        out[(row + r) * BLOCK_TOKENS + t..][..4].copy_from_slice(&s.sums(acc[r]));
    }
}

/// acc[row] += sum of weights[row, t] * values[t], in the order of the tokens.
///
/// `acc`: [.., width]; `weights`: [..][BLOCK_TOKENS]; `values`: [n, stride], of which `width` are used.
#[inline(always)]
pub(super) fn add_weighted<S: Simd, E: Element>(
    s: S,
    acc: &mut [f32],
    width: usize,
    weights: &[f32],
    values: Rows<'_, E>,
    wanted: Range<usize>,
) {
    assert!(width <= values.stride && width.is_multiple_of(WIDTH_STEP), "whole vectors");
    assert!(values.n <= BLOCK_TOKENS && values.n * values.stride <= values.values.len(), "rows of a block");
    // A strip of all the block's values stays in the first cache while all rows use it.
    for d in (0..width).step_by(2 * S::LANES) {
        let mut row = wanted.start;
        while S::LANES == 16 && row + 2 * ROWS <= wanted.end {
            add_strip::<S, E, { 2 * ROWS }>(s, acc, width, weights, row, values, d);
            row += 2 * ROWS;
        }
        while row + ROWS <= wanted.end {
            add_strip::<S, E, ROWS>(s, acc, width, weights, row, values, d);
            row += ROWS;
        }
        match wanted.end - row {
            1 => add_strip::<S, E, 1>(s, acc, width, weights, row, values, d),
            2 => add_strip::<S, E, 2>(s, acc, width, weights, row, values, d),
            3 => add_strip::<S, E, 3>(s, acc, width, weights, row, values, d),
            _ => {}
        }
    }
}

/// The sums of rows `row .. row + R` at `d .. d + 2 LANES`.
#[inline(always)]
fn add_strip<S: Simd, E: Element, const R: usize>(
    s: S,
    acc: &mut [f32],
    width: usize,
    weights: &[f32],
    row: usize,
    values: Rows<'_, E>,
    d: usize,
) {
    let weights = &weights[row * BLOCK_TOKENS..][..R * BLOCK_TOKENS];
    let sums = &mut acc[row * width..][..R * width];
    // SAFETY: d + 2 LANES is at most width, and so are the values of each of the whole rows.
    unsafe {
        let mut acc = [[s.splat(0.0); 2]; R];
        for r in 0..R {
            let from = sums.as_ptr().add(r * width + d);
            acc[r] = [s.load(from), s.load(from.add(S::LANES))];
        }
        for t in 0..values.n {
            let from = values.values.as_ptr().add(t * values.stride + d);
            let (v0, v1) = (E::load(s, from), E::load(s, from.add(S::LANES)));
            for r in 0..R {
                let weight = s.splat(*weights.as_ptr().add(r * BLOCK_TOKENS + t));
                acc[r] = [s.fma(weight, v0, acc[r][0]), s.fma(weight, v1, acc[r][1])];
            }
        }
        for r in 0..R {
            let to = sums.as_mut_ptr().add(r * width + d);
            s.store(to, acc[r][0]);
            s.store(to.add(S::LANES), acc[r][1]);
        }
    }
}
