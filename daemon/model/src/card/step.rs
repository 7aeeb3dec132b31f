//! A step's numbers as the stages read them.
//!
//! ```text
//! words: | ids | positions | slots | wanted | angles (cos, sin) of each token | tiles (token, row, rows, table) | block tables |
//! ```
//! Each part begins where it does for the longest step, so that its place is known when a stage is recorded.

use gpu::{Binding, Counts, Program};
use kernels::{BLOCK_TOKENS, RopeTable};

use super::buffers::{SPLIT_TOKENS, SPLITS_MAX};
use crate::batch::Batch;

/// Query rows of a tile: `ROWS` in `attention.wgsl`.
const TILE_ROWS: usize = 8;
/// Numbers of a tile.
const TILE_WORDS: usize = 4;
/// The shortest part of the past that is worth a workgroup of its own.
const SPLIT_MIN: usize = 128;

/// Where each part begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepLayout {
    pub(crate) ids: u32,
    pub(crate) positions: u32,
    pub(crate) slots: u32,
    pub(crate) wanted: u32,
    pub(crate) angles: u32,
    pub(crate) tiles: u32,
    tables: u32,
    words: u32,
    /// Query heads of a key head.
    group: usize,
}

impl StepLayout {
    pub(crate) fn new(step_tokens: usize, kv_blocks: usize, rope_dim: usize, group: usize) -> Self {
        let n = step_tokens as u32;
        let tiles = (step_tokens * group.div_ceil(TILE_ROWS)) as u32;
        let angles = 4 * n;
        let tiles_at = angles + n * rope_dim as u32;
        let tables = tiles_at + tiles * TILE_WORDS as u32;
        Self {
            ids: 0,
            positions: n,
            slots: 2 * n,
            wanted: 3 * n,
            angles,
            tiles: tiles_at,
            tables,
            words: tables + kv_blocks as u32,
            group,
        }
    }

    pub(crate) fn words(&self) -> usize {
        self.words as usize
    }

    /// Writes a batch's numbers; what there is of everything.
    pub(crate) fn write(
        &self,
        program: &mut Program,
        step: Binding,
        batch: &Batch,
        rope: &RopeTable,
    ) -> Counts {
        let mut put =
            |at: u32, words: &[u32]| program.write_at(step, 4 * u64::from(at), bytemuck::cast_slice(words));
        put(self.ids, &batch.ids);
        put(self.positions, &batch.positions);
        let (mut slots, mut tables, mut tiles) = (Vec::new(), Vec::new(), Vec::new());
        let mut longest = 0;
        for (seq, rows) in batch.seqs().iter().zip(batch.rows()) {
            let table = self.tables + tables.len() as u32;
            let end = seq.first_pos + seq.n_tokens;
            longest = longest.max(end);
            let slot = |pos: usize| {
                seq.block_table[pos / BLOCK_TOKENS] * BLOCK_TOKENS as u32 + (pos % BLOCK_TOKENS) as u32
            };
            slots.extend((seq.first_pos..end).map(slot));
            let n_rows = seq.n_tokens * self.group;
            for row in (0..n_rows).step_by(TILE_ROWS) {
                tiles.extend([rows.start as u32, row as u32, TILE_ROWS.min(n_rows - row) as u32, table]);
            }
            tables.extend_from_slice(&seq.block_table[..end.div_ceil(BLOCK_TOKENS)]);
        }
        put(self.slots, &slots);
        put(self.angles, &angles(rope, &batch.positions));
        put(self.tiles, &tiles);
        put(self.tables, &tables);
        let n_tiles = tiles.len() / TILE_WORDS;
        Counts { tiles: n_tiles as u32, ..self.counts(batch.len(), longest) }
    }

    /// What there is of everything in a step of one sequence that ends at position `longest`.
    pub(crate) fn counts(&self, n_tokens: usize, longest: usize) -> Counts {
        let split = split_of(n_tokens, longest);
        Counts {
            tokens: n_tokens as u32,
            wanted: 0,
            tiles: (n_tokens * self.group).div_ceil(TILE_ROWS) as u32,
            splits: longest.div_ceil(split) as u32,
            split: split as u32,
            expert_tiles: 0,
        }
    }
}

/// Positions of a part of the past, whole blocks: all of it where there are tokens enough to keep the card busy.
fn split_of(n_tokens: usize, longest: usize) -> usize {
    let parts = if n_tokens <= SPLIT_TOKENS { SPLITS_MAX } else { 1 };
    longest.div_ceil(parts).max(SPLIT_MIN.min(longest)).next_multiple_of(BLOCK_TOKENS)
}

/// Cosine and sine of each pair of each token.
fn angles(rope: &RopeTable, positions: &[u32]) -> Vec<u32> {
    let mut words = Vec::with_capacity(positions.len() * rope.dim());
    for &position in positions {
        rope.with_row(position, |cos, sin| {
            words.extend(cos.iter().zip(sin).flat_map(|(cos, sin)| [cos.to_bits(), sin.to_bits()]));
        });
    }
    words
}
