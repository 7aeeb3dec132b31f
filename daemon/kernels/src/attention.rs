//! Causal grouped-query attention over the paged KV cache, with the softmax computed online.
//!
//! A task is a tile of one sequence's tokens and the query heads that share a KV head: rows that read the same keys
//! and values. It goes through the sequence's blocks once. Where rows are many, a block's keys are transposed and its
//! keys and values widened to f32 first; few rows (decode) read them as they lie.
//!
//! ```text
//! s[row, t] = scale * q[row] . k[t]       masked where t is later than the row's position
//! m' = max(m, max_t s);  p = e^(s - m');  c = e^(m - m')
//! l = c l + sum_t p;     acc = c acc + sum_t p[t] v[t];     out = acc / l at the end
//! ```
//! Source: Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
#![expect(unsafe_code, reason = "vector loads and stores into scratch of checked length")]

use std::ops::Range;

use crate::kv::{self, BLOCK_TOKENS, KvElements, KvLayer};
use crate::level::Kernel;
use crate::simd::{Element, Simd};

/// Query rows (tokens times heads of a group) a task aims at: enough to amortise widening a block.
const ROWS_A_TASK: usize = 64;
/// Rows that share loads of keys and values in the inner loops.
const ROWS: usize = 4;
/// Widths of a head are padded to this: two vectors at every level.
const WIDTH_STEP: usize = 32;
/// Rows up to which a block is read as it lies.
const FEW_ROWS: usize = 8;

/// Heads and their scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; `n_heads` is a multiple.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores, as a rule `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// The tokens of one sequence in a step, and where its past lies.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSeq<'a> {
    /// Tokens of this step.
    pub n_tokens: usize,
    /// Position of the first of them: the number of tokens before.
    pub first_pos: usize,
    /// Blocks of the cache, in order of position; they cover this step's tokens too.
    pub block_table: &'a [u32],
}

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

/// Rows of one sequence that share keys and values.
#[derive(Clone, Debug)]
struct Task {
    seq: usize,
    /// Tokens, counted from the first of the sequence in this step.
    tokens: Range<usize>,
    /// Query heads, of one group.
    heads: Range<usize>,
}

/// How a step's attention is cut into tasks.
#[derive(Debug)]
pub(crate) struct Plan {
    tile_tokens: usize,
    heads: usize,
    /// Tiles of all sequences before sequence i; one entry more than sequences.
    first_tile: Vec<usize>,
    tasks_a_tile: usize,
}

impl Plan {
    /// Aims at [`ROWS_A_TASK`] rows, and at several tasks a thread where there are few.
    pub(crate) fn new(seqs: &[AttentionSeq<'_>], shape: &AttentionShape, n_threads: usize) -> Self {
        let group = shape.n_heads / shape.n_kv_heads;
        let tile_tokens = ROWS_A_TASK.div_ceil(group);
        let mut first_tile = vec![0];
        for seq in seqs {
            let before = first_tile[first_tile.len() - 1];
            first_tile.push(before + seq.n_tokens.div_ceil(tile_tokens));
        }
        let n_tiles = first_tile[first_tile.len() - 1];
        let heads = if n_tiles * shape.n_kv_heads >= 4 * n_threads { group } else { 1 };
        Self { tile_tokens, heads, first_tile, tasks_a_tile: shape.n_heads / heads }
    }

    pub(crate) fn n_tasks(&self) -> usize {
        self.first_tile[self.first_tile.len() - 1] * self.tasks_a_tile
    }

    fn task(&self, idx: usize, seqs: &[AttentionSeq<'_>]) -> Task {
        let tile = idx / self.tasks_a_tile;
        let seq = self.first_tile.partition_point(|&first| first <= tile) - 1;
        let start = (tile - self.first_tile[seq]) * self.tile_tokens;
        let head = idx % self.tasks_a_tile * self.heads;
        Task {
            seq,
            tokens: start..seqs[seq].n_tokens.min(start + self.tile_tokens),
            heads: head..head + self.heads,
        }
    }
}

/// Where results go: rows [n_tokens, n_heads, head_dim], by pointer, as tasks interleave in memory.
#[derive(Clone, Copy)]
pub(crate) struct Out(*mut f32);

// SAFETY: every (token, head) belongs to one task, and a task runs once.
unsafe impl Sync for Out {}

impl Out {
    pub(crate) fn new(out: &mut [f32]) -> Self {
        Self(out.as_mut_ptr())
    }
}

/// One task of a step's attention.
pub(crate) struct Attention<'a> {
    pub(crate) out: Out,
    pub(crate) q: &'a [f32],
    pub(crate) seqs: &'a [AttentionSeq<'a>],
    pub(crate) shape: &'a AttentionShape,
    pub(crate) kv: KvLayer<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) idx: usize,
    pub(crate) scratch: &'a mut Scratch,
}

impl Kernel for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.kv.k, self.kv.v) {
            (KvElements::F32(k), KvElements::F32(v)) => self.blocks(s, k, v),
            (KvElements::F16(k), KvElements::F16(v)) => self.blocks(s, k, v),
            _ => panic!("keys and values are stored alike"),
        }
    }
}

impl Attention<'_> {
    #[inline(always)]
    fn blocks<S: Simd, E: Element>(self, s: S, k: &[E], v: &[E]) {
        let Self { out, q, seqs, shape, plan, idx, scratch, .. } = self;
        let task = plan.task(idx, seqs);
        let seq = &seqs[task.seq];
        let first_token: usize = seqs[..task.seq].iter().map(|seq| seq.n_tokens).sum();
        let kv_head = task.heads.start * shape.n_kv_heads / shape.n_heads;
        let n_rows = task.tokens.len() * task.heads.len();
        scratch.prepare(n_rows, shape);
        for (row, (token, head)) in task.rows().enumerate() {
            let from = ((first_token + token) * shape.n_heads + head) * shape.head_dim;
            let to = &mut scratch.queries[row * shape.head_dim..][..shape.head_dim];
            for (to, from) in to.iter_mut().zip(&q[from..from + shape.head_dim]) {
                *to = from * shape.scale;
            }
        }
        let end = seq.first_pos + task.tokens.end;
        for start in (0..end).step_by(BLOCK_TOKENS) {
            let n = BLOCK_TOKENS.min(end - start);
            let at = kv::offset(seq.block_table, start, kv_head, shape);
            let (k, v) = (&k[at..at + n * shape.head_dim], &v[at..at + n * shape.head_dim]);
            let as_it_lies = n_rows <= FEW_ROWS && shape.head_dim.is_multiple_of(WIDTH_STEP);
            if as_it_lies {
                scratch.dots(s, n_rows, shape.head_dim, k);
            } else {
                scratch.widen_keys(s, k, shape.head_dim);
                scratch.scores(s, n_rows, shape.head_dim);
            }
            for (row, (token, _)) in task.rows().enumerate() {
                let visible = (seq.first_pos + token + 1).saturating_sub(start).min(BLOCK_TOKENS);
                scratch.softmax(s, row, visible);
            }
            if as_it_lies {
                scratch.accumulate(s, n_rows, v, shape.head_dim);
            } else {
                scratch.widen(s, v, shape.head_dim);
                let values = std::mem::take(&mut scratch.values);
                scratch.accumulate(s, n_rows, &values[..n * padded(shape.head_dim)], padded(shape.head_dim));
                scratch.values = values;
            }
        }
        for (row, (token, head)) in task.rows().enumerate() {
            let to = ((first_token + token) * shape.n_heads + head) * shape.head_dim;
            scratch.finish(row, shape.head_dim, out.0.wrapping_add(to));
        }
    }
}

impl Task {
    /// (token, head) of every row, in order.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        self.tokens.clone().flat_map(|token| self.heads.clone().map(move |head| (token, head)))
    }
}

/// Head width rounded up to whole steps of the inner loops at every level.
fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(WIDTH_STEP)
}

impl Scratch {
    /// Grows the buffers and clears the sums. Padding keeps whatever it holds: its results are never read.
    fn prepare(&mut self, n_rows: usize, shape: &AttentionShape) {
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
    fn scores<S: Simd>(&mut self, s: S, n_rows: usize, head_dim: usize) {
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
    fn softmax<S: Simd>(&mut self, s: S, row: usize, visible: usize) {
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
    fn finish(&self, row: usize, head_dim: usize, out: *mut f32) {
        let d_pad = self.values.len() / BLOCK_TOKENS;
        let norm = self.state[row].1.recip();
        for (d, acc) in self.acc[row * d_pad..][..head_dim].iter().enumerate() {
            // SAFETY: `out` points to this row's head_dim results, which no other task touches.
            unsafe { out.add(d).write(acc * norm) };
        }
    }
}
