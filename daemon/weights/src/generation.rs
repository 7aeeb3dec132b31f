//! Published defaults of generation: which tokens end an answer, how to sample.

use serde::{Deserialize, Serialize};

use crate::gguf::Metadata;
use crate::{BadField, ValueProblem};

/// Defaults that the model's makers published, where they did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generation {
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
    /// Token that starts a text.
    pub bos_id: Option<u32>,
    /// Divisor of the logits.
    pub temperature: Option<f32>,
    /// Keep the likeliest tokens up to this total probability.
    pub top_p: Option<f32>,
    /// Keep this many likeliest tokens.
    pub top_k: Option<u32>,
    /// Drop tokens less likely than this share of the likeliest.
    pub min_p: Option<f32>,
    /// Divisor of the logits of tokens already there.
    pub repetition_penalty: Option<f32>,
}

impl Generation {
    /// `general.sampling.*` and the end tokens of `tokenizer.ggml.*`.
    pub(crate) fn from_gguf(metadata: &Metadata) -> Result<Self, BadField> {
        let float = |key: &str| named(key, metadata.float(key)).map(|v| v.map(|v| v as f32));
        let id = |key: &str| named(key, metadata.uint(key)).map(|v| v.and_then(|v| u32::try_from(v).ok()));
        let mut eos_ids = Vec::new();
        for name in ["eos", "eot", "eom"] {
            let end = id(&format!("tokenizer.ggml.{name}_token_id"))?;
            eos_ids.extend(end.filter(|end| !eos_ids.contains(end)));
        }
        Ok(Self {
            eos_ids,
            bos_id: id("tokenizer.ggml.bos_token_id")?,
            temperature: float("general.sampling.temp")?,
            top_p: float("general.sampling.top_p")?,
            top_k: id("general.sampling.top_k")?,
            min_p: float("general.sampling.min_p")?,
            repetition_penalty: float("general.sampling.penalty_repeat")?,
        })
    }
}

fn named<T>(key: &str, value: Result<T, ValueProblem>) -> Result<T, BadField> {
    value.map_err(|problem| BadField::new(key, problem))
}
