//! How much of a model a card takes: tokens of a step and of the cache, experts.

use gpu::{BufferKind, CardKind, Device};
use kernels::BLOCK_TOKENS;
use shaders::KvType;
use weights::Weights;

use super::{CardPlan, CardShape, Tensors};
use crate::Error;
use crate::placement::Placement;

/// How a model is to lie on a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardOptions {
    /// Routed experts of each layer that lie there; `None` takes as many as fit.
    pub experts: Option<usize>,
    /// Layers that lie there, the first ones; `None` takes as many as fit.
    pub layers: Option<usize>,
    /// With all layers, embedding and head lie there, too; `None` where they fit.
    pub ends: Option<bool>,
    /// When a prompt's other experts come there.
    pub prompt_experts: PromptExperts,
    /// What says the formats and kernels of what lies there; without rules all are as in the file.
    pub rules: Option<Placement>,
}

/// When a layer's experts come to the card, to be computed there and forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptExperts {
    /// In steps of as many tokens as make it faster: both ways are measured when the model is loaded.
    #[default]
    Measured,
    /// Never: the processor computes them.
    Never,
    /// In steps of so many tokens and more.
    From(usize),
}

/// Tokens of a step on a card, at most: more make nothing faster there.
const STEP_TOKENS_MAX: usize = 512;
/// The same where experts come for a step: the more tokens share that, the better.
const BRING_STEP_TOKENS: usize = 2048;
/// What activations may take of a card for the sake of such long steps.
const ACTIVATIONS_SHARE: u64 = 8;
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
    options: &CardOptions,
) -> Result<(CardPlan, CardShape), Error> {
    let tensors = Tensors::of(weights).under(options.rules.as_ref());
    let mut shape = CardShape {
        limits: device.limits,
        kind: device.kind,
        subgroups: device.subgroups,
        f16: device.f16,
        step_tokens: step_tokens.min(STEP_TOKENS_MAX),
        kv_tokens,
        kv,
        experts: options.experts.unwrap_or(0),
        brings: false,
        layers: options.layers.unwrap_or(usize::MAX),
        ends: options.ends.unwrap_or(true),
    };
    let memory = device.limits.memory_bytes.unwrap_or(u64::MAX);
    if options.experts.is_none()
        && let Some(moe) = tensors.hyper().moe.filter(|_| !tensors.experts_stream())
    {
        let all = within_bindings(&tensors, CardShape { experts: moe.n_experts, ..shape })?;
        let plan = CardPlan::new(&tensors, &all)?;
        if device.limits.memory_bytes.is_some() && plan.bytes() <= memory {
            return Ok((plan, all));
        }
    }
    if brings(&tensors, &shape, options.prompt_experts) {
        (shape.brings, shape.step_tokens) = (true, BRING_STEP_TOKENS);
    }
    let shape = within_bindings(&tensors, shape)?;
    shrunk(&tensors, shape, (memory, context), options)
}

/// Whether experts that do not lie on the card may come there. Not to a software device: it computes on the processor, too.
fn brings(tensors: &Tensors<'_>, shape: &CardShape, wanted: PromptExperts) -> bool {
    let wanted = match wanted {
        PromptExperts::Measured => shape.kind != CardKind::Software,
        PromptExperts::Never => false,
        PromptExperts::From(_) => true,
    };
    wanted && tensors.hyper().moe.is_some_and(|moe| shape.experts < moe.n_experts)
}

/// The shape with steps so short that activations are bound whole, and take a share of the card at most where they are long.
fn within_bindings(tensors: &Tensors<'_>, mut shape: CardShape) -> Result<CardShape, Error> {
    let share = shape.limits.memory_bytes.unwrap_or(u64::MAX) / ACTIVATIONS_SHARE;
    loop {
        let layout = CardPlan::new(tensors, &shape)?.layout;
        let bound = layout.largest(BufferKind::Activations) <= shape.limits.binding_bytes;
        let long = shape.step_tokens > STEP_TOKENS_MAX && layout.bytes(Some(BufferKind::Activations)) > share;
        if (bound && !long) || shape.step_tokens == 1 {
            return Ok(shape);
        }
        shape.step_tokens /= 2;
    }
}

/// The plan for a shape with as little cache, layers and experts as the memory asks for.
fn shrunk(
    tensors: &Tensors<'_>,
    mut shape: CardShape,
    (memory, context): (u64, usize),
    options: &CardOptions,
) -> Result<(CardPlan, CardShape), Error> {
    let mut plan = CardPlan::new(tensors, &shape)?;
    if memory == u64::MAX {
        return Ok((plan, shape));
    }
    let token_bytes = plan.layout.bytes(Some(BufferKind::Kv)) / shape.kv_tokens.max(1) as u64;
    let over = plan.bytes().saturating_sub(memory).div_ceil(token_bytes.max(1)) as usize;
    let kept = shape.kv_tokens.saturating_sub(over) / BLOCK_TOKENS * BLOCK_TOKENS;
    if over > 0 && kept >= KV_TOKENS_MIN.min(context) {
        shape.kv_tokens = kept;
        plan = CardPlan::new(tensors, &shape)?;
    }
    if options.layers.is_none() && plan.bytes() > memory {
        shape.ends = false;
        shape.layers = layers_that_fit(tensors, &shape, memory);
        plan = CardPlan::new(tensors, &shape)?;
    }
    if options.experts.is_none() && shape.layers >= tensors.hyper().n_layers {
        shape.experts = experts_that_fit(tensors, &shape, memory.saturating_sub(plan.bytes()));
        plan = CardPlan::new(tensors, &shape)?;
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
