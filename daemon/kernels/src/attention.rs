//! Causal attention over the paged KV cache, grouped-query or latent, with the softmax computed online.
//!
//! A task is a tile of one sequence's tokens and query heads that share a KV head: rows that read the same keys and
//! values. It goes through the sequence's blocks once, for the rows that see them.
//!
//! ```text
//! s[row, t] = scale * q[row] . k[t]       masked where t is later than the row's position
//! m' = max(m, max_t s);  p = e^(s - m');  c = e^(m - m')
//! l = c l + sum_t p;     acc = c acc + sum_t p[t] v[t];     out = acc / l at the end
//! ```
//! Source: Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
//!
//! How a block gets to the inner loops:
//!
//! | cache | rows | keys | values |
//! | --- | --- | --- | --- |
//! | keys and values | few (decode) | as they lie | as they lie |
//! | keys and values | many | widened to f32, transposed | widened |
//! | latent rows, absorbed ([`Cpu::attention`](crate::Cpu::attention)) | few | as they lie | as they lie |
//! | latent rows, absorbed | many | widened | the widened keys |
//! | latent rows, plain (`latent.rs`) | any | expanded for a head | expanded for a head |
#![expect(unsafe_code, reason = "tasks write interleaved parts of one slice")]

pub(crate) mod latent;
mod plan;
mod products;
mod scratch;
mod stage;

use std::ops::Range;

pub(crate) use self::plan::Plan;
use self::plan::Task;
use self::products::ROWS;
pub(crate) use self::scratch::Scratch;
use crate::kv::{BLOCK_TOKENS, KvElements, KvLayer, KvRows};
use crate::level::Kernel;
use crate::simd::{Element, Simd};

/// Heads, their widths and scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; `n_heads` is a multiple.
    pub n_kv_heads: usize,
    /// Width of a head's query and key.
    pub key_dim: usize,
    /// Width of a head's value; at most `key_dim` where the cache holds keys only.
    pub value_dim: usize,
    /// Factor on the scores, as a rule `1 / sqrt(key_dim)`.
    pub scale: f32,
}

impl AttentionShape {
    /// Layout of the cached keys.
    pub(crate) fn keys(&self) -> KvRows {
        KvRows { n_kv_heads: self.n_kv_heads, width: self.key_dim }
    }

    /// Layout of the cached values.
    pub(crate) fn values(&self) -> KvRows {
        KvRows { n_kv_heads: self.n_kv_heads, width: self.value_dim }
    }
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

/// Where results go: rows [n_tokens, n_heads, value_dim], by pointer, as tasks interleave in memory.
#[derive(Clone, Copy)]
pub(crate) struct Out(*mut f32);

// SAFETY: every (token, head) belongs to one task, and a task runs once.
unsafe impl Sync for Out {}

impl Out {
    pub(crate) fn new(out: &mut [f32]) -> Self {
        Self(out.as_mut_ptr())
    }
}

/// The query rows of one task, token by token.
struct TaskRows<'a> {
    task: Task,
    seq: &'a AttentionSeq<'a>,
    /// Of all the step's tokens, the sequence's first.
    first_token: usize,
    n_heads: usize,
}

impl<'a> TaskRows<'a> {
    fn new(plan: &Plan, idx: usize, seqs: &'a [AttentionSeq<'a>], n_heads: usize) -> Self {
        let task = plan.task(idx, seqs);
        let first_token = seqs[..task.seq].iter().map(|seq| seq.n_tokens).sum();
        Self { seq: &seqs[task.seq], task, first_token, n_heads }
    }

    fn len(&self) -> usize {
        self.task.tokens.len() * self.task.heads.len()
    }

    /// Index of (token, head) of every row, in order, in the step's q and out.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.task.tokens.clone().flat_map(move |token| {
            self.task.heads.clone().map(move |head| (self.first_token + token) * self.n_heads + head)
        })
    }

    /// scratch <- the rows' queries `q` [n_tokens, n_heads, key_dim].
    fn load(&self, scratch: &mut Scratch, q: &[f32], key_dim: usize, value_dim: usize, scale: f32) {
        scratch.prepare(self.len(), self.task.tokens.len(), key_dim, value_dim);
        for (row, place) in self.places().enumerate() {
            scratch.set_query(row, &q[place * key_dim..][..key_dim], scale);
        }
    }

    /// First position and number of tokens of every block that a row sees.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let end = self.seq.first_pos + self.task.tokens.end;
        (0..end).step_by(BLOCK_TOKENS).map(move |start| (start, BLOCK_TOKENS.min(end - start)))
    }

    /// Tokens that a row sees of the block that begins at `start`.
    #[inline(always)]
    fn visible(&self, row: usize, start: usize) -> usize {
        let first_pos = self.seq.first_pos + self.task.tokens.start;
        if start + BLOCK_TOKENS <= first_pos + 1 {
            return BLOCK_TOKENS;
        }
        (first_pos + row / self.task.heads.len() + 1).saturating_sub(start).min(BLOCK_TOKENS)
    }

    /// The rows that see the block that begins at `start`, from a whole group on.
    fn seeing(&self, start: usize) -> Range<usize> {
        let blind = start.saturating_sub(self.seq.first_pos + self.task.tokens.start);
        let first = blind * self.task.heads.len();
        first - first % ROWS..self.len()
    }

    /// `out` [n_tokens, n_heads, value_dim] <- the rows' results.
    fn store(&self, scratch: &Scratch, out: Out, value_dim: usize) {
        for (row, place) in self.places().enumerate() {
            scratch.finish(row, out.0.wrapping_add(place * value_dim));
        }
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
            (KvElements::F32(k), Some(KvElements::F32(v))) => self.blocks(s, k, Some(v)),
            (KvElements::F16(k), Some(KvElements::F16(v))) => self.blocks(s, k, Some(v)),
            (KvElements::F32(k), None) => self.blocks(s, k, None),
            (KvElements::F16(k), None) => self.blocks(s, k, None),
            _ => panic!("keys and values are stored alike"),
        }
    }
}

impl Attention<'_> {
    #[inline(always)]
    fn blocks<S: Simd, E: Element>(self, s: S, k: &[E], v: Option<&[E]>) {
        let Self { out, q, seqs, shape, plan, idx, scratch, .. } = self;
        let rows = TaskRows::new(plan, idx, seqs, shape.n_heads);
        let kv_head = rows.task.heads.start * shape.n_kv_heads / shape.n_heads;
        rows.load(scratch, q, shape.key_dim, shape.value_dim, shape.scale);
        for (start, n) in rows.blocks() {
            let k = shape.keys().block(k, rows.seq.block_table, start, kv_head, n);
            let v = v.map(|v| shape.values().block(v, rows.seq.block_table, start, kv_head, n));
            scratch.block(s, rows.seeing(start), (n, k, v), |row| rows.visible(row, start));
        }
        rows.store(scratch, out, shape.value_dim);
    }
}
