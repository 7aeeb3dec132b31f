//! Hyperparameters: what a model's shape is, whatever file it came from.
//!
//! GGUF metadata and Hugging Face's `config.json` are both read into this one type; packs store it as it stands.

use serde::{Deserialize, Serialize};
use tensor::reference::{Gating, RopePairs, Router};

/// Model family, as far as the layer loop is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM2, R1-Distill-Llama.
    Llama,
    /// Qwen2 and Qwen2.5, R1-Distill-Qwen: Llama with a bias on Q, K and V.
    Qwen2,
    /// DeepSeek V2, V3, R1, Kimi K2: MLA and a mixture of experts.
    DeepSeek2,
}

/// How rope frequencies are stretched beyond the trained context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum RopeScaling {
    /// Every position divided by `factor`.
    Linear {
        /// Stretch factor.
        factor: f32,
    },
    /// Llama 3's piecewise scaling by wavelength.
    Llama3 {
        /// Stretch factor of long wavelengths.
        factor: f32,
        /// Wavelengths longer than `original_context / low_freq_factor` are stretched in full.
        low_freq_factor: f32,
        /// Wavelengths shorter than `original_context / high_freq_factor` are left alone.
        high_freq_factor: f32,
        /// Tokens the model was trained on.
        original_context: usize,
    },
    /// YaRN, arXiv:2309.00071.
    Yarn {
        /// Stretch factor.
        factor: f32,
        /// Tokens the model was trained on.
        original_context: usize,
        /// Fast rotations: dimensions that turn more often than this are left alone.
        beta_fast: f32,
        /// Slow rotations: dimensions that turn less often than this are stretched in full.
        beta_slow: f32,
        /// Scale of cos and sin: `mscale(factor, mscale) / mscale(factor, mscale_all_dim)`.
        mscale: f32,
        /// Enters the softmax scale squared.
        mscale_all_dim: f32,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the geometric series of frequencies.
    pub theta: f32,
    /// Dimensions of a head that are rotated.
    pub dim: usize,
    /// Pairing of the dimensions in this file's weights: GGUF permutes Llama's Q and K rows to pair neighbours, Hugging
    /// Face's files and GGUF's Qwen2 pair halves, DeepSeek's pair neighbours everywhere.
    pub pairs: RopePairs,
    /// Scaling, if any. GGUF's Llama 3 files carry a tensor `rope_freqs.weight` of divisors instead.
    pub scaling: Option<RopeScaling>,
}

/// Multi-head latent attention (DeepSeek V2, arXiv:2405.04434).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mla {
    /// Rank of the compressed query; `None` where Q is projected directly (V2-Lite).
    pub q_lora_rank: Option<usize>,
    /// Rank of the compressed keys and values: what the KV cache holds, besides `rope_dim`.
    pub kv_lora_rank: usize,
    /// Query and key dimensions without position.
    pub nope_dim: usize,
    /// Query and key dimensions with position, shared by all heads.
    pub rope_dim: usize,
    /// Value dimensions of a head.
    pub v_dim: usize,
}

/// Mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moe {
    /// Routed experts in a layer.
    pub n_experts: usize,
    /// Routed experts a token uses.
    pub top_k: usize,
    /// Width of one expert.
    pub d_expert: usize,
    /// Shared experts, always used; their weights are one matrix of `n_shared * d_expert` rows.
    pub n_shared: usize,
    /// Leading layers with a dense feed-forward.
    pub n_dense_layers: usize,
    /// Groups of experts; 1 where there is no grouping.
    pub n_groups: usize,
    /// Groups a token may use.
    pub top_k_groups: usize,
    /// Logits to weights.
    pub gating: Gating,
    /// Chosen weights are normalised to sum 1.
    pub normalise: bool,
    /// Factor on the chosen weights.
    pub scale: f32,
}

impl Moe {
    /// The rule by which experts are chosen.
    pub fn router(&self) -> Router {
        let &Self { gating, top_k, n_groups, top_k_groups, normalise, scale, .. } = self;
        Router { gating, top_k, n_groups, top_k_groups, normalise, scale }
    }
}

/// Everything a layer loop needs to know besides the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyperparameters {
    /// Family.
    pub architecture: Architecture,
    /// Name for people, where the file has one.
    pub name: Option<String>,
    /// Transformer layers (draft layers not counted).
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head, read from the file: not always `d_model / n_heads`.
    pub head_dim: usize,
    /// Width of the dense feed-forward.
    pub d_ff: usize,
    /// Rows of the embedding.
    pub n_vocab: usize,
    /// Longest context the file claims, in tokens.
    pub context: usize,
    /// Epsilon of RMSNorm.
    pub rms_eps: f32,
    /// Positions.
    pub rope: Rope,
    /// The output head is the embedding.
    pub tied: bool,
    /// Latent attention, where the family has it.
    pub mla: Option<Mla>,
    /// Mixture of experts, where the family has it.
    pub moe: Option<Moe>,
    /// Multi-token-prediction draft layers behind the last.
    pub n_draft_layers: usize,
}
