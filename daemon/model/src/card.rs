//! Models on a graphics card: their layers as recordings, replayed every step.
//!
//! ```text
//! card/bind.rs       weights: where each will lie on the card, and what of the file is written there
//! card/buffers.rs    activations and caches
//! card/dense.rs      Llama and Qwen2 as stages
//! card/step.rs       a step's numbers as the stages read them
//! card/run.rs        a step on the card
//! ```
//! A [`CardPlan`] is plain data: what a model takes and does on a card is known before one is opened.

mod bind;
mod buffers;
mod dense;
mod run;
mod step;

use gpu::{CardKind, Layout, Limits, Recording};
use shaders::{KvType, TILE_TOKENS, Threads};
use weights::{Architecture, Hyperparameters, Weights};

use crate::Error;
use bind::Upload;
use buffers::{Buffers, Sizes};

pub(crate) use run::Card;

/// What decides how a model lies on a card.
#[derive(Clone, Copy, Debug)]
pub struct CardShape {
    /// What the card allows.
    pub limits: Limits,
    /// Its sort.
    pub kind: CardKind,
    /// Whether threads of a subgroup can sum.
    pub subgroups: bool,
    /// Tokens of a step.
    pub step_tokens: usize,
    /// Tokens of the KV cache.
    pub kv_tokens: usize,
    /// Precision of the KV cache.
    pub kv: KvType,
}

/// How a model is to lie on a card, and what is computed there.
#[derive(Debug)]
pub struct CardPlan {
    pub(crate) layout: Layout,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) buffers: Buffers,
    /// Layers, then the head; each for a token and for many.
    pub(crate) recordings: Vec<Recording>,
}

/// Places of recordings: the layers and the head, for a single token and for tiles of tokens.
pub(crate) const LAYERS: [usize; 2] = [0, 1];
pub(crate) const HEAD: [usize; 2] = [2, 3];

impl CardPlan {
    /// Plans a model for a card.
    ///
    /// # Errors
    /// The file lacks a tensor, or the family has no layers for a card yet.
    pub fn new(weights: &Weights, shape: &CardShape) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let mut layout = Layout::new(shape.limits.binding_bytes, shape.limits.buffer_bytes);
        let mut binder = bind::Binder::new(weights, &mut layout);
        match hyper.architecture {
            Architecture::Llama | Architecture::Qwen2 => {
                let model = dense::Dense::bind(&mut binder)?;
                let uploads = binder.into_uploads();
                let buffers = Buffers::new(&mut layout, &Sizes::of(hyper, shape));
                let mut recordings = Vec::new();
                let plans = [false, true].map(|many| Plan { hyper, shape, buffers: &buffers, many });
                recordings.extend(plans.iter().map(|plan| model.layers(plan)));
                recordings.extend(plans.iter().map(|plan| model.head(plan)));
                Ok(Self { layout, uploads, buffers, recordings })
            }
            Architecture::DeepSeek2 => Err(Error::NotOnCard { family: "DeepSeek".into() }),
        }
    }

    /// Bytes in the card's memory.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes(None)
    }
}

/// What stages are recorded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) hyper: &'a Hyperparameters,
    pub(crate) shape: &'a CardShape,
    pub(crate) buffers: &'a Buffers,
    /// For tiles of tokens, not a single one.
    pub(crate) many: bool,
}

/// Threads that keep a card busy while it reads weights.
const BUSY_THREADS: usize = 16_384;

impl Plan<'_> {
    /// Tokens that share what is read of a weight.
    pub(crate) fn tokens(&self) -> u32 {
        if self.many { TILE_TOKENS } else { 1 }
    }

    /// The workgroup for a matrix of so many rows: columns are divided where rows alone would leave a card idle. A software
    /// device has no idle threads, and pays for each barrier.
    pub(crate) fn threads(&self, rows: usize) -> Threads {
        let splits = match (self.shape.kind, self.many) {
            (CardKind::Software, _) => 1,
            (_, true) => 4,
            (_, false) => (4 * BUSY_THREADS / rows.max(1)).next_power_of_two().clamp(4, 32) as u32,
        };
        Threads { quads: 8, splits }
    }
}
