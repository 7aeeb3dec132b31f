//! The arithmetic of one task on a worker's own memory: scores, softmax, weighted sums, a block at a time.
#![expect(unsafe_code, reason = "vector loads and stores into buffers of checked length")]

use super::AttentionShape;
use crate::kv::BLOCK_TOKENS;
use crate::simd::{Element, Simd};

/// Rows that share loads of keys and values in the inner loops.
const ROWS: usize = 4;
/// Widths of a head are padded to this: two vectors at every level.
const WIDTH_STEP: usize = 32;
/// Rows up to which a block is read as it lies.
const FEW_ROWS: usize = 8;

/// One worker's memory for a task.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Keys of a block, transposed: [d_pad][BLOCK_TOKENS].
    keys: Vec<f32>,
    /// Keys of a block, widened, then its values: [BLOCK_TOKENS][d_pad].
    values: Vec<f32>,
    /// Queries, [rows][head_dim], times the scale.
    queries: Vec<f32>,
    /// Scores, then weights: [rows][BLOCK_TOKENS].
    weights: Vec<f32>,
    /// Weighted sums of values: [rows][d_pad].
    acc: Vec<f32>,
    /// Largest score and sum of weights so far, a row each.
    state: Vec<(f32, f32)>,
}

/// True where a block is read without widening it first.
fn as_it_lies(n_rows: usize, head_dim: usize) -> bool {
    n_rows <= FEW_ROWS && head_dim.is_multiple_of(WIDTH_STEP)
}

/// Head width rounded up to whole steps of the inner loops at every level.
fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(WIDTH_STEP)
}

impl Scratch {
    /// Grows the buffers and clears the sums. Padding keeps whatever it holds: its results are never read.
    pub(super) fn prepare(&mut self, n_rows: usize, shape: &AttentionShape) {
        let (rows, d_pad) = (n_rows.next_multiple_of(ROWS), padded(shape.head_dim));
        self.keys.resize(d_pad * BLOCK_TOKENS, 0.0);
        self.values.resize(BLOCK_TOKENS * d_pad, 0.0);
        self.queries.resize(rows * shape.head_dim, 0.0);
        self.weights.resize(rows * BLOCK_TOKENS, 0.0);
        self.acc.clear();
        self.acc.resize(rows * d_pad, 0.0);
        self.state.clear();
        self.state.resize(rows, (f32::NEG_INFINITY, 0.0));
    }

    /// queries[row] <- scale * q.
    pub(super) fn set_query(&mut self, row: usize, q: &[f32], scale: f32) {
        for (to, from) in self.queries[row * q.len()..][..q.len()].iter_mut().zip(q) {
            *to = from * scale;
        }
    }

    /// weights[row, t] <- queries[row] . k[t], with a block's keys `k` [n, head_dim].
    #[inline(always)]
    pub(super) fn scores<S: Simd, E: Element>(&mut self, s: S, n_rows: usize, k: &[E], head_dim: usize) {
        if as_it_lies(n_rows, head_dim) {
            self.dots(s, n_rows, head_dim, k);
        } else {
            self.widen_keys(s, k, head_dim);
            self.transposed_scores(s, n_rows, head_dim);
        }
    }

    /// acc[row] += sum of weights[row, t] * v[t], with a block's values `v` [n, head_dim].
    #[inline(always)]
    pub(super) fn add_values<S: Simd, E: Element>(&mut self, s: S, n_rows: usize, v: &[E], head_dim: usize) {
        if as_it_lies(n_rows, head_dim) {
            return self.accumulate(s, n_rows, v, head_dim);
        }
        self.widen(s, v, head_dim);
        let values = std::mem::take(&mut self.values);
        let n = v.len() / head_dim;
        self.accumulate(s, n_rows, &values[..n * padded(head_dim)], padded(head_dim));
        self.values = values;
    }

    /// values <- rows [n, head_dim].
    #[inline(always)]
    fn widen<S: Simd, E: Element>(&mut self, s: S, rows: &[E], head_dim: usize) {
        let whole = head_dim - head_dim % S::LANES;
        for (row, to) in rows.chunks_exact(head_dim).zip(self.values.chunks_exact_mut(padded(head_dim))) {
            for d in (0..whole).step_by(S::LANES) {
                // SAFETY: d + LANES is at most the length of both rows.
                unsafe { s.store(to.as_mut_ptr().add(d), E::load(s, row.as_ptr().add(d))) };
            }
            for d in whole..head_dim {
                to[d] = row[d].to_f32();
            }
        }
    }

    /// keys <- rows [n, head_dim], transposed.
    #[inline(always)]
    fn widen_keys<S: Simd, E: Element>(&mut self, s: S, rows: &[E], head_dim: usize) {
        self.widen(s, rows, head_dim);
        let d_pad = padded(head_dim);
        assert!(
            self.values.len() >= BLOCK_TOKENS * d_pad && self.keys.len() >= BLOCK_TOKENS * d_pad,
            "prepared"
        );
        for t in (0..BLOCK_TOKENS).step_by(S::LANES) {
            for d in (0..d_pad).step_by(S::LANES) {
                // SAFETY: squares of LANES lie inside [BLOCK_TOKENS][d_pad] and [d_pad][BLOCK_TOKENS].
                unsafe {
                    let from = self.values.as_ptr().add(t * d_pad + d);
                    let to = self.keys.as_mut_ptr().add(d * BLOCK_TOKENS + t);
                    s.transpose(from, d_pad, to, BLOCK_TOKENS);
                }
            }
        }
    }

    /// weights[row, t] <- queries[row] . k[t], with `k` [n, head_dim] read as it lies.
    #[inline(always)]
    fn dots<S: Simd, E: Element>(&mut self, s: S, n_rows: usize, head_dim: usize, k: &[E]) {
        for row in (0..n_rows).step_by(ROWS) {
            for t in (0..k.len() / head_dim).step_by(4) {
                match n_rows - row {
                    1 => self.dots_of::<S, E, 1>(s, row, head_dim, k, t),
                    2 => self.dots_of::<S, E, 2>(s, row, head_dim, k, t),
                    3 => self.dots_of::<S, E, 3>(s, row, head_dim, k, t),
                    _ => self.dots_of::<S, E, ROWS>(s, row, head_dim, k, t),
                }
            }
        }
    }

    /// The products of rows `row .. row + R` with keys `t .. t + 4`; keys behind the last repeat it.
    #[inline(always)]
    fn dots_of<S: Simd, E: Element, const R: usize>(
        &mut self,
        s: S,
        row: usize,
        head_dim: usize,
        k: &[E],
        t: usize,
    ) {
        let last = k.len() / head_dim - 1;
        let queries = &self.queries[row * head_dim..][..R * head_dim];
        let keys: [&[E]; 4] = std::array::from_fn(|i| &k[(t + i).min(last) * head_dim..][..head_dim]);
        let mut acc = [[s.splat(0.0); 4]; R];
        for d in (0..head_dim).step_by(S::LANES) {
            // SAFETY: head_dim is a multiple of LANES, and the length of every row.
            unsafe {
                let mut ks = [s.splat(0.0); 4];
                for i in 0..4 {
                    ks[i] = E::load(s, keys[i].as_ptr().add(d));
                }
                for r in 0..R {
                    let q = s.load(queries.as_ptr().add(r * head_dim + d));
                    for i in 0..4 {
                        acc[r][i] = s.fma(q, ks[i], acc[r][i]);
                    }
                }
            }
        }
        for r in 0..R {
            // BLOCK_TOKENS is a multiple of 4; the softmax masks what is behind the last key.
            self.weights[(row + r) * BLOCK_TOKENS + t..][..4].copy_from_slice(&s.sums(acc[r]));
        }
    }

    /// weights[row, t] <- queries[row] . keys[t].
    #[inline(always)]
    fn transposed_scores<S: Simd>(&mut self, s: S, n_rows: usize, head_dim: usize) {
        assert!(self.queries.len() >= n_rows.next_multiple_of(ROWS) * head_dim, "prepared for these rows");
        assert!(
            self.weights.len() >= n_rows.next_multiple_of(ROWS) * BLOCK_TOKENS,
            "prepared for these rows"
        );
        assert!(self.keys.len() >= head_dim * BLOCK_TOKENS, "prepared for this width");
        for row in (0..n_rows).step_by(ROWS) {
            for t in (0..BLOCK_TOKENS).step_by(2 * S::LANES) {
                let mut acc = [[s.splat(0.0); 2]; ROWS];
                // SAFETY: t + 2 LANES is at most BLOCK_TOKENS, d below head_dim, rows are padded to ROWS.
                unsafe {
                    for d in 0..head_dim {
                        let keys = self.keys.as_ptr().add(d * BLOCK_TOKENS + t);
                        let (k0, k1) = (s.load(keys), s.load(keys.add(S::LANES)));
                        for r in 0..ROWS {
                            let q = s.splat(*self.queries.as_ptr().add((row + r) * head_dim + d));
                            acc[r] = [s.fma(q, k0, acc[r][0]), s.fma(q, k1, acc[r][1])];
                        }
                    }
                    for r in 0..ROWS {
                        let to = self.weights.as_mut_ptr().add((row + r) * BLOCK_TOKENS + t);
                        s.store(to, acc[r][0]);
                        s.store(to.add(S::LANES), acc[r][1]);
                    }
                }
            }
        }
    }

    /// weights[row] <- e^(weights[row] - m') on the first `visible` tokens, 0 on the others; updates the row's state
    /// and rescales its sums.
    #[inline(always)]
    pub(super) fn softmax<S: Simd>(&mut self, s: S, row: usize, visible: usize) {
        let d_pad = self.values.len() / BLOCK_TOKENS;
        let weights = &mut self.weights[row * BLOCK_TOKENS..][..BLOCK_TOKENS];
        weights[visible..].fill(f32::NEG_INFINITY);
        let mut largest = s.splat(f32::NEG_INFINITY);
        for chunk in weights.chunks_exact(S::LANES) {
            // SAFETY: a chunk holds LANES floats.
            largest = s.max(largest, unsafe { s.load(chunk.as_ptr()) });
        }
        let (m, l) = self.state[row];
        let m_new = m.max(s.largest(largest));
        if m_new == f32::NEG_INFINITY {
            return weights.fill(0.0);
        }
        let mut sum = s.splat(0.0);
        for chunk in weights.chunks_exact_mut(S::LANES) {
            // SAFETY: a chunk holds LANES floats.
            unsafe {
                let p = s.exp(s.sub(s.load(chunk.as_ptr()), s.splat(m_new)));
                s.store(chunk.as_mut_ptr(), p);
                sum = s.add(sum, p);
            }
        }
        let correction = if m == m_new { 1.0 } else { (m - m_new).exp() };
        if correction != 1.0 {
            for acc in &mut self.acc[row * d_pad..][..d_pad] {
                *acc *= correction;
            }
        }
        self.state[row] = (m_new, l * correction + s.sum(sum));
    }

    /// acc[row] += sum of weights[row, t] * v[t], with `v` [n, stride].
    #[inline(always)]
    fn accumulate<S: Simd, E: Element>(&mut self, s: S, n_rows: usize, v: &[E], stride: usize) {
        for row in (0..n_rows).step_by(ROWS) {
            match n_rows - row {
                1 => self.accumulate_to::<S, E, 1>(s, row, v, stride),
                2 => self.accumulate_to::<S, E, 2>(s, row, v, stride),
                3 => self.accumulate_to::<S, E, 3>(s, row, v, stride),
                _ => self.accumulate_to::<S, E, ROWS>(s, row, v, stride),
            }
        }
    }

    #[inline(always)]
    fn accumulate_to<S: Simd, E: Element, const R: usize>(
        &mut self,
        s: S,
        row: usize,
        v: &[E],
        stride: usize,
    ) {
        let n = v.len() / stride;
        assert!(n <= BLOCK_TOKENS && stride.is_multiple_of(WIDTH_STEP), "whole vectors of a block");
        let weights = &self.weights[row * BLOCK_TOKENS..][..R * BLOCK_TOKENS];
        let sums = &mut self.acc[row * stride..][..R * stride];
        for d in (0..stride).step_by(2 * S::LANES) {
            // SAFETY: d + 2 LANES is at most stride, t below n.
            unsafe {
                let mut acc = [[s.splat(0.0); 2]; R];
                for r in 0..R {
                    let from = sums.as_ptr().add(r * stride + d);
                    acc[r] = [s.load(from), s.load(from.add(S::LANES))];
                }
                for t in 0..n {
                    let values = v.as_ptr().add(t * stride + d);
                    let (v0, v1) = (E::load(s, values), E::load(s, values.add(S::LANES)));
                    for r in 0..R {
                        let weight = s.splat(*weights.as_ptr().add(r * BLOCK_TOKENS + t));
                        acc[r] = [s.fma(weight, v0, acc[r][0]), s.fma(weight, v1, acc[r][1])];
                    }
                }
                for r in 0..R {
                    let to = sums.as_mut_ptr().add(r * stride + d);
                    s.store(to, acc[r][0]);
                    s.store(to.add(S::LANES), acc[r][1]);
                }
            }
        }
    }

    /// out [head_dim] <- acc[row] / l.
    #[inline(always)]
    pub(super) fn finish(&self, row: usize, head_dim: usize, out: *mut f32) {
        let d_pad = self.values.len() / BLOCK_TOKENS;
        let norm = self.state[row].1.recip();
        for (d, acc) in self.acc[row * d_pad..][..head_dim].iter().enumerate() {
            // SAFETY: `out` points to this row's head_dim results, which no other task touches.
            unsafe { out.add(d).write(acc * norm) };
        }
    }
}
