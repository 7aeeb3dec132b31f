//! `rope_theta`, `rope_scaling` and, since transformers 5, `rope_parameters`.

use serde::Deserialize;

use super::config::Config;
use crate::{BadField, RopeScaling};

/// `rope_scaling` or `rope_parameters`: both hold the same keys, the newer one the base too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RopeParameters {
    rope_type: Option<String>,
    /// `rope_type` in older files.
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    mscale: Option<f32>,
    mscale_all_dim: Option<f32>,
    attention_factor: Option<f32>,
    partial_rotary_factor: Option<f32>,
}

const DEFAULT_THETA: f32 = 10_000.0;

/// Base of the frequencies.
pub(super) fn theta(config: &Config) -> f32 {
    let newer = config.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
    newer.or(config.rope_theta).unwrap_or(DEFAULT_THETA)
}

/// Scaling of the frequencies.
pub(super) fn scaling(config: &Config) -> Result<Option<RopeScaling>, BadField> {
    let newer = config.rope_parameters.as_ref().map(|rope| ("rope_parameters", rope));
    let Some((key, rope)) = newer.or(config.rope_scaling.as_ref().map(|rope| ("rope_scaling", rope))) else {
        return Ok(None);
    };
    if let Some(factor) = rope.partial_rotary_factor.filter(|&factor| factor != 1.0) {
        return Err(BadField::unsupported(format!("{key}.partial_rotary_factor"), factor, "1"));
    }
    let missing = |name: &str| BadField::missing(format!("{key}.{name}"));
    let factor = || rope.factor.ok_or_else(|| missing("factor"));
    match rope.rope_type.as_deref().or(rope.old_type.as_deref()) {
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear { factor: factor()? })),
        Some("llama3") => Ok(Some(RopeScaling::Llama3 {
            factor: factor()?,
            low_freq_factor: rope.low_freq_factor.ok_or_else(|| missing("low_freq_factor"))?,
            high_freq_factor: rope.high_freq_factor.ok_or_else(|| missing("high_freq_factor"))?,
            original_context: rope
                .original_max_position_embeddings
                .ok_or_else(|| missing("original_max_position_embeddings"))?,
        })),
        Some("yarn") => {
            if let Some(factor) = rope.attention_factor {
                return Err(BadField::unsupported(format!("{key}.attention_factor"), factor, "none"));
            }
            let context = rope.original_max_position_embeddings.or(config.max_position_embeddings);
            Ok(Some(RopeScaling::Yarn {
                factor: factor()?,
                original_context: context.ok_or_else(|| missing("original_max_position_embeddings"))?,
                beta_fast: rope.beta_fast.unwrap_or(32.0),
                beta_slow: rope.beta_slow.unwrap_or(1.0),
                mscale: rope.mscale.unwrap_or(1.0),
                mscale_all_dim: rope.mscale_all_dim.unwrap_or(0.0),
            }))
        }
        Some(other) => {
            Err(BadField::unsupported(format!("{key}.rope_type"), other, "default, linear, llama3, yarn"))
        }
    }
}
