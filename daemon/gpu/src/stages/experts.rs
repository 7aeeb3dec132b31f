//! Stages of a mixture of experts.

use shaders::{Shader, Threads};
use tensor::reference::{Gating, Router};

use super::{ROW_THREADS, Rows, is, vec4};
use crate::layout::{Binding, Weight};
use crate::recording::{Extent, Recording, Stage, Word};

/// Experts of a layer that `route` ranks, at most, and groups of them.
pub const EXPERTS_MAX: usize = 512;
/// Groups of experts, at most.
pub const GROUPS_MAX: usize = 64;

/// choices [n_tokens, top_k] of (expert, weight) <- logits [n_tokens, n_experts].
///
/// # Panics
/// There are more experts or groups than [`EXPERTS_MAX`] and [`GROUPS_MAX`]: the caller asks first.
pub fn route(
    recording: &mut Recording,
    (rule, n_experts): (&Router, usize),
    bias: Option<Binding>,
    (logits, choices): (Rows, Binding),
) {
    assert!(n_experts <= EXPERTS_MAX && rule.n_groups <= GROUPS_MAX, "a table in shared memory");
    let words = vec![
        Word::Tokens,
        is(n_experts as u32),
        is(logits.stride as u32),
        is(rule.top_k as u32),
        is(rule.n_groups as u32),
        is(rule.top_k_groups as u32),
        is(u32::from(rule.gating == Gating::Sigmoid)),
        is(u32::from(rule.normalise)),
        Word::Float(rule.scale),
        is(u32::from(bias.is_some())),
    ];
    recording.push(Stage {
        shader: Shader::Route,
        words,
        bindings: vec![logits.at, bias.unwrap_or(logits.at), choices],
        grid: [Extent::Tokens(1), Extent::Is(1), Extent::Is(1)],
        weight_bytes: 0,
    });
}

/// out = out + x, [n_tokens, width].
pub fn add(recording: &mut Recording, width: usize, x: Binding, out: Binding) {
    recording.push(Stage {
        shader: Shader::Add,
        words: vec![Word::Tokens, is(vec4(width))],
        bindings: vec![x, out],
        grid: [Extent::Is(vec4(width).div_ceil(ROW_THREADS)), Extent::Tokens(1), Extent::Is(1)],
        weight_bytes: 0,
    });
}

/// Experts of a layer that lie on the card.
#[derive(Clone, Copy, Debug)]
pub struct ExpertLinear<'a> {
    /// Their matrices, one below the other: a slot each.
    pub weight: &'a Weight,
    /// Rows of a slot.
    pub rows: usize,
    /// Experts of the layer.
    pub n_experts: usize,
    /// Experts of a token.
    pub top_k: usize,
    /// The slot of each expert.
    pub table: Binding,
    /// The router's choices.
    pub choices: Binding,
    /// A row of x for each token, not for each choice.
    pub by_token: bool,
    /// The workgroup.
    pub threads: Threads,
}

/// out [n_tokens * top_k, rows] = W of each choice's expert x, where it lies on the card.
///
/// # Panics
/// The slots do not lie in one shard: the caller takes as many as do.
pub fn expert_linear(recording: &mut Recording, job: ExpertLinear<'_>, x: Rows, out: Rows) {
    let ExpertLinear { weight, rows, n_experts, top_k, table, choices, by_token, threads } = job;
    let [shard] = weight.shards.as_slice() else { panic!("slots in one shard") };
    let (format, parts, cols) = (weight.format, weight.shape.parts, weight.shape.cols);
    let row_block = format.row_block_bytes(cols) / 16;
    let scale_cols = cols.div_ceil(128);
    let scale_part = rows.div_ceil(128) * scale_cols;
    let quads = vec4(rows);
    let words = vec![
        Word::Tokens,
        is(top_k as u32),
        is(quads),
        is((cols / format.group_values()) as u32),
        is(row_block as u32),
        is((rows / 16 * parts * row_block) as u32),
        is(vec4(x.stride)),
        is(if by_token { top_k as u32 } else { 1 }),
        is(vec4(out.stride)),
        is(scale_cols as u32),
        is((parts * scale_part) as u32),
        is(scale_part as u32),
    ];
    recording.push(Stage {
        shader: Shader::ExpertLinear { format, gated: parts == 2, threads },
        words,
        bindings: vec![shard.weights, shard.scales.unwrap_or(shard.weights), table, choices, x.at, out.at],
        grid: [Extent::Is(quads.div_ceil(threads.quads)), Extent::TokensTimes(top_k as u32), Extent::Is(1)],
        // What a token reads on average: each expert is as likely as another.
        weight_bytes: weight.bytes() * top_k as u64 / n_experts.max(1) as u64,
    });
}

/// out [n_tokens, width] += the sum of its choices' rows, by weight, where the expert lies on the card.
pub fn combine(
    recording: &mut Recording,
    (top_k, width): (usize, usize),
    (table, choices): (Binding, Binding),
    (rows, out): (Binding, Binding),
) {
    recording.push(Stage {
        shader: Shader::Combine,
        words: vec![Word::Tokens, is(top_k as u32), is(vec4(width))],
        bindings: vec![rows, choices, table, out],
        grid: [Extent::Is(vec4(width).div_ceil(ROW_THREADS)), Extent::Tokens(1), Extent::Is(1)],
        weight_bytes: 0,
    });
}
