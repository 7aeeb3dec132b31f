//! How a step's attention is cut into tasks.

use std::ops::Range;

use super::{AttentionSeq, AttentionShape};

/// Query rows (tokens times heads of a group) a task aims at: enough to amortise widening a block.
const ROWS_A_TASK: usize = 64;
/// What reading a block costs a task, in rows' products with it; 1, 4 and 24 give 10.7, 10.8 and 10.2 ms on one core
/// (`examples/latent.rs`, one token after 4095): little, so tasks stay small.
const BLOCK_ROWS: usize = 4;

/// Rows of one sequence that share keys and values.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) seq: usize,
    /// Tokens, counted from the first of the sequence in this step.
    pub(super) tokens: Range<usize>,
    /// Query heads, of one group.
    pub(super) heads: Range<usize>,
}

/// How a step's attention is cut into tasks.
#[derive(Debug)]
pub(crate) struct Plan {
    tile_tokens: usize,
    heads: usize,
    /// Tiles of all sequences before sequence i; one entry more than sequences.
    first_tile: Vec<usize>,
    tasks_a_tile: usize,
}

impl Plan {
    /// Tiles of [`ROWS_A_TASK`] rows; where threads would idle, a task takes a part of a group's heads.
    pub(crate) fn new(seqs: &[AttentionSeq<'_>], shape: &AttentionShape, n_threads: usize) -> Self {
        let group = shape.n_heads / shape.n_kv_heads;
        let tile_tokens = ROWS_A_TASK.div_ceil(group);
        let mut plan = Self::tiles(seqs, tile_tokens, shape.n_heads);
        let n_tiles = plan.n_tasks() / plan.tasks_a_tile;
        let tile_rows = seqs.iter().map(|seq| seq.n_tokens.min(tile_tokens)).max().unwrap_or(1);
        // Rounds of tasks until all threads are done, and half a one for a thread that is late.
        let cost = |heads: usize| {
            let rounds = (n_tiles * shape.n_heads / heads).div_ceil(n_threads);
            (2 * rounds + 1) * (heads * tile_rows + BLOCK_ROWS)
        };
        let divisors = (1..=group).filter(|&heads| group.is_multiple_of(heads));
        plan.heads = divisors.min_by_key(|&heads| cost(heads)).expect("1 divides every group");
        plan.tasks_a_tile = shape.n_heads / plan.heads;
        plan
    }

    /// Tiles of `tile_tokens` tokens of one head.
    pub(crate) fn tiles(seqs: &[AttentionSeq<'_>], tile_tokens: usize, n_heads: usize) -> Self {
        let mut first_tile = vec![0];
        for seq in seqs {
            let before = first_tile[first_tile.len() - 1];
            first_tile.push(before + seq.n_tokens.div_ceil(tile_tokens));
        }
        Self { tile_tokens, heads: 1, first_tile, tasks_a_tile: n_heads }
    }

    pub(crate) fn n_tasks(&self) -> usize {
        self.first_tile[self.first_tile.len() - 1] * self.tasks_a_tile
    }

    pub(super) fn task(&self, idx: usize, seqs: &[AttentionSeq<'_>]) -> Task {
        let tile = idx / self.tasks_a_tile;
        let seq = self.first_tile.partition_point(|&first| first <= tile) - 1;
        let start = (tile - self.first_tile[seq]) * self.tile_tokens;
        let head = idx % self.tasks_a_tile * self.heads;
        Task {
            seq,
            tokens: start..seqs[seq].n_tokens.min(start + self.tile_tokens),
            heads: head..head + self.heads,
        }
    }
}
