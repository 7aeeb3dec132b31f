//! Stages of a mixture of experts.

use shaders::{Arithmetic, Shader, TILE_TOKENS, Threads};
use tensor::reference::{Gating, Router};

use super::{Quantised, ROW_THREADS, Rows, is, quantise, quantised, vec4};
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

/// Tiles that so many choices have, at most: experts' tiles but the last are full.
pub fn expert_tiles_max(n_choices: u32, n_experts: u32) -> u32 {
    n_choices.min(n_choices / TILE_TOKENS + n_experts)
}

/// Choices by expert, as `sort_choices` leaves them.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    /// The choices' numbers, expert after expert: [n_tokens * top_k].
    pub order: Binding,
    /// Of each tile its expert, the place of its first choice, how many it has: [n_tiles, 4].
    pub tiles: Binding,
}

/// order, tiles <- the choices [n_tokens, top_k] by expert.
///
/// # Panics
/// There are more experts than [`EXPERTS_MAX`]: the caller asks first.
pub fn sort_choices(recording: &mut Recording, top_k: usize, n_experts: usize, choices: Binding, to: Tiles) {
    assert!(n_experts <= EXPERTS_MAX, "a table in shared memory");
    recording.push(Stage {
        shader: Shader::SortChoices,
        words: vec![Word::Tokens, is(top_k as u32), is(n_experts as u32)],
        bindings: vec![choices, to.order, to.tiles],
        grid: [Extent::Is(1); 3],
        weight_bytes: 0,
    });
}

/// Which choices `expert_linear` computes.
#[derive(Clone, Copy, Debug)]
pub enum Chosen {
    /// Every one by itself, as the router leaves them.
    Each(Binding),
    /// All of them in tiles, which share what is read of an expert.
    Tiles(Tiles),
    /// The tiles that are written there before the stage runs: [`Counts::expert_tiles`](crate::Counts::expert_tiles).
    SomeTiles(Tiles),
}

/// Experts of a layer that lie on the card.
#[derive(Clone, Copy, Debug)]
pub struct ExpertLinear<'a> {
    /// Their matrices, one below the other: a slot each. Two parts make it gated.
    pub weight: &'a Weight,
    /// Rows of a slot; of its gate.
    pub rows: usize,
    /// A slot is all of its gate, then its up.
    pub gate_then_up: bool,
    /// Experts of the layer.
    pub n_experts: usize,
    /// Experts of a token.
    pub top_k: usize,
    /// The slot of each expert.
    pub table: Binding,
    /// The choices.
    pub chosen: Chosen,
    /// A row of x for each token, not for each choice.
    pub by_token: bool,
    /// The activations in fewer bits, for tiles of formats that are faster so: computed from x unless they are there.
    pub quantised: Option<Quantised>,
    /// The workgroup.
    pub threads: Threads,
}

/// out [n_tokens * top_k, rows] = W of each choice's expert x, where it lies on the card.
///
/// # Panics
/// The slots do not lie in one shard: the caller takes as many as do.
pub fn expert_linear(recording: &mut Recording, job: ExpertLinear<'_>, x: Rows, out: Rows) {
    let ExpertLinear { weight, rows, gate_then_up, n_experts, top_k, table, chosen, by_token, .. } = job;
    let [shard] = weight.shards.as_slice() else { panic!("slots in one shard") };
    let (format, cols) = (weight.format, weight.shape.cols);
    let parts = if gate_then_up { 2 } else { weight.shape.parts };
    let row_block = format.row_block_bytes(cols) / 16;
    let all_rows = rows / 16 * row_block;
    let (step, part) = if gate_then_up { (row_block, all_rows) } else { (parts * row_block, row_block) };
    let scale_cols = cols.div_ceil(128);
    let scale_part = rows.div_ceil(128) * scale_cols;
    let quads = vec4(rows);
    let quantised = quantised(job.quantised.filter(|_| !matches!(chosen, Chosen::Each(_))), weight);
    if let Some(to) = quantised {
        quantise(recording, to, x, if by_token { 1 } else { top_k }, cols);
    }
    let words = vec![
        is(top_k as u32),
        is(quads),
        is((cols / format.group_values()) as u32),
        is(step as u32),
        is(part as u32),
        is((parts * all_rows) as u32),
        is(vec4(x.stride)),
        is(if by_token { top_k as u32 } else { 1 }),
        is(vec4(out.stride)),
        is(scale_cols as u32),
        is((parts * scale_part) as u32),
        is(scale_part as u32),
    ];
    let (tokens, choices, order, extent) = match chosen {
        Chosen::Each(choices) => (1, choices, None, Extent::TokensTimes(top_k as u32)),
        Chosen::Tiles(Tiles { tiles, order }) => {
            let extent = Extent::ExpertTiles { top_k: top_k as u32, n_experts: n_experts as u32 };
            (TILE_TOKENS, tiles, Some(order), extent)
        }
        Chosen::SomeTiles(Tiles { tiles, order }) => (TILE_TOKENS, tiles, Some(order), Extent::SomeTiles),
    };
    let activations = quantised.map_or(x.at, |(to, _)| to.codes);
    let mut bindings =
        vec![shard.weights, shard.scales.unwrap_or(shard.weights), table, choices, activations, out.at];
    bindings.extend(order);
    bindings.extend(quantised.map(|(to, _)| to.factors));
    let arithmetic = quantised.map_or(Arithmetic::F32, |(_, arithmetic)| arithmetic);
    let threads = job.threads;
    recording.push(Stage {
        shader: Shader::ExpertLinear { format, tokens, gated: parts == 2, arithmetic, threads },
        words,
        bindings,
        grid: [Extent::Is(quads.div_ceil(threads.quads)), extent, Extent::Is(1)],
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
