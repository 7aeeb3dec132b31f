//! Activations and caches on the card.

use gpu::{Binding, BufferKind, Layout, Rows};
use kernels::BLOCK_TOKENS;
use shaders::KvType;
use weights::Hyperparameters;

use super::CardShape;
use super::step::StepLayout;
use crate::kv::KvShape;

/// Parts that the past is split into, at most.
pub(crate) const SPLITS_MAX: usize = 16;
/// Tokens of a step, up to which the past is split.
pub(crate) const SPLIT_TOKENS: usize = 8;
/// Rows of logits that are computed and brought back at a time.
pub(crate) const HEAD_ROWS: usize = 16;

/// Sizes that a family's buffers have, in values a token.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) step: StepLayout,
    d_model: usize,
    q: usize,
    k: usize,
    v: usize,
    attended: usize,
    ffn: usize,
    n_vocab: usize,
    heads: usize,
    value_dim: usize,
    step_tokens: usize,
    kv_blocks: usize,
    kv_shape: KvShape,
    kv_bytes: usize,
}

impl Sizes {
    pub(crate) fn of(hyper: &Hyperparameters, shape: &CardShape) -> Self {
        let kv_blocks = shape.kv_tokens.div_ceil(BLOCK_TOKENS);
        let group = hyper.n_heads / hyper.n_kv_heads;
        Self {
            step: StepLayout::new(shape.step_tokens, kv_blocks, hyper.rope.dim, group),
            d_model: hyper.d_model,
            q: hyper.n_heads * hyper.head_dim,
            k: hyper.n_kv_heads * hyper.head_dim,
            v: hyper.n_kv_heads * hyper.head_dim,
            attended: hyper.n_heads * hyper.head_dim,
            ffn: hyper.d_ff,
            n_vocab: hyper.n_vocab,
            heads: hyper.n_heads,
            value_dim: hyper.head_dim,
            step_tokens: shape.step_tokens,
            kv_blocks,
            kv_shape: KvShape::of(hyper, 0),
            kv_bytes: match shape.kv {
                KvType::F32 => 4,
                KvType::F16 => 2,
            },
        }
    }
}

/// Buffers of one model, [n_tokens, width] each but where it is said otherwise.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) step_layout: StepLayout,
    /// The step's numbers.
    pub(crate) step: Binding,
    /// The residual stream.
    pub(crate) hidden: Rows,
    pub(crate) normed: Rows,
    pub(crate) q: Rows,
    pub(crate) k: Rows,
    pub(crate) v: Rows,
    pub(crate) attended: Rows,
    pub(crate) gate: Rows,
    pub(crate) up: Rows,
    pub(crate) ffn: Rows,
    /// Parts of attention over a split past.
    pub(crate) parts: Binding,
    /// [HEAD_ROWS, d_model]
    pub(crate) wanted: Rows,
    /// [HEAD_ROWS, n_vocab, padded]
    pub(crate) logits: Rows,
    /// Keys and values of each layer.
    pub(crate) kv: Vec<(Binding, Binding)>,
}

impl Buffers {
    pub(crate) fn new(layout: &mut Layout, sizes: &Sizes) -> Self {
        let n = sizes.step_tokens;
        let mut rows = |n: usize, width: usize| {
            Rows::new(layout.buffer(BufferKind::Activations, 4 * (n * width) as u64), width)
        };
        let vocab = sizes.n_vocab.next_multiple_of(4);
        let parts = SPLITS_MAX * n.min(SPLIT_TOKENS) * sizes.heads;
        let (hidden, normed) = (rows(n, sizes.d_model), rows(n, sizes.d_model));
        let (q, k, v) = (rows(n, sizes.q), rows(n, sizes.k), rows(n, sizes.v));
        let (attended, ffn) = (rows(n, sizes.attended), rows(n, sizes.ffn));
        let (gate, up) = (rows(n, sizes.ffn), rows(n, sizes.ffn));
        let (wanted, logits) = (rows(HEAD_ROWS, sizes.d_model), rows(HEAD_ROWS, vocab));
        let parts = rows(parts, sizes.value_dim + 4).at;
        let step = layout.buffer(BufferKind::Activations, 4 * sizes.step.words() as u64);
        let shape = &sizes.kv_shape;
        let cache = |width: usize| {
            (sizes.kv_blocks * shape.n_kv_heads * BLOCK_TOKENS * width * sizes.kv_bytes) as u64
        };
        let kv = (0..shape.n_layers).map(|_| {
            let keys = layout.buffer(BufferKind::Kv, cache(shape.key_dim));
            let values = shape.value_dim.map(|width| layout.buffer(BufferKind::Kv, cache(width)));
            (keys, values.unwrap_or(keys))
        });
        let kv = kv.collect();
        let step_layout = sizes.step;
        Self {
            step_layout,
            step,
            hidden,
            normed,
            q,
            k,
            v,
            attended,
            gate,
            up,
            ffn,
            parts,
            wanted,
            logits,
            kv,
        }
    }
}
