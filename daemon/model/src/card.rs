//! Models on a graphics card: their layers as recordings, replayed every step.
//!
//! ```text
//! card/bind.rs       weights: where each will lie on the card, and what of the file is written there
//! card/per_head.rs   latent attention's matrices, a head each
//! card/tensors.rs    what is known of tensors before any is read
//! card/buffers.rs    activations and caches
//! card/ring.rs       experts that come for one prompt
//! card/dense.rs      Llama and Qwen2 as stages
//! card/deepseek.rs   DeepSeek as stages, with places where the processor brings its experts' results
//! card/fit.rs        how much of a model a card takes
//! card/rules.rs      the same, where an administrator's rules say it
//! card/step.rs       a step's numbers as the stages read them
//! card/run.rs        a step on the card
//! card/bring.rs      a layer's experts, brought to the card for a prompt
//! ```
//! A [`CardPlan`] is plain data: what a model takes and does on a card is known before one is opened.

mod bind;
mod bring;
mod buffers;
mod deepseek;
mod dense;
mod fit;
mod per_head;
mod ring;
mod rules;
mod run;
mod step;
mod tensors;

use gpu::{CardKind, Counts, Layout, Limits, Quantised, Recording, Weight};
use shaders::{KvType, TILE_TOKENS, Threads};
use weights::{Architecture, Hyperparameters};

use crate::Error;
use bind::Upload;
use buffers::{Buffers, Sizes};
use deepseek::{DeepSeek, Handing, Segment};
use dense::{Dense, Ends};
use ring::Ring;

pub(crate) use fit::fitting;
pub use fit::{CardOptions, PromptExperts};
pub use rules::options_of;
pub(crate) use run::{Asked, Card};
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
    /// Whether it computes with half floats.
    pub f16: bool,
    /// Tokens of a step.
    pub step_tokens: usize,
    /// Tokens of the KV cache.
    pub kv_tokens: usize,
    /// Precision of the KV cache.
    pub kv: KvType,
    /// Routed experts of each layer that lie on the card, at most.
    pub experts: usize,
    /// Other experts may come there for a prompt.
    pub brings: bool,
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
    pub(crate) ring: Option<Ring>,
    pub(crate) recordings: Vec<Recording>,
    pub(crate) route: Route,
}

/// Recordings of a step of each width.
pub(crate) type PerWidth = [usize; Width::ALL.len()];

/// Which recordings a step runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub(crate) segments: Vec<Leg>,
    /// For a single row of logits, and for several.
    pub(crate) head: [usize; 2],
    /// Behind it, where only the largest logit counts.
    pub(crate) best: usize,
    /// Tokens from which on experts are computed in tiles.
    pub(crate) many_from: usize,
}

/// Layers up to where the processor has to bring something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg {
    pub(crate) stages: PerWidth,
    pub(crate) handover: Option<Handover>,
}

/// What happens to the routed experts of a layer that do not lie on the card.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    pub(crate) layer: usize,
    /// Those before this one lie on the card.
    pub(crate) on_card: u32,
    /// What the card does meanwhile.
    pub(crate) meanwhile: PerWidth,
    /// Takes what the processor has computed.
    pub(crate) take: usize,
    /// Where they can come to the card: computes those of each half of the ring, then sums them up.
    pub(crate) bring: Option<([usize; 2], usize)>,
}

/// How many tokens share what is read of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// A single token.
    One,
    /// Tiles of tokens; each choice of an expert by itself.
    Few,
    /// So many that experts have tiles, too.
    Many,
}

impl Width {
    pub(crate) const ALL: [Self; 3] = [Self::One, Self::Few, Self::Many];
}

impl Route {
    /// Of a step of so many tokens.
    pub(crate) fn width(&self, n_tokens: usize) -> usize {
        let width = match n_tokens {
            1 => Width::One,
            n if n < self.many_from => Width::Few,
            _ => Width::Many,
        };
        width as usize
    }
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
        let moe = hyper.moe.filter(|_| shape.brings);
        let ring = moe.and_then(|moe| Ring::plan(&mut layout, tensors, (&moe, n_layers), shape.step_tokens));
        let plans =
            Width::ALL.map(|width| Plan { hyper, shape, buffers: &buffers, ring: ring.as_ref(), width });
        let (recordings, route) = record(ends.as_ref(), &body, &plans);
        Ok(Self { layout, uploads, buffers, ring, recordings, route })
    }

    /// Bytes in the card's memory.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes(None)
    }

    /// What one step of so many tokens costs, after `past` others, with logits of the last.
    pub fn step_cost(&self, n_tokens: usize, past: usize) -> StepCost {
        let b = &self.buffers;
        let counts = Counts { wanted: 1, ..b.step_layout.counts(n_tokens, past + n_tokens) };
        let width = self.route.width(n_tokens);
        let mut cost = StepCost::default();
        let mut add = |recording: usize| {
            let (dispatches, bytes) = self.recordings[recording].cost(&counts);
            cost.dispatches += dispatches;
            cost.weight_bytes += bytes;
        };
        for leg in &self.route.segments {
            add(leg.stages[width]);
            let handed = leg.handover.iter().flat_map(|handover| [handover.meanwhile[width], handover.take]);
            handed.for_each(&mut add);
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
fn record(ends: Option<&Ends>, body: &Body, plans: &[Plan<'_>; 3]) -> (Vec<Recording>, Route) {
    let mut recordings = Vec::new();
    let mut keep = |recording: Recording| {
        recordings.push(recording);
        recordings.len() - 1
    };
    let layers = plans.each_ref().map(|plan| {
        let mut first = Segment::default();
        ends.iter().for_each(|ends| ends.embed(&mut first.stages, plan));
        match body {
            Body::Dense(dense) => vec![dense.layers(plan, first)],
            Body::DeepSeek(deepseek) => deepseek.layers(plan, first),
        }
    });
    let [one, few, many] = layers;
    let mut leg = |((one, few), many): ((Segment, Segment), Segment)| Leg {
        stages: [one.stages, few.stages, many.stages].map(&mut keep),
        handover: one.handover.zip(few.handover).zip(many.handover).map(|((one, few), many)| {
            let Handing { layer, on_card, take, bring, .. } = many;
            Handover {
                layer,
                on_card,
                meanwhile: [one.meanwhile, few.meanwhile, many.meanwhile].map(&mut keep),
                take: keep(take),
                bring: bring.map(|(halves, sum)| (halves.map(&mut keep), keep(sum))),
            }
        }),
    };
    let segments = one.into_iter().zip(few).zip(many).map(&mut leg).collect();
    let [one, few, _] =
        plans.each_ref().map(|plan| ends.map_or_else(Recording::default, |ends| ends.head(plan)));
    let head = [one, few].map(&mut keep);
    let best = keep(ends.map_or_else(Recording::default, |ends| ends.best(&plans[0])));
    let many_from = plans[0].hyper.moe.map_or(usize::MAX, |moe| TILED_EXPERTS * moe.n_experts / moe.top_k);
    (recordings, Route { segments, head, best, many_from: many_from.max(2) })
}

/// What stages are recorded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) hyper: &'a Hyperparameters,
    pub(crate) shape: &'a CardShape,
    pub(crate) buffers: &'a Buffers,
    pub(crate) ring: Option<&'a Ring>,
    pub(crate) width: Width,
}

/// Tokens of an expert from which on tiles of them are worth while, on average.
const TILED_EXPERTS: usize = 2;

/// Threads that keep a card busy while it reads weights.
const BUSY_THREADS: usize = 16_384;

impl Plan<'_> {
    /// Tokens that share what is read of a weight.
    pub(crate) fn tokens(&self) -> u32 {
        if self.width == Width::One { 1 } else { TILE_TOKENS }
    }

    /// Where activations in fewer bits lie: for tiles of tokens, where arithmetic is fast or rules ask for it. A single token is
    /// read from memory in the same time either way.
    pub(crate) fn quantised(&self, weight: &Weight) -> Option<Quantised> {
        self.is_fast(weight).then_some(self.buffers.quantised)
    }

    /// The same of experts' activations, a row a choice.
    pub(crate) fn experts_quantised(&self, weight: &Weight) -> Option<Quantised> {
        self.is_fast(weight).then_some(self.buffers.experts_quantised)
    }

    fn is_fast(&self, weight: &Weight) -> bool {
        self.width != Width::One && weight.int8.unwrap_or(self.shape.kv == KvType::F16)
    }

    /// The workgroup for a matrix of so many rows: columns are divided where rows alone would leave a card idle. A software
    /// device has no idle threads, and pays for each barrier.
    pub(crate) fn threads(&self, rows: usize) -> Threads {
        let splits = match (self.shape.kind, self.width) {
            (CardKind::Software, _) => 1,
            (_, Width::Few | Width::Many) => 4,
            (_, Width::One) => (4 * BUSY_THREADS / rows.max(1)).next_power_of_two().clamp(4, 32) as u32,
        };
        Threads { quads: 8, splits }
    }

    /// The workgroup for experts: without tiles each choice reads its own rows, however many tokens there are.
    pub(crate) fn expert_threads(&self, rows: usize) -> Threads {
        let width = if self.width == Width::Many { Width::Many } else { Width::One };
        Plan { width, ..*self }.threads(rows)
    }
}
