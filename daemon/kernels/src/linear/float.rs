//! Products in f32: rows of plain numbers and of FP8 are widened as they are read, quantised rows are dequantised first.
#![expect(unsafe_code, reason = "vector loads from rows of checked length")]

use std::ops::Range;

use half::{bf16, f16};
use tensor::{DType, Matrix, SCALE_BLOCK};

use super::{Job, PREFETCH_BYTES, Rows};
use crate::level::Kernel;
use crate::simd::{E4m3, Element, Simd};

/// Bytes of dequantised rows a worker holds: they should stay in its cache while all tokens use them.
const DEQUANTISED_BYTES: usize = 256 << 10;
/// Rows that share loads of activations.
const ROWS: usize = 4;

/// Rows of one job times all tokens.
pub(crate) struct FloatTile<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: Rows<'a>,
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl Kernel for FloatTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let weight = &self.job.weight;
        let bytes = &weight.data()[self.rows.start * weight.row_bytes()..];
        match weight.dtype() {
            DType::F32 => self.products(s, self.rows.clone(), bytes.as_ptr().cast::<f32>()),
            DType::F16 => self.products(s, self.rows.clone(), bytes.as_ptr().cast::<f16>()),
            DType::BF16 => self.products(s, self.rows.clone(), bytes.as_ptr().cast::<bf16>()),
            DType::F8E4M3 => self.products(s, self.rows.clone(), bytes.as_ptr().cast::<E4m3>()),
            _ => self.dequantised(s),
        }
    }
}

impl FloatTile<'_> {
    #[inline(always)]
    fn dequantised<S: Simd>(self, s: S) {
        let mut scratch = std::mem::take(self.scratch);
        let weight = self.job.weight;
        let n_rows = (DEQUANTISED_BYTES / (4 * weight.cols())).max(ROWS);
        for start in self.rows.clone().step_by(n_rows) {
            let rows = start..self.rows.end.min(start + n_rows);
            scratch.resize(rows.len() * weight.cols(), 0.0);
            for (row, out) in rows.clone().zip(scratch.chunks_exact_mut(weight.cols())) {
                weight.decode_row(row, out);
            }
            self.products(s, rows, scratch.as_ptr());
        }
        *self.scratch = scratch;
    }

    /// out[.., rows] <- x W^T, with the rows' values at `w`.
    #[inline(always)]
    fn products<S: Simd, E: Element>(&self, s: S, rows: Range<usize>, w: *const E) {
        let mut at = rows.start;
        let row = |at: usize| w.wrapping_add((at - rows.start) * self.job.weight.cols());
        while at + ROWS <= rows.end {
            self.all_tokens(s, at, std::array::from_fn::<_, ROWS, _>(|r| row(at + r)));
            at += ROWS;
        }
        while at < rows.end {
            self.all_tokens(s, at, [row(at)]);
            at += 1;
        }
    }

    #[inline(always)]
    fn all_tokens<S: Simd, E: Element, const R: usize>(&self, s: S, row: usize, w: [*const E; R]) {
        let mut token = 0;
        if S::LANES == 16 {
            while token + 4 <= self.job.n_tokens() {
                self.tile::<S, E, R, 4>(s, row, w, token);
                token += 4;
            }
        }
        while token + 2 <= self.job.n_tokens() {
            self.tile::<S, E, R, 2>(s, row, w, token);
            token += 2;
        }
        if token < self.job.n_tokens() {
            self.tile::<S, E, R, 1>(s, row, w, token);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, E: Element, const R: usize, const T: usize>(
        &self,
        s: S,
        row: usize,
        w: [*const E; R],
        token: usize,
    ) {
        let cols = self.job.weight.cols();
        let mut x = [std::ptr::null(); T];
        for t in 0..T {
            x[t] = self.x.row(self.job.token(token + t)).as_ptr();
        }
        // SAFETY: each of `w` points to a row of `cols` values, the tokens have as many.
        let dots = unsafe {
            if E::SCALED { scaled_dots(s, w, x, &self.job.weight, row) } else { dots(s, w, x, cols) }
        };
        for (r, dots) in dots.iter().enumerate() {
            for (t, dot) in dots.iter().enumerate() {
                // SAFETY: the row is one of this tile's, the token one of `x`.
                unsafe { self.job.set(token + t, row + r, *dot) };
            }
        }
    }
}

/// Sums over the columns `start .. end`: lanes of whole vectors, and what is left over.
type Sums<F, const R: usize, const T: usize> = ([[F; T]; R], [[f32; T]; R]);

/// Sums of the products w[r] . x[t] over some columns.
///
/// # Safety
/// Every pointer points to at least `columns.end` values, at any alignment.
#[inline(always)]
unsafe fn sums<S: Simd, E: Element, const R: usize, const T: usize>(
    s: S,
    w: [*const E; R],
    x: [*const f32; T],
    columns: Range<usize>,
) -> Sums<S::F, R, T> {
    // Loops, not closures: a closure is a function of its own, for which the level's instructions are not enabled.
    let (mut acc, mut tails) = ([[s.splat(0.0); T]; R], [[0.0; T]; R]);
    let whole = columns.end - columns.len() % S::LANES;
    let mut i = columns.start;
    while i < whole {
        // SAFETY: i + LANES is at most the end.
        unsafe {
            let mut xs = [s.splat(0.0); T];
            for t in 0..T {
                xs[t] = s.load(x[t].add(i));
            }
            for r in 0..R {
                s.prefetch(w[r].wrapping_add(i).cast::<u8>().wrapping_add(PREFETCH_BYTES));
                let ws = E::load(s, w[r].add(i));
                for t in 0..T {
                    acc[r][t] = s.fma(ws, xs[t], acc[r][t]);
                }
            }
        }
        i += S::LANES;
    }
    for i in whole..columns.end {
        for r in 0..R {
            for t in 0..T {
                // SAFETY: i is below the end.
                let (w, x) = unsafe { (w[r].add(i).read_unaligned(), x[t].add(i).read_unaligned()) };
                tails[r][t] += w.to_f32() * x;
            }
        }
    }
    (acc, tails)
}

/// All products w[r] . x[t], of `n` values each.
///
/// # Safety
/// Every pointer points to `n` values, at any alignment.
#[inline(always)]
unsafe fn dots<S: Simd, E: Element, const R: usize, const T: usize>(
    s: S,
    w: [*const E; R],
    x: [*const f32; T],
    n: usize,
) -> [[f32; T]; R] {
    // SAFETY: the caller's promise.
    let (acc, mut dots) = unsafe { sums(s, w, x, 0..n) };
    for r in 0..R {
        for t in 0..T {
            dots[r][t] += s.sum(acc[r][t]);
        }
    }
    dots
}

/// All products w[r] . x[t] where `w[r]` is row `row + r` of an FP8 matrix: blocks of [`SCALE_BLOCK`] columns are summed
/// apart, then scaled.
///
/// # Safety
/// Every pointer points to as many values as the matrix has columns, at any alignment.
#[inline(always)]
unsafe fn scaled_dots<S: Simd, E: Element, const R: usize, const T: usize>(
    s: S,
    w: [*const E; R],
    x: [*const f32; T],
    matrix: &Matrix<'_>,
    row: usize,
) -> [[f32; T]; R] {
    let n = matrix.cols();
    let (mut acc, mut dots) = ([[s.splat(0.0); T]; R], [[0.0; T]; R]);
    let mut start = 0;
    while start < n {
        let end = n.min(start + SCALE_BLOCK);
        // SAFETY: the caller's promise.
        let (block, tails) = unsafe { sums(s, w, x, start..end) };
        for r in 0..R {
            let scale = matrix.scale_at(row + r, start);
            for t in 0..T {
                acc[r][t] = s.fma(block[r][t], s.splat(scale), acc[r][t]);
                dots[r][t] += scale * tails[r][t];
            }
        }
        start = end;
    }
    for r in 0..R {
        for t in 0..T {
            dots[r][t] += s.sum(acc[r][t]);
        }
    }
    dots
}
