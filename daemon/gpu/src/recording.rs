//! What a card is to compute: stages in order, over a layout. Plain data: no device is in it.

use shaders::{Access, Shader};

use crate::layout::Binding;
use crate::stages::expert_tiles_max;

/// How much of everything a step has; what is known when a recording is made is not among it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens.
    pub tokens: u32,
    /// Rows that logits are wanted for.
    pub wanted: u32,
    /// Tiles of query rows.
    pub tiles: u32,
    /// Parts that the past is split into.
    pub splits: u32,
    /// Positions of a part.
    pub split: u32,
    /// Tiles of choices that are written before a run, of experts that came just now.
    pub expert_tiles: u32,
}

/// A number of a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    /// Known when it is recorded.
    Is(u32),
    /// The same, of a float.
    Float(f32),
    /// [`Counts::tokens`].
    Tokens,
    /// [`Counts::wanted`].
    Wanted,
    /// [`Counts::splits`].
    Splits,
    /// [`Counts::split`].
    Split,
}

/// Workgroups in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Known when it is recorded.
    Is(u32),
    /// One for so many tokens.
    Tokens(u32),
    /// So many a token.
    TokensTimes(u32),
    /// One for so many wanted rows.
    Wanted(u32),
    /// One a tile.
    Tiles,
    /// One a split.
    Splits,
    /// [`expert_tiles_max`] of a step.
    ExpertTiles {
        /// Choices of a token.
        top_k: u32,
        /// Experts that may have a last tile.
        n_experts: u32,
    },
    /// [`Counts::expert_tiles`].
    SomeTiles,
    /// So many a token where there are several splits, none where there is one.
    HeadsIfSplit(u32),
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What runs.
    pub shader: Shader,
    /// Its immediates.
    pub words: Vec<Word>,
    /// Its bindings, in the shader's order.
    pub bindings: Vec<Binding>,
    /// Workgroups.
    pub grid: [Extent; 3],
    /// Bytes of weights that it reads for one token.
    pub weight_bytes: u64,
}

impl Stage {
    /// Whether it may change what lies there.
    pub(crate) fn writes(&self, at: Binding) -> bool {
        let writes = self.shader.bindings().iter().zip(&self.bindings);
        writes.into_iter().any(|(access, binding)| *access == Access::Write && binding.buffer == at.buffer)
    }
}

/// Stages in order.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// They run one after another; each sees what those before have written.
    pub stages: Vec<Stage>,
}

impl Counts {
    /// Workgroups in all three directions; none where the stage has nothing to do.
    pub fn grid(&self, grid: [Extent; 3]) -> [u32; 3] {
        grid.map(|extent| match extent {
            Extent::Is(n) => n,
            Extent::Tokens(each) => self.tokens.div_ceil(each),
            Extent::TokensTimes(times) => self.tokens * times,
            Extent::Wanted(each) => self.wanted.div_ceil(each),
            Extent::Tiles => self.tiles,
            Extent::Splits => self.splits,
            Extent::ExpertTiles { top_k, n_experts } => expert_tiles_max(self.tokens * top_k, n_experts),
            Extent::SomeTiles => self.expert_tiles,
            Extent::HeadsIfSplit(heads) if self.splits > 1 => heads * self.tokens,
            Extent::HeadsIfSplit(_) => 0,
        })
    }

    pub(crate) fn bytes_of(&self, words: &[Word]) -> Vec<u8> {
        let word = |word: &Word| match *word {
            Word::Is(n) => n,
            Word::Float(x) => x.to_bits(),
            Word::Tokens => self.tokens,
            Word::Wanted => self.wanted,
            Word::Splits => self.splits,
            Word::Split => self.split,
        };
        words.iter().flat_map(|w| word(w).to_le_bytes()).collect()
    }
}

impl Recording {
    /// Adds a stage.
    pub fn push(&mut self, stage: Stage) {
        self.stages.push(stage);
    }

    /// Dispatches of a step, and bytes of weights that one token reads.
    pub fn cost(&self, counts: &Counts) -> (usize, u64) {
        let live = self.stages.iter().filter(|stage| !counts.grid(stage.grid).contains(&0));
        live.fold((0, 0), |(n, bytes), stage| (n + 1, bytes + stage.weight_bytes))
    }
}
