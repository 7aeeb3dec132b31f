//! Hyperparameters from metadata: `llama.block_count` and its like.

use super::Metadata;
use super::experts::{self, Published};
use super::keys::Keys;
use crate::family::{Naming, sparse_attention};
use crate::{Architecture, BadField, Hyperparameters, Mla, Rope, RopePairs, RopeScaling};

/// What the metadata doesn't say: facts read off the tensor table.
#[derive(Clone, Copy, Debug)]
pub struct TensorFacts {
    /// Rows of `token_embd.weight`, where that tensor is.
    pub n_vocab: Option<usize>,
    /// There is an `output.weight`.
    pub has_output: bool,
    /// Routers have a correction bias: there is an `exp_probs_b.bias`.
    pub has_router_bias: bool,
}

/// Reads and checks the hyperparameters of a GGUF file.
///
/// # Errors
/// A key that is missing, ill-typed, out of range, or asks for something unsupported.
pub fn hyperparameters(metadata: &Metadata, facts: TensorFacts) -> Result<Hyperparameters, BadField> {
    let architecture = architecture(metadata)?;
    let keys = Keys { metadata, prefix: prefix(architecture) };
    check_not_sparse(&keys)?;
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
        rope: rope(&keys, architecture, mla.as_ref().map_or(head_dim, |mla| mla.rope_dim), facts)?,
        tied: !facts.has_output,
        moe: experts::moe(&keys, architecture, facts)?,
        mla,
        n_draft_layers,
    };
    hyper.check()?;
    Ok(hyper)
}

fn architecture(metadata: &Metadata) -> Result<Architecture, BadField> {
    let key = "general.architecture";
    Naming::Gguf.family(metadata.string(key).map_err(|problem| BadField::new(key, problem))?)
}

/// Files that were converted as the family without the indexer, which they nevertheless have.
fn check_not_sparse(keys: &Keys<'_>) -> Result<(), BadField> {
    let key = "attention.indexer.top_k";
    match keys.size(key)? {
        Some(top_k) => Err(sparse_attention(keys.name(key), top_k)),
        None => Ok(()),
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

fn rope(
    keys: &Keys<'_>,
    architecture: Architecture,
    head_dim: usize,
    facts: TensorFacts,
) -> Result<Rope, BadField> {
    Ok(Rope {
        theta: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
        dim: keys.size("rope.dimension_count")?.unwrap_or(head_dim),
        pairs: match architecture {
            Architecture::Qwen2 => RopePairs::Halves,
            Architecture::Llama | Architecture::DeepSeek2 => RopePairs::Interleaved,
        },
        scaling: rope_scaling(keys, architecture, facts)?,
    })
}

fn rope_scaling(
    keys: &Keys<'_>,
    architecture: Architecture,
    facts: TensorFacts,
) -> Result<Option<RopeScaling>, BadField> {
    let factor = match keys.float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.float("rope.scale_linear")?,
    };
    match (keys.string("rope.scaling.type")?, factor) {
        (Some("none"), _) | (None, None) => Ok(None),
        (Some("linear") | None, Some(1.0)) => Ok(None),
        (Some("linear") | None, Some(factor)) => Ok(Some(RopeScaling::Linear { factor })),
        (Some("yarn"), Some(factor)) => yarn(keys, architecture, factor, facts).map(Some),
        (Some("linear" | "yarn"), None) => Err(BadField::missing(keys.name("rope.scaling.factor"))),
        (Some(other), _) => {
            Err(BadField::unsupported(keys.name("rope.scaling.type"), other, "none, linear, yarn"))
        }
    }
}

/// DeepSeek's converters write `yarn_log_multiplier = 0.1 * mscale_all_dim` and never `mscale`, which is equal to it in
/// every published model: 1 in V2, V2.5, V3 and Kimi K2, 0.707 in V2-Lite and some uploads of V2. Where the key is
/// absent or 0, and elsewhere, YaRN's own factor of `0.1 ln(factor) + 1` on cos and sin holds.
fn yarn(
    keys: &Keys<'_>,
    architecture: Architecture,
    factor: f32,
    facts: TensorFacts,
) -> Result<RopeScaling, BadField> {
    if let Some(other) = keys.float("rope.scaling.attn_factor")?.filter(|&f| f != 1.0) {
        return Err(BadField::unsupported(keys.name("rope.scaling.attn_factor"), other, "1"));
    }
    let (mscale, mscale_all_dim, published) = match architecture {
        Architecture::DeepSeek2 => {
            let log_multiplier = keys.float("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
            let mscale = if log_multiplier == 0.0 { 1.0 } else { log_multiplier * 10.0 };
            (mscale, log_multiplier * 10.0, Published::of(keys, facts)?)
        }
        Architecture::Llama | Architecture::Qwen2 => (1.0, 0.0, None),
    };
    let (beta_fast, beta_slow) = published.map_or((32.0, 1.0), |model| model.betas);
    Ok(RopeScaling::Yarn {
        factor,
        original_context: keys.need("rope.scaling.original_context_length")?,
        beta_fast: keys.float("rope.scaling.yarn_beta_fast")?.unwrap_or(beta_fast),
        beta_slow: keys.float("rope.scaling.yarn_beta_slow")?.unwrap_or(beta_slow),
        mscale,
        mscale_all_dim,
    })
}
