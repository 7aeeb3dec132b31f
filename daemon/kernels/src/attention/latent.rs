//! Multi-head latent attention in its plain form: keys and values of a head are expanded block by block, never stored.
//!
//! ```text
//! k[t] = [W_uk c[t] | k_rope[t]],  v[t] = W_uv c[t]      from latent rows [c (rank) | k_rope (rope_dim)]
//! ```
//!
//! A task is one head and a tile of one sequence's tokens. It decodes the head's weights once; a block of latents is
//! transposed, which makes its expanded keys transposed too: W_uk [nope_dim, rank] times [rank, tokens].
//! Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.

use tensor::Matrix;

use super::products::{Rows, padded, times_transposed, transpose, widen};
use super::{AttentionSeq, Out, Plan, Scratch, TaskRows};
use crate::HeadWeights;
use crate::kv::{BLOCK_TOKENS, KvElements, KvRows};
use crate::level::Kernel;
use crate::simd::{Element, Simd};

/// Tokens of a task: a block is expanded for all of them at once.
const TILE_TOKENS: usize = 512;

/// Heads of latent attention, their widths and scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentShape {
    /// Query heads.
    pub n_heads: usize,
    /// Width of the latent that keys and values are expanded from.
    pub rank: usize,
    /// Width of the part of a key that is rotated, shared by all heads.
    pub rope_dim: usize,
    /// Width of the part of a head's key that is not.
    pub nope_dim: usize,
    /// Width of a head's value.
    pub value_dim: usize,
    /// Factor on the scores, as a rule `1 / sqrt(nope_dim + rope_dim)`.
    pub scale: f32,
}

impl LatentShape {
    /// Width of a head's query and key: [nope | rope].
    pub fn key_dim(&self) -> usize {
        self.nope_dim + self.rope_dim
    }

    /// Width of a row of the cache: [c | k_rope].
    pub fn row_dim(&self) -> usize {
        self.rank + self.rope_dim
    }
}

/// What expands latents to the keys and values of every head.
#[derive(Clone, Copy, Debug)]
pub struct LatentWeights<'a> {
    /// W_uk: [nope_dim, rank] a head.
    pub k_b: HeadWeights<'a>,
    /// W_uv: [value_dim, rank] a head.
    pub v_b: HeadWeights<'a>,
}

impl LatentWeights<'_> {
    /// True where the weights are of this shape.
    pub(crate) fn fit(&self, shape: &LatentShape) -> bool {
        self.k_b.shape() == [shape.nope_dim, shape.rank]
            && self.v_b.shape() == [shape.value_dim, shape.rank]
            && self.k_b.n_heads() >= shape.n_heads
            && self.v_b.n_heads() >= shape.n_heads
    }
}

/// The tasks of a step.
pub(crate) fn plan(seqs: &[AttentionSeq<'_>], shape: &LatentShape) -> Plan {
    Plan::tiles(seqs, TILE_TOKENS, shape.n_heads)
}

/// One worker's memory for expanding blocks.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    /// W_uk of the task's head: [nope_pad][rank_pad].
    w_uk: Vec<f32>,
    /// W_uv of the task's head: [v_pad][rank_pad].
    w_uv: Vec<f32>,
    /// A block of latents, transposed: [row_pad][BLOCK_TOKENS].
    latents: Vec<f32>,
    /// What is about to be transposed.
    staging: Vec<f32>,
}

/// One task of a step's latent attention.
pub(crate) struct LatentAttention<'a> {
    pub(crate) out: Out,
    pub(crate) q: &'a [f32],
    pub(crate) seqs: &'a [AttentionSeq<'a>],
    pub(crate) shape: &'a LatentShape,
    pub(crate) weights: &'a LatentWeights<'a>,
    pub(crate) latents: KvElements<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) idx: usize,
    pub(crate) scratch: &'a mut Scratch,
}

impl Kernel for LatentAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.latents {
            KvElements::F32(latents) => self.blocks(s, latents),
            KvElements::F16(latents) => self.blocks(s, latents),
        }
    }
}

impl LatentAttention<'_> {
    #[inline(always)]
    fn blocks<S: Simd, E: Element>(self, s: S, latents: &[E]) {
        let Self { out, q, seqs, shape, weights, plan, idx, scratch, .. } = self;
        let rows = TaskRows::new(plan, idx, seqs, shape.n_heads);
        let head = rows.task.heads.start;
        rows.load(scratch, q, shape.key_dim(), shape.value_dim, shape.scale);
        let mut expansion = std::mem::take(&mut scratch.expansion);
        expansion.prepare(s, shape, weights, head);
        let layout = KvRows { n_kv_heads: 1, width: shape.row_dim() };
        for (start, n) in rows.blocks() {
            let block = layout.block(latents, rows.seq.block_table, start, 0, n);
            expansion.expand(s, shape, block, scratch);
            scratch.transposed_scores(s, rows.seeing(start), |row| rows.visible(row, start));
            scratch.add_values(s, rows.seeing(start), n);
        }
        scratch.expansion = expansion;
        rows.store(scratch, out, shape.value_dim);
    }
}

impl Expansion {
    /// Grows the buffers and decodes a head's weights.
    #[inline(always)]
    fn prepare<S: Simd>(&mut self, s: S, shape: &LatentShape, weights: &LatentWeights<'_>, head: usize) {
        let (row_pad, v_pad) = (padded(shape.row_dim()), padded(shape.value_dim));
        let weights_pad = padded(shape.rank) * padded(shape.nope_dim.max(shape.value_dim));
        self.latents.resize(row_pad * BLOCK_TOKENS, 0.0);
        self.staging.resize(weights_pad.max(row_pad.max(v_pad) * BLOCK_TOKENS), 0.0);
        decode(s, &mut self.w_uk, &mut self.staging, &weights.k_b.head(head), weights.k_b.transposed);
        decode(s, &mut self.w_uv, &mut self.staging, &weights.v_b.head(head), weights.v_b.transposed);
    }

    /// keys, rows of `scratch` <- the keys and values of a block of latents [n, rank + rope_dim].
    #[inline(always)]
    fn expand<S: Simd, E: Element>(&mut self, s: S, shape: &LatentShape, block: &[E], scratch: &mut Scratch) {
        let LatentShape { rank, rope_dim, nope_dim, value_dim, .. } = *shape;
        let Self { w_uk, w_uv, latents, staging } = self;
        let row_pad = padded(shape.row_dim());
        widen(s, staging, row_pad, block, shape.row_dim());
        transpose(s, latents, staging, BLOCK_TOKENS, row_pad);
        let (c, k_rope) = latents.split_at(rank * BLOCK_TOKENS);
        let rows = |values, n| Rows { values, stride: padded(rank), n: padded(n) };
        times_transposed(s, &mut scratch.keys, rows(w_uk, nope_dim), c, 0..nope_dim);
        let k_rope = &k_rope[..rope_dim * BLOCK_TOKENS];
        scratch.keys[nope_dim * BLOCK_TOKENS..][..k_rope.len()].copy_from_slice(k_rope);
        times_transposed(s, staging, rows(w_uv, value_dim), c, 0..value_dim);
        transpose(s, &mut scratch.rows, staging, padded(value_dim), BLOCK_TOKENS);
    }
}

/// to [rows_pad][cols_pad] <- a head's matrix, transposed back where it is stored transposed.
#[inline(always)]
fn decode<S: Simd>(s: S, to: &mut Vec<f32>, staging: &mut [f32], stored: &Matrix<'_>, transposed: bool) {
    let (n_rows, n_cols) = (padded(stored.rows()), padded(stored.cols()));
    to.resize(n_rows * n_cols, 0.0);
    let rows = if transposed { &mut *staging } else { &mut *to };
    for (row, values) in rows.chunks_exact_mut(n_cols).take(stored.rows()).enumerate() {
        stored.decode_row(row, &mut values[..stored.cols()]);
    }
    if transposed {
        transpose(s, to, staging, n_rows, n_cols);
    }
}
