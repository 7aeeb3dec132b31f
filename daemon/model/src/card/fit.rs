//! How much of a model a card takes: tokens of a step and of the cache, experts.

use gpu::{BufferKind, Device};
use kernels::BLOCK_TOKENS;
use shaders::KvType;
use weights::Weights;

use super::{CardPlan, CardShape, Tensors};
use crate::Error;

/// How a model is to lie on a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardOptions {
    /// Routed experts of each layer that lie there; `None` takes as many as fit.
    pub experts: Option<usize>,
    /// Layers that lie there, the first ones; `None` takes as many as fit.
    pub layers: Option<usize>,
    /// With all layers, embedding and head lie there, too; `None` where they fit.
    pub ends: Option<bool>,
}

/// Tokens of a step on a card, at most: more make nothing faster there.
const STEP_TOKENS_MAX: usize = 512;
/// Tokens of the cache below which a card is not worth having.
const KV_TOKENS_MIN: usize = 2048;

/// Plans as much of a model as the card takes: the cache gives way first, down to a conversation, then the last layers, which
/// the processor computes; experts take what is left.
///
/// # Errors
/// Not even that fits, or the model has a part that no stage computes.
pub(crate) fn fitting(
    weights: &Weights,
    device: &Device,
    (kv, kv_tokens, context, step_tokens): (KvType, usize, usize, usize),
    options: CardOptions,
) -> Result<(CardPlan, CardShape), Error> {
    let tensors = Tensors::of(weights);
    let mut shape = CardShape {
        limits: device.limits,
        kind: device.kind,
        subgroups: device.subgroups,
        step_tokens: step_tokens.min(STEP_TOKENS_MAX),
        kv_tokens,
        kv,
        experts: options.experts.unwrap_or(0),
        layers: options.layers.unwrap_or(usize::MAX),
        ends: options.ends.unwrap_or(true),
    };
    let mut plan = CardPlan::new(&tensors, &shape)?;
    while plan.layout.largest(BufferKind::Activations) > shape.limits.binding_bytes && shape.step_tokens > 1 {
        shape.step_tokens /= 2;
        plan = CardPlan::new(&tensors, &shape)?;
    }
    let Some(memory) = device.limits.memory_bytes else { return Ok((plan, shape)) };
    let token_bytes = plan.layout.bytes(Some(BufferKind::Kv)) / shape.kv_tokens.max(1) as u64;
    let over = plan.bytes().saturating_sub(memory).div_ceil(token_bytes.max(1)) as usize;
    let kept = kv_tokens.saturating_sub(over) / BLOCK_TOKENS * BLOCK_TOKENS;
    if over > 0 && kept >= KV_TOKENS_MIN.min(context) {
        shape.kv_tokens = kept;
        plan = CardPlan::new(&tensors, &shape)?;
    }
    if options.layers.is_none() && plan.bytes() > memory {
        shape.ends = false;
        shape.layers = layers_that_fit(&tensors, &shape, memory);
        plan = CardPlan::new(&tensors, &shape)?;
    }
    if options.experts.is_none() && shape.layers >= tensors.hyper().n_layers {
        shape.experts = experts_that_fit(&tensors, &shape, memory.saturating_sub(plan.bytes()));
        plan = CardPlan::new(&tensors, &shape)?;
    }
    Ok((plan, shape))
}

/// Layers that fit into so many bytes; at least one, which may not.
fn layers_that_fit(tensors: &Tensors<'_>, shape: &CardShape, memory: u64) -> usize {
    let fits = |layers: &usize| {
        let plan = CardPlan::new(tensors, &CardShape { layers: *layers, ..*shape });
        plan.is_ok_and(|plan| plan.bytes() <= memory)
    };
    let n_layers = tensors.hyper().n_layers;
    let counts: Vec<usize> = (1..=n_layers).collect();
    counts.partition_point(fits).max(1)
}

/// Experts of each layer that fit into so many bytes.
fn experts_that_fit(tensors: &Tensors<'_>, shape: &CardShape, free: u64) -> usize {
    let Some(moe) = tensors.hyper().moe.filter(|_| !tensors.experts_stream()) else { return 0 };
    let bytes =
        |experts| CardPlan::new(tensors, &CardShape { experts, ..*shape }).map_or(0, |plan| plan.bytes());
    // The second expert of a layer costs its matrices alone; the first brings buffers.
    let [none, with_one, with_two] = [0, 1, 2].map(bytes);
    let (first, one) = (with_one.saturating_sub(none), with_two.saturating_sub(with_one).max(1));
    match free.checked_sub(first) {
        Some(rest) => ((1 + rest / one) as usize).min(moe.n_experts),
        None => 0,
    }
}
