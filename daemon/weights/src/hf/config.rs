//! `config.json` into hyperparameters.

use serde::Deserialize;
use tensor::SCALE_BLOCK;

use super::rope::{self, RopeParameters};
use crate::family::{Naming, sparse_attention};
use crate::{Architecture, BadField, Gating, Hyperparameters, Mla, Moe, Rope, RopePairs};

/// The keys of `config.json` that change what a model computes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    pub(super) max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f32>,
    pub(super) rope_theta: Option<f32>,
    pub(super) rope_scaling: Option<RopeParameters>,
    pub(super) rope_parameters: Option<RopeParameters>,
    rope_interleave: Option<bool>,
    partial_rotary_factor: Option<f32>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    quantization_config: Option<Quantization>,
    // DeepSeek.
    q_lora_rank: Option<usize>,
    kv_lora_rank: Option<usize>,
    qk_nope_head_dim: Option<usize>,
    qk_rope_head_dim: Option<usize>,
    v_head_dim: Option<usize>,
    moe_intermediate_size: Option<usize>,
    n_routed_experts: Option<usize>,
    num_experts_per_tok: Option<usize>,
    n_shared_experts: Option<usize>,
    first_k_dense_replace: Option<usize>,
    moe_layer_freq: Option<usize>,
    n_group: Option<usize>,
    topk_group: Option<usize>,
    topk_method: Option<String>,
    scoring_func: Option<String>,
    norm_topk_prob: Option<bool>,
    routed_scaling_factor: Option<f32>,
    num_nextn_predict_layers: Option<usize>,
    /// Tokens that sparse attention chooses.
    index_topk: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Quantization {
    quant_method: String,
    weight_block_size: Option<Vec<usize>>,
}

/// Reads `config.json`.
pub(super) fn parse(json: &[u8]) -> Result<Config, serde_json::Error> {
    serde_json::from_slice(json)
}

/// Reads and checks the hyperparameters in the bytes of a `config.json`.
///
/// `has_output`: the files hold an output head; decides whether embeddings are tied where the config doesn't say.
///
/// # Errors
/// JSON that isn't, or a key that is missing, out of range, or asks for something unsupported.
pub fn hyperparameters(json: &[u8], has_output: bool) -> Result<Hyperparameters, BadField> {
    let config = parse(json).map_err(|e| BadField::unsupported("config.json", e, "valid JSON"))?;
    config.hyperparameters(None, has_output)
}

impl Config {
    /// The hyperparameters, checked.
    pub(super) fn hyperparameters(
        &self,
        name: Option<String>,
        has_output: bool,
    ) -> Result<Hyperparameters, BadField> {
        let architecture = self.architecture()?;
        self.check_supported()?;
        let n_heads = need("num_attention_heads", self.num_attention_heads)?;
        let d_model = need("hidden_size", self.hidden_size)?;
        let mla = (architecture == Architecture::DeepSeek2).then(|| self.mla()).transpose()?;
        let head_dim = match &mla {
            Some(mla) => mla.nope_dim.saturating_add(mla.rope_dim),
            None => self.dense_head_dim(d_model, n_heads)?,
        };
        let hyper = Hyperparameters {
            architecture,
            name,
            n_layers: need("num_hidden_layers", self.num_hidden_layers)?,
            d_model,
            n_heads,
            n_kv_heads: if mla.is_some() { n_heads } else { self.num_key_value_heads.unwrap_or(n_heads) },
            head_dim,
            d_ff: need("intermediate_size", self.intermediate_size)?,
            n_vocab: need("vocab_size", self.vocab_size)?,
            context: need("max_position_embeddings", self.max_position_embeddings)?,
            rms_eps: need("rms_norm_eps", self.rms_norm_eps)?,
            rope: self.rope(mla.as_ref().map_or(head_dim, |mla| mla.rope_dim))?,
            tied: self.tie_word_embeddings.unwrap_or(!has_output),
            moe: self.moe(architecture)?,
            n_draft_layers: self.num_nextn_predict_layers.unwrap_or(0),
            mla,
        };
        hyper.check()?;
        Ok(hyper)
    }

    /// The model's family.
    pub(super) fn architecture(&self) -> Result<Architecture, BadField> {
        let family = Naming::HuggingFace.family(self.model_type.as_deref())?;
        match self.index_topk {
            Some(top_k) => Err(sparse_attention("index_topk", top_k)),
            None => Ok(family),
        }
    }

    /// Refuses what the layer loops don't compute, rather than answering wrongly.
    fn check_supported(&self) -> Result<(), BadField> {
        if let Some(act) = self.hidden_act.as_deref().filter(|&act| act != "silu") {
            return Err(BadField::unsupported("hidden_act", act, "silu"));
        }
        let off = [
            ("attention_bias", self.attention_bias),
            ("mlp_bias", self.mlp_bias),
            ("use_sliding_window", self.use_sliding_window),
        ];
        if let Some((key, _)) = off.into_iter().find(|(_, on)| *on == Some(true)) {
            return Err(BadField::unsupported(key, true, "false"));
        }
        if let Some(factor) = self.partial_rotary_factor.filter(|&factor| factor != 1.0) {
            return Err(BadField::unsupported("partial_rotary_factor", factor, "1"));
        }
        if let Some(every) = self.moe_layer_freq.filter(|&every| every != 1) {
            return Err(BadField::unsupported("moe_layer_freq", every, "1"));
        }
        self.quantization_config.as_ref().map_or(Ok(()), Quantization::check)
    }

    fn dense_head_dim(&self, d_model: usize, n_heads: usize) -> Result<usize, BadField> {
        match self.head_dim {
            Some(head_dim) => Ok(head_dim),
            None if n_heads > 0 && d_model.is_multiple_of(n_heads) => Ok(d_model / n_heads),
            None => {
                let want = "a divisor of hidden_size where head_dim is absent";
                Err(BadField::range("num_attention_heads", n_heads, want))
            }
        }
    }

    fn rope(&self, dim: usize) -> Result<Rope, BadField> {
        let interleaved = self.kv_lora_rank.is_some() && self.rope_interleave != Some(false);
        let pairs = if interleaved { RopePairs::Interleaved } else { RopePairs::Halves };
        Ok(Rope { theta: rope::theta(self), dim, pairs, scaling: rope::scaling(self)? })
    }

    fn mla(&self) -> Result<Mla, BadField> {
        Ok(Mla {
            q_lora_rank: self.q_lora_rank,
            kv_lora_rank: need("kv_lora_rank", self.kv_lora_rank)?,
            nope_dim: need("qk_nope_head_dim", self.qk_nope_head_dim)?,
            rope_dim: need("qk_rope_head_dim", self.qk_rope_head_dim)?,
            v_dim: need("v_head_dim", self.v_head_dim)?,
        })
    }

    /// `deepseek_v2` chooses by softmax, everything later by sigmoid, unless the config says otherwise.
    fn moe(&self, architecture: Architecture) -> Result<Option<Moe>, BadField> {
        let Some(n_experts) = self.n_routed_experts.filter(|_| architecture == Architecture::DeepSeek2)
        else {
            return Ok(None);
        };
        let v2 = self.model_type.as_deref() == Some("deepseek_v2");
        let gating = match self.scoring_func.as_deref() {
            Some("softmax") => Gating::Softmax,
            Some("sigmoid") => Gating::Sigmoid,
            None if v2 => Gating::Softmax,
            None => Gating::Sigmoid,
            Some(other) => return Err(BadField::unsupported("scoring_func", other, "softmax, sigmoid")),
        };
        let grouped = match self.topk_method.as_deref() {
            Some("greedy") => false,
            Some("group_limited_greedy" | "noaux_tc") => true,
            None => !v2,
            Some(other) => {
                let supported = "greedy, group_limited_greedy, noaux_tc";
                return Err(BadField::unsupported("topk_method", other, supported));
            }
        };
        Ok(Some(Moe {
            n_experts,
            top_k: need("num_experts_per_tok", self.num_experts_per_tok)?,
            d_expert: need("moe_intermediate_size", self.moe_intermediate_size)?,
            n_shared: self.n_shared_experts.unwrap_or(0),
            n_dense_layers: self.first_k_dense_replace.unwrap_or(0),
            n_groups: self.n_group.filter(|_| grouped).unwrap_or(1),
            top_k_groups: self.topk_group.filter(|_| grouped).unwrap_or(1),
            gating,
            normalise: self.norm_topk_prob.unwrap_or(!v2),
            scale: self.routed_scaling_factor.unwrap_or(1.0),
        }))
    }
}

impl Quantization {
    fn check(&self) -> Result<(), BadField> {
        if self.quant_method != "fp8" {
            let key = "quantization_config.quant_method";
            return Err(BadField::unsupported(
                key,
                &self.quant_method,
                "fp8; or give a GGUF file of the model",
            ));
        }
        match self.weight_block_size.as_deref() {
            Some([SCALE_BLOCK, SCALE_BLOCK]) => Ok(()),
            other => {
                let key = "quantization_config.weight_block_size";
                Err(BadField::unsupported(key, format!("{other:?}"), "[128, 128]"))
            }
        }
    }
}

fn need<T: Copy>(key: &str, value: Option<T>) -> Result<T, BadField> {
    value.ok_or_else(|| BadField::missing(key))
}
