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
#![expect(unsafe_code, reason = "tasks write interleaved parts of one slice")]

mod scratch;

use std::ops::Range;

pub(crate) use self::scratch::Scratch;
use crate::kv::{self, BLOCK_TOKENS, KvElements, KvLayer};
use crate::level::Kernel;
use crate::simd::{Element, Simd};

/// Query rows (tokens times heads of a group) a task aims at: enough to amortise widening a block.
const ROWS_A_TASK: usize = 64;
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
            scratch.set_query(row, &q[from..from + shape.head_dim], shape.scale);
        }
        let end = seq.first_pos + task.tokens.end;
        for start in (0..end).step_by(BLOCK_TOKENS) {
            let n = BLOCK_TOKENS.min(end - start);
            let at = kv::offset(seq.block_table, start, kv_head, shape);
            let (k, v) = (&k[at..at + n * shape.head_dim], &v[at..at + n * shape.head_dim]);
            scratch.scores(s, n_rows, k, shape.head_dim);
            for (row, (token, _)) in task.rows().enumerate() {
                let visible = (seq.first_pos + token + 1).saturating_sub(start).min(BLOCK_TOKENS);
                scratch.softmax(s, row, visible);
            }
            scratch.add_values(s, n_rows, v, shape.head_dim);
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
