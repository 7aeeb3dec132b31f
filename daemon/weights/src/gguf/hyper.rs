//! Hyperparameters from metadata: `llama.block_count` and its like.

use super::{Metadata, Value};
use crate::{
    Architecture, BadField, Gating, Hyperparameters, Mla, Moe, Rope, RopePairs, RopeScaling, ValueProblem,
};

/// The number of `expert_gating_func` that means sigmoid; 1 and none mean softmax.
const GATING_SIGMOID: u64 = 2;

/// What the metadata doesn't say: facts read off the tensor table.
#[derive(Clone, Copy, Debug)]
pub struct TensorFacts {
    /// Rows of `token_embd.weight`, where that tensor is.
    pub n_vocab: Option<usize>,
    /// There is an `output.weight`.
    pub has_output: bool,
}

/// Reads and checks the hyperparameters of a GGUF file.
///
/// # Errors
/// A key that is missing, ill-typed, out of range, or asks for something unsupported.
pub fn hyperparameters(metadata: &Metadata, facts: TensorFacts) -> Result<Hyperparameters, BadField> {
    let architecture = architecture(metadata)?;
    let keys = Keys { metadata, prefix: prefix(architecture) };
    let n_draft_layers = keys.size("nextn_predict_layers")?.unwrap_or(0);
    let n_heads = keys.need("attention.head_count")?;
    let d_model = keys.need("embedding_length")?;
    let mla = match architecture {
        Architecture::DeepSeek2 => Some(mla(&keys)?),
        Architecture::Llama | Architecture::Qwen2 => None,
    };
    let head_dim = match &mla {
        Some(mla) => mla.nope_dim + mla.rope_dim,
        None => head_dim(&keys, d_model, n_heads)?,
    };
    let hyper = Hyperparameters {
        architecture,
        name: name(metadata)?,
        n_layers: keys.need("block_count")?.saturating_sub(n_draft_layers),
        d_model,
        n_heads,
        // Latent attention has no grouped heads; converters write 1 or the number of heads.
        n_kv_heads: if mla.is_some() {
            n_heads
        } else {
            keys.size("attention.head_count_kv")?.unwrap_or(n_heads)
        },
        head_dim,
        d_ff: keys.need("feed_forward_length")?,
        n_vocab: facts.n_vocab.ok_or_else(|| BadField::missing("token_embd.weight"))?,
        context: keys.need("context_length")?,
        rms_eps: keys.need_float("attention.layer_norm_rms_epsilon")?,
        rope: rope(&keys, architecture, mla.as_ref().map_or(head_dim, |mla| mla.rope_dim))?,
        tied: !facts.has_output,
        moe: moe(&keys, architecture)?,
        mla,
        n_draft_layers,
    };
    hyper.check()?;
    Ok(hyper)
}

fn architecture(metadata: &Metadata) -> Result<Architecture, BadField> {
    let key = "general.architecture";
    match metadata.string(key).map_err(|problem| BadField::new(key, problem))? {
        Some("llama") => Ok(Architecture::Llama),
        Some("qwen2") => Ok(Architecture::Qwen2),
        Some("deepseek2") => Ok(Architecture::DeepSeek2),
        Some(other) => Err(BadField::unsupported(key, other, "llama, qwen2, deepseek2")),
        None => Err(BadField::missing(key)),
    }
}

fn prefix(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Llama => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::DeepSeek2 => "deepseek2",
    }
}

fn name(metadata: &Metadata) -> Result<Option<String>, BadField> {
    let read = |key: &str| metadata.string(key).map_err(|problem| BadField::new(key, problem));
    Ok(read("general.name")?.or(read("general.basename")?).map(str::to_owned))
}

fn head_dim(keys: &Keys<'_>, d_model: usize, n_heads: usize) -> Result<usize, BadField> {
    let Some(head_dim) = keys.size("attention.key_length")? else {
        if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
            let key = keys.name("attention.head_count");
            return Err(BadField::range(
                key,
                n_heads,
                "a divisor of embedding_length where key_length is absent",
            ));
        }
        return Ok(d_model / n_heads);
    };
    match keys.size("attention.value_length")? {
        Some(v) if v != head_dim => {
            Err(BadField::unsupported(keys.name("attention.value_length"), v, "the same as key_length"))
        }
        _ => Ok(head_dim),
    }
}

/// Files since early 2025 give the real sizes in `*_mla` and the latent ones in `key_length`; older ones the real ones
/// in `key_length`.
fn mla(keys: &Keys<'_>) -> Result<Mla, BadField> {
    let rope_dim = keys.need("rope.dimension_count")?;
    let key = match keys.size("attention.key_length_mla")? {
        Some(key) => key,
        None => keys.need("attention.key_length")?,
    };
    let v_dim = match keys.size("attention.value_length_mla")? {
        Some(v) => v,
        None => keys.need("attention.value_length")?,
    };
    let Some(nope_dim) = key.checked_sub(rope_dim) else {
        return Err(BadField::range(keys.name("attention.key_length"), key, "at least rope.dimension_count"));
    };
    let q_lora_rank = keys.size("attention.q_lora_rank")?.filter(|&rank| rank > 0);
    Ok(Mla { q_lora_rank, kv_lora_rank: keys.need("attention.kv_lora_rank")?, nope_dim, rope_dim, v_dim })
}

fn moe(keys: &Keys<'_>, architecture: Architecture) -> Result<Option<Moe>, BadField> {
    let n_experts = keys.size("expert_count")?.unwrap_or(0);
    if n_experts == 0 {
        return Ok(None);
    }
    if architecture != Architecture::DeepSeek2 {
        return Err(BadField::unsupported(
            keys.name("expert_count"),
            n_experts,
            "experts in deepseek2 alone",
        ));
    }
    let gating = match keys.uint("expert_gating_func")? {
        None | Some(0 | 1) => Gating::Softmax,
        Some(GATING_SIGMOID) => Gating::Sigmoid,
        Some(other) => {
            let key = keys.name("expert_gating_func");
            return Err(BadField::unsupported(key, other, "1 (softmax) and 2 (sigmoid)"));
        }
    };
    Ok(Some(Moe {
        n_experts,
        top_k: keys.need("expert_used_count")?,
        d_expert: keys.need("expert_feed_forward_length")?,
        n_shared: keys.size("expert_shared_count")?.unwrap_or(0),
        n_dense_layers: keys.size("leading_dense_block_count")?.unwrap_or(0),
        n_groups: keys.size("expert_group_count")?.unwrap_or(1).max(1),
        top_k_groups: keys.size("expert_group_used_count")?.unwrap_or(1).max(1),
        gating,
        normalise: keys.bool("expert_weights_norm")?.unwrap_or(false),
        scale: keys.float("expert_weights_scale")?.filter(|&scale| scale != 0.0).unwrap_or(1.0),
    }))
}

fn rope(keys: &Keys<'_>, architecture: Architecture, head_dim: usize) -> Result<Rope, BadField> {
    Ok(Rope {
        theta: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
        dim: keys.size("rope.dimension_count")?.unwrap_or(head_dim),
        pairs: match architecture {
            Architecture::Qwen2 => RopePairs::Halves,
            Architecture::Llama | Architecture::DeepSeek2 => RopePairs::Interleaved,
        },
        scaling: rope_scaling(keys, architecture)?,
    })
}

fn rope_scaling(keys: &Keys<'_>, architecture: Architecture) -> Result<Option<RopeScaling>, BadField> {
    let factor = match keys.float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.float("rope.scale_linear")?,
    };
    match (keys.string("rope.scaling.type")?, factor) {
        (Some("none"), _) | (None, None) => Ok(None),
        (Some("linear") | None, Some(1.0)) => Ok(None),
        (Some("linear") | None, Some(factor)) => Ok(Some(RopeScaling::Linear { factor })),
        (Some("yarn"), Some(factor)) => yarn(keys, architecture, factor).map(Some),
        (Some("linear" | "yarn"), None) => Err(BadField::missing(keys.name("rope.scaling.factor"))),
        (Some(other), _) => {
            Err(BadField::unsupported(keys.name("rope.scaling.type"), other, "none, linear, yarn"))
        }
    }
}

/// DeepSeek's converters write `0.1 * mscale_all_dim` and leave `mscale` out, which is equal to it in every published
/// model of that architecture's GGUF files; elsewhere YaRN's own factor `0.1 ln(factor) + 1` holds.
fn yarn(keys: &Keys<'_>, architecture: Architecture, factor: f32) -> Result<RopeScaling, BadField> {
    if let Some(other) = keys.float("rope.scaling.attn_factor")?.filter(|&f| f != 1.0) {
        return Err(BadField::unsupported(keys.name("rope.scaling.attn_factor"), other, "1"));
    }
    let (mscale, mscale_all_dim) = match architecture {
        Architecture::DeepSeek2 => {
            let mscale = keys.float("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0) * 10.0;
            (mscale, mscale)
        }
        Architecture::Llama | Architecture::Qwen2 => (1.0, 0.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        original_context: keys.need("rope.scaling.original_context_length")?,
        beta_fast: keys.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        mscale,
        mscale_all_dim,
    })
}

/// Metadata under an architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// Reads `prefix.key`; an error names it.
    fn read<'k, T>(
        &'k self,
        key: &str,
        get: impl FnOnce(&'k Metadata, &str) -> Result<Option<T>, ValueProblem>,
    ) -> Result<Option<T>, BadField> {
        let name = self.name(key);
        get(self.metadata, &name).map_err(|problem| BadField { key: name, problem })
    }

    fn uint(&self, key: &str) -> Result<Option<u64>, BadField> {
        self.read(key, Metadata::uint)
    }

    fn float(&self, key: &str) -> Result<Option<f32>, BadField> {
        self.read(key, |metadata, name| Ok(metadata.float(name)?.map(|v| v as f32)))
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, BadField> {
        self.read(key, Metadata::bool)
    }

    fn string(&self, key: &str) -> Result<Option<&str>, BadField> {
        self.read(key, Metadata::string)
    }

    fn need_float(&self, key: &str) -> Result<f32, BadField> {
        self.float(key)?.ok_or_else(|| BadField::missing(self.name(key)))
    }

    fn need(&self, key: &str) -> Result<usize, BadField> {
        self.size(key)?.ok_or_else(|| BadField::missing(self.name(key)))
    }

    /// A size; an array with one entry per layer counts if all entries are equal.
    fn size(&self, key: &str) -> Result<Option<usize>, BadField> {
        let name = self.name(key);
        if let Some(Value::Ints(per_layer)) = self.metadata.get(&name) {
            let first = per_layer.first().copied().unwrap_or(0);
            if per_layer.iter().any(|&v| v != first) {
                return Err(BadField::unsupported(
                    name,
                    "a different value per layer",
                    "one value for all layers",
                ));
            }
            return Ok(Some(usize::try_from(first).unwrap_or(0)));
        }
        let value = self.uint(key)?;
        Ok(value.map(|v| usize::try_from(v).unwrap_or(usize::MAX)))
    }
}
