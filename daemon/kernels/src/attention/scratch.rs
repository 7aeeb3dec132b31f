//! One task's state on a worker's own memory: queries, scores, softmax, weighted sums, a block at a time.
#![expect(unsafe_code, reason = "vector loads and stores into buffers of checked length")]

use std::ops::Range;

use super::latent::Expansion;
use super::products::{
    ROWS, Rows, WIDTH_STEP, add_weighted, dots, padded, times_transposed, transpose, widen,
};
use crate::kv::BLOCK_TOKENS;
use crate::linear::EXACT_ROWS;
use crate::simd::{Element, Simd};

/// Rows up to which a block is read as it lies.
const FEW_ROWS: usize = 8;

/// One worker's memory for a task.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    key_dim: usize,
    value_dim: usize,
    /// Few tokens: however many their heads are, scores are summed as one token's are.
    few_tokens: bool,
    /// Keys of a block, transposed: [k_pad][BLOCK_TOKENS].
    pub(super) keys: Vec<f32>,
    /// Keys of a block, widened: [BLOCK_TOKENS][k_pad]; then its values: [BLOCK_TOKENS][v_pad]. One buffer for both, so
    /// that it and the transposed keys stay in a core's first cache.
    pub(super) rows: Vec<f32>,
    /// Queries, [rows][k_pad], times the scale; the padding is 0.
    queries: Vec<f32>,
    /// Scores, then weights: [rows][BLOCK_TOKENS].
    weights: Vec<f32>,
    /// Weighted sums of values: [rows][v_pad].
    acc: Vec<f32>,
    /// Largest score and sum of weights so far, a row each.
    state: Vec<(f32, f32)>,
    /// For latent attention in its plain form.
    pub(super) expansion: Expansion,
}

impl Scratch {
    /// Grows the buffers and clears the sums. The padding of keys, values and sums keeps whatever it holds: its results
    /// are never read.
    pub(super) fn prepare(&mut self, n_rows: usize, n_tokens: usize, key_dim: usize, value_dim: usize) {
        (self.key_dim, self.value_dim) = (key_dim, value_dim);
        self.few_tokens = n_tokens <= EXACT_ROWS;
        let (n_rows, k_pad, v_pad) = (n_rows.next_multiple_of(ROWS), padded(key_dim), padded(value_dim));
        self.keys.resize(k_pad * BLOCK_TOKENS, 0.0);
        self.rows.resize(BLOCK_TOKENS * k_pad.max(v_pad), 0.0);
        self.queries.clear();
        self.queries.resize(n_rows * k_pad, 0.0);
        self.weights.resize(n_rows * BLOCK_TOKENS, 0.0);
        self.acc.clear();
        self.acc.resize(n_rows * v_pad, 0.0);
        self.state.clear();
        self.state.resize(n_rows, (f32::NEG_INFINITY, 0.0));
    }

    /// queries[row] <- scale * q.
    pub(super) fn set_query(&mut self, row: usize, q: &[f32], scale: f32) {
        for (to, from) in self.queries[row * padded(self.key_dim)..].iter_mut().zip(q) {
            *to = from * scale;
        }
    }

    /// True where few rows read a block without widening it first.
    fn as_it_lies(&self, rows: &Range<usize>) -> bool {
        rows.len() <= FEW_ROWS
            && self.few_tokens
            && self.key_dim.is_multiple_of(WIDTH_STEP)
            && self.value_dim.is_multiple_of(WIDTH_STEP)
    }

    /// One block of `n` keys `k` [n, key_dim] and values `v` [n, value_dim]; without values they are the first
    /// `value_dim` of each key. `visible(row)`: tokens of the block that a row sees. `wanted` begins with a whole group
    /// of rows.
    #[inline(always)]
    pub(super) fn block<S: Simd, E: Element>(
        &mut self,
        s: S,
        wanted: Range<usize>,
        (n, k, v): (usize, &[E], Option<&[E]>),
        visible: impl Fn(usize) -> usize,
    ) {
        let (k_pad, v_pad) = (padded(self.key_dim), padded(self.value_dim));
        match v {
            _ if self.as_it_lies(&wanted) => {
                let keys = Rows { values: k, stride: self.key_dim, n };
                let values = v.map_or(keys, |v| Rows { values: v, stride: self.value_dim, n });
                self.rows_block(s, wanted, keys, values, visible);
            }
            None => {
                let mut rows = std::mem::take(&mut self.rows);
                widen(s, &mut rows, k_pad, k, self.key_dim);
                let latents = Rows { values: &rows[..], stride: k_pad, n };
                self.rows_block(s, wanted, latents, latents, visible);
                self.rows = rows;
            }
            Some(v) if self.few_tokens => {
                widen(s, &mut self.rows, k_pad, k, self.key_dim);
                let queries = Rows { values: &self.queries[..], stride: k_pad, n: self.state.len() };
                let keys = Rows { values: &self.rows[..], stride: k_pad, n };
                dots(s, &mut self.weights, queries, keys, wanted.clone());
                self.softmax(s, wanted.clone(), visible);
                widen(s, &mut self.rows, v_pad, v, self.value_dim);
                self.add_values(s, wanted, n);
            }
            Some(v) => {
                widen(s, &mut self.rows, k_pad, k, self.key_dim);
                transpose(s, &mut self.keys, &self.rows, BLOCK_TOKENS, k_pad);
                self.transposed_scores(s, wanted.clone(), visible);
                widen(s, &mut self.rows, v_pad, v, self.value_dim);
                self.add_values(s, wanted, n);
            }
        }
    }

    /// A block of keys and values in rows.
    #[inline(always)]
    fn rows_block<S: Simd, E: Element>(
        &mut self,
        s: S,
        wanted: Range<usize>,
        keys: Rows<'_, E>,
        values: Rows<'_, E>,
        visible: impl Fn(usize) -> usize,
    ) {
        let queries = Rows { values: &self.queries[..], stride: padded(self.key_dim), n: self.state.len() };
        dots(s, &mut self.weights, queries, keys, wanted.clone());
        self.softmax(s, wanted.clone(), visible);
        add_weighted(s, &mut self.acc, padded(self.value_dim), &self.weights, values, wanted);
    }

    /// weights <- the softmax of the scores of `keys`.
    #[inline(always)]
    pub(super) fn transposed_scores<S: Simd>(
        &mut self,
        s: S,
        wanted: Range<usize>,
        visible: impl Fn(usize) -> usize,
    ) {
        let queries = Rows { values: &self.queries[..], stride: padded(self.key_dim), n: self.state.len() };
        let keys = &self.keys[..self.key_dim * BLOCK_TOKENS];
        times_transposed(s, &mut self.weights, queries, keys, wanted.clone());
        self.softmax(s, wanted, visible);
    }

    /// acc += weights times the `n` values that `rows` holds.
    #[inline(always)]
    pub(super) fn add_values<S: Simd>(&mut self, s: S, wanted: Range<usize>, n: usize) {
        let v_pad = padded(self.value_dim);
        let values = Rows { values: &self.rows[..], stride: v_pad, n };
        add_weighted(s, &mut self.acc, v_pad, &self.weights, values, wanted);
    }

    #[inline(always)]
    fn softmax<S: Simd>(&mut self, s: S, wanted: Range<usize>, visible: impl Fn(usize) -> usize) {
        for row in wanted {
            self.softmax_of(s, row, visible(row));
        }
    }

    /// weights[row] <- e^(weights[row] - m') on the first `visible` tokens, 0 on the others; updates the row's state
    /// and rescales its sums.
    #[inline(always)]
    fn softmax_of<S: Simd>(&mut self, s: S, row: usize, visible: usize) {
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
            let v_pad = padded(self.value_dim);
            for acc in &mut self.acc[row * v_pad..][..v_pad] {
                *acc *= correction;
            }
        }
        self.state[row] = (m_new, l * correction + s.sum(sum));
    }

    /// out [value_dim] <- acc[row] / l.
    #[inline(always)]
    pub(super) fn finish(&self, row: usize, out: *mut f32) {
        let norm = self.state[row].1.recip();
        for (d, acc) in self.acc[row * padded(self.value_dim)..][..self.value_dim].iter().enumerate() {
            // SAFETY: `out` points to this row's value_dim results, which no other task touches.
            unsafe { out.add(d).write(acc * norm) };
        }
    }
}
