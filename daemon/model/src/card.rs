//! Models on a graphics card: their layers as recordings, replayed every step.
//!
//! ```text
//! card/bind.rs       weights: where each will lie on the card, and what of the file is written there
//! card/per_head.rs   latent attention's matrices, a head each
//! card/tensors.rs    what is known of tensors before any is read
//! card/buffers.rs    activations and caches
//! card/dense.rs      Llama and Qwen2 as stages
//! card/deepseek.rs   DeepSeek as stages, with places where the processor brings its experts' results
//! card/fit.rs        how much of a model a card takes
//! card/rules.rs      the same, where an administrator's rules say it
//! card/step.rs       a step's numbers as the stages read them
//! card/run.rs        a step on the card
//! ```
//! A [`CardPlan`] is plain data: what a model takes and does on a card is known before one is opened.

mod bind;
mod buffers;
mod deepseek;
mod dense;
mod fit;
mod per_head;
mod rules;
mod run;
mod step;
mod tensors;

use gpu::{CardKind, Counts, Layout, Limits, Quantised, Recording};
use shaders::{KvType, TILE_TOKENS, Threads};
use weights::{Architecture, Hyperparameters};

use crate::Error;
use bind::Upload;
use buffers::{Buffers, Sizes};
use deepseek::{DeepSeek, Segment};
use dense::{Dense, Ends};

pub use fit::CardOptions;
pub(crate) use fit::fitting;
pub use rules::options_of;
pub(crate) use run::Card;
pub use tensors::Tensors;

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
    /// Routed experts of each layer that lie on the card, at most.
    pub experts: usize,
    /// Layers that lie there, the first ones.
    pub layers: usize,
    /// With all of them, embedding and head lie there, too.
    pub ends: bool,
}

impl CardShape {
    /// Whether all of a model lies there, its experts aside.
    pub(crate) fn is_whole(&self, hyper: &Hyperparameters) -> bool {
        self.ends && self.layers >= hyper.n_layers
    }
}

/// How a model is to lie on a card, and what is computed there.
#[derive(Debug)]
pub struct CardPlan {
    pub(crate) layout: Layout,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) buffers: Buffers,
    pub(crate) recordings: Vec<Recording>,
    pub(crate) route: Route,
}

/// Which recordings a step runs, each for a single token and for tiles of tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub(crate) segments: Vec<Leg>,
    pub(crate) head: [usize; 2],
}

/// Layers up to where the processor has to bring something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg {
    pub(crate) stages: [usize; 2],
    /// What the processor is asked for, and what the card does meanwhile.
    pub(crate) handover: Option<(Handover, [usize; 2])>,
}

/// The routed experts of a layer that do not lie on the card.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    pub(crate) layer: usize,
    /// Those before this one lie on the card.
    pub(crate) on_card: u32,
}

/// What a step costs a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCost {
    /// Dispatches.
    pub dispatches: usize,
    /// Command buffers handed over.
    pub submits: usize,
    /// Times the processor waits for results.
    pub readbacks: usize,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes that go from the card to the processor, and to it.
    pub moved_bytes: u64,
}

impl CardPlan {
    /// Plans a model for a card.
    ///
    /// # Errors
    /// The file lacks a tensor, or the model has a part that no stage computes.
    pub fn new(tensors: &Tensors<'_>, shape: &CardShape) -> Result<Self, Error> {
        let hyper = tensors.hyper();
        let mut layout = Layout::new(shape.limits.binding_bytes, shape.limits.buffer_bytes);
        let mut binder = bind::Binder::new(tensors, &mut layout, (shape.experts, shape.kv == KvType::F32));
        let ends = shape.is_whole(hyper).then(|| Ends::bind(&mut binder)).transpose()?;
        let n_layers = shape.layers.min(hyper.n_layers);
        let body = match hyper.architecture {
            Architecture::Llama | Architecture::Qwen2 => Body::Dense(Dense::bind(&mut binder, n_layers)?),
            Architecture::DeepSeek2 => Body::DeepSeek(DeepSeek::bind(&mut binder, n_layers)?),
        };
        let uploads = binder.into_uploads();
        let buffers = Buffers::new(&mut layout, &Sizes::of(hyper, shape));
        let plans = [false, true].map(|many| Plan { hyper, shape, buffers: &buffers, many });
        let (recordings, route) = record(ends.as_ref(), &body, &plans);
        Ok(Self { layout, uploads, buffers, recordings, route })
    }

    /// Bytes in the card's memory.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes(None)
    }

    /// What one step of so many tokens costs, after `past` others, with logits of the last.
    pub fn step_cost(&self, n_tokens: usize, past: usize) -> StepCost {
        let b = &self.buffers;
        let counts = Counts { wanted: 1, ..b.step_layout.counts(n_tokens, past + n_tokens) };
        let many = usize::from(n_tokens > 1);
        let mut cost = StepCost::default();
        let mut add = |recording: usize| {
            let (dispatches, bytes) = self.recordings[recording].cost(&counts);
            cost.dispatches += dispatches;
            cost.weight_bytes += bytes;
        };
        for leg in &self.route.segments {
            add(leg.stages[many]);
            leg.handover.iter().for_each(|(_, meanwhile)| add(meanwhile[many]));
        }
        add(self.route.head[0]);
        let n_handovers = self.route.segments.iter().filter(|leg| leg.handover.is_some()).count();
        cost.submits = 1 + 2 * n_handovers;
        cost.readbacks = 1 + n_handovers;
        let handed = b.handover_bytes(n_tokens) + (4 * n_tokens * b.hidden.stride) as u64;
        cost.moved_bytes = n_handovers as u64 * handed + 4 * b.logits.stride as u64;
        cost
    }
}

/// The layers, by architecture.
enum Body {
    Dense(Dense),
    DeepSeek(DeepSeek),
}

/// All recordings, and which run when.
fn record(ends: Option<&Ends>, body: &Body, plans: &[Plan<'_>; 2]) -> (Vec<Recording>, Route) {
    let mut recordings = Vec::new();
    let mut keep = |pair: [Recording; 2]| {
        recordings.extend(pair);
        [recordings.len() - 2, recordings.len() - 1]
    };
    let layers = plans.each_ref().map(|plan| {
        let mut first = Segment::default();
        ends.iter().for_each(|ends| ends.embed(&mut first.stages, plan));
        match body {
            Body::Dense(dense) => vec![dense.layers(plan, first)],
            Body::DeepSeek(deepseek) => deepseek.layers(plan, first),
        }
    });
    let [few, many] = layers;
    let leg = |(few, many): (Segment, Segment)| Leg {
        stages: keep([few.stages, many.stages]),
        handover: few
            .handover
            .zip(many.handover)
            .map(|((handover, few), (_, many))| (handover, keep([few, many]))),
    };
    let segments = few.into_iter().zip(many).map(leg).collect();
    let head = plans.each_ref().map(|plan| ends.map_or_else(Recording::default, |ends| ends.head(plan)));
    let head = keep(head);
    (recordings, Route { segments, head })
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

    /// Where activations are quantised to: for tiles of tokens, where arithmetic is fast. A single token is read from memory in
    /// the same time either way.
    pub(crate) fn int8(&self) -> Option<Quantised> {
        (self.many && self.shape.kv == KvType::F16).then_some(self.buffers.quantised)
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

    /// The workgroup for experts: each choice reads its own rows, however many tokens there are.
    pub(crate) fn expert_threads(&self, rows: usize) -> Threads {
        Plan { many: false, ..*self }.threads(rows)
    }
}
