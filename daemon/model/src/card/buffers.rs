//! Activations and caches on the card.

use gpu::{Binding, BufferKind, Copy, Layout, Quantised, Rows, Tiles};
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

/// Sizes that a model's buffers have, in values a token; 0 for what its family lacks.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    step: StepLayout,
    step_tokens: usize,
    d_model: usize,
    q: usize,
    attended: usize,
    ffn: usize,
    n_vocab: usize,
    heads: usize,
    /// Of what attention over a split past keeps.
    value_dim: usize,
    latent: LatentSizes,
    mixture: MixtureSizes,
    kv_blocks: usize,
    kv_shape: KvShape,
    kv_bytes: usize,
    f16: bool,
}

/// Of latent attention.
#[derive(Clone, Copy, Debug, Default)]
struct LatentSizes {
    q_a: usize,
    kv_a: usize,
    q_latent: usize,
    attended: usize,
}

/// Of a mixture of experts.
#[derive(Clone, Copy, Debug, Default)]
struct MixtureSizes {
    n_experts: usize,
    top_k: usize,
    routed: usize,
    /// Of experts that the card computes.
    ffn: usize,
    rows: usize,
}

impl MixtureSizes {
    /// Tiles of choices that so many tokens have, at most.
    fn tiles_max(&self, n_tokens: usize) -> usize {
        gpu::expert_tiles_max((n_tokens * self.top_k) as u32, self.n_experts as u32) as usize
    }
}

impl Sizes {
    pub(crate) fn of(hyper: &Hyperparameters, shape: &CardShape) -> Self {
        let kv_blocks = shape.kv_tokens.div_ceil(BLOCK_TOKENS);
        let all = KvShape::of(hyper, 0);
        let kv_shape = KvShape { n_layers: all.n_layers.min(shape.layers), ..all };
        let group = hyper.n_heads / kv_shape.n_kv_heads;
        let dense = hyper.n_heads * hyper.head_dim;
        let heads = hyper.n_heads;
        let mixture = hyper.moe.map_or_else(MixtureSizes::default, |moe| {
            let on_card =
                |width: usize| if shape.experts > 0 || shape.brings { moe.top_k * width } else { 0 };
            MixtureSizes {
                n_experts: moe.n_experts,
                top_k: moe.top_k,
                routed: hyper.d_model,
                ffn: on_card(moe.d_expert),
                rows: on_card(hyper.d_model),
            }
        });
        let shared = hyper.moe.map_or(0, |moe| moe.n_shared * moe.d_expert);
        let latent = hyper.mla.map(|mla| LatentSizes {
            q_a: mla.q_lora_rank.unwrap_or(0),
            kv_a: mla.kv_lora_rank + mla.rope_dim,
            q_latent: heads * (mla.kv_lora_rank + mla.rope_dim),
            attended: heads * mla.kv_lora_rank,
        });
        Self {
            step: StepLayout::new(shape.step_tokens, kv_blocks, hyper.rope.dim, group),
            step_tokens: shape.step_tokens,
            d_model: hyper.d_model,
            q: hyper.mla.map_or(dense + 2 * hyper.n_kv_heads * hyper.head_dim, |mla| {
                heads * (mla.nope_dim + mla.rope_dim)
            }),
            attended: hyper.mla.map_or(dense, |mla| heads * mla.v_dim),
            ffn: hyper.d_ff.max(shared),
            n_vocab: hyper.n_vocab,
            heads,
            value_dim: hyper.mla.map_or(hyper.head_dim, |mla| mla.kv_lora_rank),
            latent: latent.unwrap_or_default(),
            mixture,
            kv_blocks,
            kv_shape,
            kv_bytes: match shape.kv {
                KvType::F32 => 4,
                KvType::F16 => 2,
            },
            f16: shape.f16,
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
    /// Queries; without latent attention keys and values behind them.
    pub(crate) q: Rows,
    pub(crate) attended: Rows,
    pub(crate) gate: Rows,
    pub(crate) up: Rows,
    pub(crate) ffn: Rows,
    pub(crate) q_a: Rows,
    pub(crate) q_a_normed: Rows,
    pub(crate) kv_a: Rows,
    pub(crate) latent: Rows,
    pub(crate) q_latent: Rows,
    pub(crate) attended_latent: Rows,
    /// The router's logits.
    pub(crate) router: Rows,
    /// [n_tokens, top_k] of (expert, weight).
    pub(crate) choices: Binding,
    pub(crate) top_k: usize,
    /// What the processor's experts make.
    pub(crate) routed: Rows,
    /// [n_tokens * top_k, d_expert] and [n_tokens * top_k, d_model].
    pub(crate) expert_ffn: Rows,
    pub(crate) expert_rows: Rows,
    /// Choices by expert, where the card computes any.
    pub(crate) expert_tiles: Option<Tiles>,
    /// Activations in fewer bits, of the stage at hand.
    pub(crate) quantised: Quantised,
    /// The same of experts.
    pub(crate) experts_quantised: Quantised,
    /// Parts of attention over a split past.
    pub(crate) parts: Binding,
    /// [HEAD_ROWS, d_model]
    pub(crate) wanted: Rows,
    /// [HEAD_ROWS, n_vocab, padded]
    pub(crate) logits: Rows,
    /// The largest of each, (place, value).
    pub(crate) best: Binding,
    /// Keys and values of each layer.
    pub(crate) kv: Vec<(Binding, Binding)>,
}

impl Buffers {
    pub(crate) fn new(layout: &mut Layout, sizes: &Sizes) -> Self {
        let &Sizes { step_tokens: n, latent, mixture, .. } = sizes;
        let mut rows = |n: usize, width: usize| {
            let width = width.next_multiple_of(4);
            Rows::new(layout.buffer(BufferKind::Activations, 4 * (n * width) as u64), width)
        };
        let per_choice = |width: usize| width.checked_div(mixture.top_k).unwrap_or(0);
        let parts = SPLITS_MAX * n.min(SPLIT_TOKENS) * sizes.heads;
        let widest = [sizes.d_model, sizes.attended, sizes.ffn, latent.q_a].into_iter().max().unwrap_or(0);
        let mut quantised = |n: usize, width: usize| Quantised {
            codes: rows(n, width.div_ceil(if sizes.f16 { 2 } else { 4 })).at,
            factors: rows(n, width.div_ceil(8)).at,
            f16: sizes.f16,
        };
        let (experts_quantised, quantised) =
            (quantised(n * mixture.top_k, per_choice(mixture.ffn)), quantised(n, widest));
        let mut buffers = Self {
            step_layout: sizes.step,
            step: rows(1, sizes.step.words()).at,
            hidden: rows(n, sizes.d_model),
            normed: rows(n, sizes.d_model),
            q: rows(n, sizes.q),
            attended: rows(n, sizes.attended),
            gate: rows(n, sizes.ffn),
            up: rows(n, sizes.ffn),
            ffn: rows(n, sizes.ffn),
            q_a: rows(n, latent.q_a),
            q_a_normed: rows(n, latent.q_a),
            kv_a: rows(n, latent.kv_a),
            latent: rows(n, latent.kv_a),
            q_latent: rows(n, latent.q_latent),
            attended_latent: rows(n, latent.attended),
            router: rows(n, mixture.n_experts),
            choices: rows(n, 2 * mixture.top_k).at,
            top_k: mixture.top_k,
            routed: rows(n, mixture.routed),
            expert_ffn: rows(n * mixture.top_k, per_choice(mixture.ffn)),
            expert_rows: rows(n * mixture.top_k, per_choice(mixture.rows)),
            expert_tiles: (mixture.ffn > 0).then(|| Tiles {
                order: rows(n, mixture.top_k).at,
                tiles: rows(1, 4 * mixture.tiles_max(n)).at,
            }),
            quantised,
            experts_quantised,
            parts: rows(parts, sizes.value_dim + 4).at,
            wanted: rows(HEAD_ROWS, sizes.d_model),
            logits: rows(HEAD_ROWS, sizes.n_vocab),
            best: rows(HEAD_ROWS, 2).at,
            kv: Vec::new(),
        };
        let shape = &sizes.kv_shape;
        let bytes = |width: usize| {
            (sizes.kv_blocks * shape.n_kv_heads * BLOCK_TOKENS * width * sizes.kv_bytes) as u64
        };
        buffers.kv.extend((0..shape.n_layers).map(|_| {
            let keys = layout.buffer(BufferKind::Kv, bytes(shape.key_dim));
            let values = shape.value_dim.map(|width| layout.buffer(BufferKind::Kv, bytes(width)));
            (keys, values.unwrap_or(keys))
        }));
        buffers
    }

    /// What the processor gets for a layer's experts: x, then the choices.
    pub(crate) fn handover(&self, n_tokens: usize) -> [Copy; 2] {
        let x = Copy { from: self.normed.at, bytes: (4 * n_tokens * self.normed.stride) as u64 };
        [x, self.chosen(n_tokens)]
    }

    /// The choices alone.
    pub(crate) fn chosen(&self, n_tokens: usize) -> Copy {
        Copy { from: self.choices, bytes: (8 * n_tokens * self.top_k) as u64 }
    }

    /// Bytes of [`handover`](Self::handover).
    pub(crate) fn handover_bytes(&self, n_tokens: usize) -> u64 {
        self.handover(n_tokens).iter().map(|copy| copy.bytes).sum()
    }
}
