//! The mixture of experts from metadata, and what published files leave out of it.
//!
//! Converters learnt the router's keys one by one, and files of every age are in use:
//!
//! | key | DeepSeek V2 (2024) | V3, R1, Kimi K2 (2025) | since the end of 2025 |
//! | --- | --- | --- | --- |
//! | `expert_gating_func` | absent: softmax | written | written |
//! | `expert_weights_norm` | absent: false | written | written where true |
//! | `expert_group_count`, `expert_group_used_count` | absent | absent | written |
//! | `rope.scaling.yarn_beta_fast`, `yarn_beta_slow` | absent | absent | written |
//!
//! llama.cpp runs files without groups as if there were none, which is not what the models were trained with. Here an
//! absent group count follows from the published model of that shape; a shape that nobody published is an error.
//! Source: the publishers' config.json; logs of published files; llama.cpp's converter of each time.

use super::TensorFacts;
use super::keys::Keys;
use crate::{Architecture, BadField, Gating, Moe};

/// The numbers of `expert_gating_func`; 0 is written by some tools for "not set".
const GATING_NONE: u64 = 0;
const GATING_SOFTMAX: u64 = 1;
const GATING_SIGMOID: u64 = 2;

/// What a published model's config.json says where files may be silent.
pub(super) struct Published {
    n_experts: usize,
    top_k: usize,
    d_model: usize,
    gating: Gating,
    n_groups: usize,
    top_k_groups: usize,
    normalise: bool,
    /// YaRN's `beta_fast` and `beta_slow`.
    pub(super) betas: (f32, f32),
}

const YARN: (f32, f32) = (32.0, 1.0);

const PUBLISHED: [Published; 5] = [
    // DeepSeek-V2-Lite, Coder-V2-Lite.
    published((64, 6, 2048), Gating::Softmax, (1, 1), false, YARN),
    // DeepSeek-V2, V2.5, Coder-V2.
    published((160, 6, 5120), Gating::Softmax, (8, 3), false, YARN),
    // DeepSeek-V3, V3-0324, V3.1, R1, R1-0528.
    published((256, 8, 7168), Gating::Sigmoid, (8, 4), true, YARN),
    // Kimi K2.
    published((384, 8, 7168), Gating::Sigmoid, (1, 1), true, (1.0, 1.0)),
    // Moonlight-16B-A3B.
    published((64, 6, 2048), Gating::Sigmoid, (1, 1), true, YARN),
];

const fn published(
    (n_experts, top_k, d_model): (usize, usize, usize),
    gating: Gating,
    (n_groups, top_k_groups): (usize, usize),
    normalise: bool,
    betas: (f32, f32),
) -> Published {
    Published { n_experts, top_k, d_model, gating, n_groups, top_k_groups, normalise, betas }
}

impl Published {
    /// The published model whose shape the file has.
    pub(super) fn of(keys: &Keys<'_>, facts: TensorFacts) -> Result<Option<&'static Self>, BadField> {
        let shape =
            (keys.size("expert_count")?, keys.size("expert_used_count")?, keys.size("embedding_length")?);
        let gating = gating(keys, facts)?;
        Ok(PUBLISHED.iter().find(|model| {
            (Some(model.n_experts), Some(model.top_k), Some(model.d_model)) == shape && model.gating == gating
        }))
    }
}

/// Reads the mixture of experts; `None` for a model without.
pub(super) fn moe(
    keys: &Keys<'_>,
    architecture: Architecture,
    facts: TensorFacts,
) -> Result<Option<Moe>, BadField> {
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
    let published = Published::of(keys, facts)?;
    let gating = gating(keys, facts)?;
    let (n_groups, top_k_groups) = groups(keys, published)?;
    Ok(Some(Moe {
        n_experts,
        top_k: keys.need("expert_used_count")?,
        d_expert: keys.need("expert_feed_forward_length")?,
        n_shared: keys.size("expert_shared_count")?.unwrap_or(0),
        n_dense_layers: keys.size("leading_dense_block_count")?.unwrap_or(0),
        n_groups,
        top_k_groups,
        gating,
        normalise: normalise(keys, gating, published)?,
        scale: keys.float("expert_weights_scale")?.filter(|&scale| scale != 0.0).unwrap_or(1.0),
    }))
}

/// A correction bias comes with sigmoid gating and with nothing else.
fn gating(keys: &Keys<'_>, facts: TensorFacts) -> Result<Gating, BadField> {
    match keys.uint("expert_gating_func")? {
        None | Some(GATING_NONE) if facts.has_router_bias => Ok(Gating::Sigmoid),
        None | Some(GATING_NONE | GATING_SOFTMAX) => Ok(Gating::Softmax),
        Some(GATING_SIGMOID) => Ok(Gating::Sigmoid),
        Some(other) => {
            let key = keys.name("expert_gating_func");
            Err(BadField::unsupported(key, other, "1 (softmax) and 2 (sigmoid)"))
        }
    }
}

/// Groups of experts and how many of them a token may use.
fn groups(keys: &Keys<'_>, published: Option<&Published>) -> Result<(usize, usize), BadField> {
    let used = || keys.need("expert_group_used_count");
    match (keys.size("expert_group_count")?, published) {
        (Some(0 | 1), _) => Ok((1, 1)),
        (Some(n_groups), _) => Ok((n_groups, used()?)),
        (None, Some(model)) => Ok((model.n_groups, model.top_k_groups)),
        (None, None) => Err(BadField::missing(keys.name("expert_group_count"))),
    }
}

/// Converters write the key where it is true; with sigmoid gating no published model has it false.
fn normalise(keys: &Keys<'_>, gating: Gating, published: Option<&Published>) -> Result<bool, BadField> {
    match (keys.bool("expert_weights_norm")?, published) {
        (Some(normalise), _) => Ok(normalise),
        (None, Some(model)) => Ok(model.normalise),
        (None, None) if gating == Gating::Softmax => Ok(false),
        (None, None) => Err(BadField::missing(keys.name("expert_weights_norm"))),
    }
}
