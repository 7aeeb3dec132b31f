//! DeepSeek as stages on a card: latent attention over compressed rows, routers, shared experts, and the routed experts that
//! lie there; the others are computed by the processor meanwhile.
//!
//! ```text
//! card       .. attention | norm | router | shared expert, experts on the card | + what the processor brings | attention ..
//!                                    \ choices, x                               /
//! processor                           experts in memory or from the drive ------
//! ```

use gpu::{Binding, Chosen, ExpertLinear, Linear, Recording, Rows, Weight};
use weights::Moe;

use super::bind::{Binder, FeedForward, Projection};
use super::{Plan, Width};
use crate::Error;
use crate::mla::softmax_scale;

/// The layers.
#[derive(Debug)]
pub(crate) struct DeepSeek(Vec<Layer>);

#[derive(Debug)]
struct Layer {
    attn_norm: Binding,
    attention: LatentAttention,
    ffn_norm: Binding,
    ffn: Ffn,
}

#[derive(Debug)]
struct LatentAttention {
    q: Query,
    kv_a: Projection,
    kv_a_norm: Binding,
    /// W_uk of every head, transposed, and W_uv.
    k_b: Weight,
    v_b: Weight,
    o: Projection,
}

/// From the residual stream to the queries.
#[derive(Debug)]
enum Query {
    Direct(Projection),
    LowRank { a: Projection, a_norm: Binding, b: Projection },
}

#[derive(Debug)]
enum Ffn {
    Dense(FeedForward),
    Mixture(Box<Mixture>),
}

#[derive(Debug)]
struct Mixture {
    router: Projection,
    bias: Option<Binding>,
    shared: Option<FeedForward>,
    resident: Option<Resident>,
}

/// Routed experts that lie on the card: the first of each layer.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) groups: Vec<Slots>,
    /// Of each expert of the layer, whether it is here.
    pub(crate) table: Binding,
    pub(crate) n_experts: usize,
}

/// As many of them as are bound at once.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) gate_up: Weight,
    pub(crate) down: Weight,
    /// The slot of each expert of the layer, or nowhere.
    pub(crate) table: Binding,
}

/// Stages up to where a layer's experts are wanted that do not lie on the card.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) stages: Recording,
    pub(crate) handover: Option<Handing>,
}

/// What is recorded of a [`Handover`](super::Handover).
#[derive(Debug)]
pub(crate) struct Handing {
    pub(crate) layer: usize,
    pub(crate) on_card: u32,
    pub(crate) meanwhile: Recording,
    pub(crate) take: Recording,
    pub(crate) bring: Option<([Recording; 2], Recording)>,
}

impl DeepSeek {
    pub(crate) fn bind(binder: &mut Binder<'_>, n_layers: usize) -> Result<Self, Error> {
        Ok(Self((0..n_layers).map(|i| Layer::bind(binder, i)).collect::<Result<_, _>>()?))
    }

    /// hidden <- the last layer's output, in segments.
    pub(crate) fn layers(&self, plan: &Plan<'_>, first: Segment) -> Vec<Segment> {
        let mut segments = vec![first];
        for (i, layer) in self.0.iter().enumerate() {
            let last = segments.last_mut().expect("there is one");
            layer.attend(&mut last.stages, plan, i);
            match &layer.ffn {
                Ffn::Dense(ffn) => {
                    plan.feed_forward(&mut last.stages, ffn, plan.buffers.normed, plan.buffers.hidden);
                }
                Ffn::Mixture(mixture) => {
                    if let Some(next) = mixture.record(last, plan, i) {
                        segments.push(next);
                    }
                }
            }
        }
        segments
    }
}

impl Layer {
    fn bind(binder: &mut Binder<'_>, layer: usize) -> Result<Self, Error> {
        let hyper = binder.tensors().hyper();
        let norm = |stage: &str| format!("blk.{layer}.{stage}.weight");
        Ok(Self {
            attn_norm: binder.vector(&norm("attn_norm"), hyper.d_model)?,
            attention: LatentAttention::bind(binder, layer)?,
            ffn_norm: binder.vector(&norm("ffn_norm"), hyper.d_model)?,
            ffn: match &hyper.moe {
                Some(moe) if layer >= moe.n_dense_layers => {
                    Ffn::Mixture(Box::new(Mixture::bind(binder, layer, moe)?))
                }
                _ => Ffn::Dense(binder.feed_forward(layer, "", hyper.d_ff)?),
            },
        })
    }

    /// hidden += attention(norm(hidden)); normed <- its norm.
    fn attend(&self, to: &mut Recording, plan: &Plan<'_>, layer: usize) {
        let (b, d) = (plan.buffers, plan.hyper.d_model);
        plan.norm(to, self.attn_norm, d, b.hidden, b.normed);
        self.attention.record(to, plan, layer);
        plan.norm(to, self.ffn_norm, d, b.hidden, b.normed);
    }
}

impl LatentAttention {
    fn bind(binder: &mut Binder<'_>, layer: usize) -> Result<Self, Error> {
        let hyper = binder.tensors().hyper();
        let mla = hyper.mla.expect("checked with the hyperparameters");
        let (d, heads) = (hyper.d_model, hyper.n_heads);
        let name = |stage: &str| format!("blk.{layer}.{stage}");
        let norm = |stage: &str| format!("blk.{layer}.{stage}.weight");
        let d_q = heads * (mla.nope_dim + mla.rope_dim);
        let (k_b, v_b) = binder.per_head(layer, heads, &mla)?;
        Ok(Self {
            q: match mla.q_lora_rank {
                None => Query::Direct(binder.projection(&name("attn_q"), d_q, d)?),
                Some(rank) => Query::LowRank {
                    a: binder.projection(&name("attn_q_a"), rank, d)?,
                    a_norm: binder.vector(&norm("attn_q_a_norm"), rank)?,
                    b: binder.projection(&name("attn_q_b"), d_q, rank)?,
                },
            },
            kv_a: binder.projection(&name("attn_kv_a_mqa"), mla.kv_lora_rank + mla.rope_dim, d)?,
            kv_a_norm: binder.vector(&norm("attn_kv_a_norm"), mla.kv_lora_rank)?,
            k_b,
            v_b,
            o: binder.projection(&name("attn_output"), d, heads * mla.v_dim)?,
        })
    }

    /// hidden += attention of normed, over compressed rows: W_uk moves to the query, W_uv to the result.
    fn record(&self, to: &mut Recording, plan: &Plan<'_>, layer: usize) {
        let (hyper, b) = (plan.hyper, plan.buffers);
        let mla = hyper.mla.expect("checked when it was bound");
        let (heads, rank, width) = (hyper.n_heads, mla.kv_lora_rank, mla.kv_lora_rank + mla.rope_dim);
        let key_dim = mla.nope_dim + mla.rope_dim;
        self.query(to, plan);
        plan.project(to, &self.kv_a, b.normed, b.kv_a);
        let norm = (self.kv_a_norm, rank, hyper.rms_eps);
        gpu::rms_norm(to, norm, mla.rope_dim, (b.step, None), (b.kv_a, b.latent), plan.shape.subgroups);
        gpu::rope(to, plan.rope(1), None, Rows { offset: rank, ..b.latent });
        let (q, q_latent) = (b.q.with_heads(key_dim), b.q_latent.with_heads(width));
        let (from, onto) = (Rows { offset: mla.nope_dim, ..q }, Rows { offset: rank, ..q_latent });
        gpu::rope(to, plan.rope(heads), Some(from), onto);
        gpu::linear(to, Linear { heads, ..plan.job(&self.k_b) }, q, q_latent);
        let (keys, _) = b.kv[layer];
        gpu::kv_write(to, plan.shape.kv, (1, width), (b.step, b.step_layout.slots), (b.latent, keys));
        let attention = gpu::Attention {
            heads,
            kv_heads: 1,
            key_dim: width,
            value_dim: rank,
            value_row: width,
            scale: softmax_scale(hyper, key_dim),
            kv: plan.shape.kv,
            step: b.step,
            tiles: b.step_layout.tiles,
            positions: b.step_layout.positions,
        };
        gpu::attention(to, attention, b.q_latent, (keys, keys), (b.attended_latent.at, b.parts));
        let (from, onto) = (b.attended_latent.with_heads(rank), b.attended.with_heads(mla.v_dim));
        gpu::linear(to, Linear { heads, ..plan.job(&self.v_b) }, from, onto);
        plan.project_onto(to, &self.o, b.attended, b.hidden);
    }

    /// q <- normed.
    fn query(&self, to: &mut Recording, plan: &Plan<'_>) {
        let b = plan.buffers;
        match &self.q {
            Query::Direct(q) => plan.project(to, q, b.normed, b.q),
            Query::LowRank { a, a_norm, b: q_b } => {
                plan.project(to, a, b.normed, b.q_a);
                plan.norm(to, *a_norm, a.weight.shape.rows, b.q_a, b.q_a_normed);
                plan.project(to, q_b, b.q_a_normed, b.q);
            }
        }
    }
}

impl Mixture {
    fn bind(binder: &mut Binder<'_>, layer: usize, moe: &Moe) -> Result<Self, Error> {
        let name = |stage: &str| format!("blk.{layer}.{stage}");
        let bias = name("exp_probs_b.bias");
        let d = binder.tensors().hyper().d_model;
        Ok(Self {
            router: binder.projection(&name("ffn_gate_inp"), moe.n_experts, d)?,
            bias: match binder.tensors().get(&bias) {
                Some(_) => Some(binder.vector(&bias, moe.n_experts)?),
                None => None,
            },
            shared: match moe.n_shared * moe.d_expert {
                0 => None,
                width => Some(binder.feed_forward(layer, "_shexp", width)?),
            },
            resident: binder.resident(layer, moe)?,
        })
    }

    /// Ends the segment where experts are wanted that do not lie here.
    fn record(&self, segment: &mut Segment, plan: &Plan<'_>, layer: usize) -> Option<Segment> {
        let b = plan.buffers;
        let moe = plan.hyper.moe.expect("checked when it was bound");
        let to = &mut segment.stages;
        plan.project(to, &self.router, b.normed, b.router);
        gpu::route(to, (&moe.router(), moe.n_experts), self.bias, (b.router, b.choices));
        if let Some(tiles) = b.expert_tiles.filter(|_| plan.width == Width::Many) {
            gpu::sort_choices(to, moe.top_k, moe.n_experts, b.choices, tiles);
        }
        if self.resident.as_ref().is_some_and(|resident| resident.n_experts == moe.n_experts) {
            self.on_card(to, plan, &moe);
            return None;
        }
        let mut meanwhile = Recording::default();
        self.on_card(&mut meanwhile, plan, &moe);
        let mut take = Recording::default();
        gpu::add(&mut take, plan.hyper.d_model, b.routed.at, b.hidden.at);
        segment.handover = Some(Handing {
            layer,
            on_card: self.resident.as_ref().map_or(0, |resident| resident.n_experts as u32),
            meanwhile,
            take,
            bring: plan
                .ring
                .and_then(|ring| Some((ring.record(plan, layer, &moe)?, sum(plan, &moe, ring.came)))),
        });
        Some(Segment::default())
    }

    /// hidden += the shared expert, and the routed experts that lie here.
    fn on_card(&self, to: &mut Recording, plan: &Plan<'_>, moe: &Moe) {
        let (b, d) = (plan.buffers, plan.hyper.d_model);
        if let Some(shared) = &self.shared {
            plan.feed_forward(to, shared, b.normed, b.hidden);
        }
        let Some(resident) = &self.resident else { return };
        let chosen = match b.expert_tiles.filter(|_| plan.width == Width::Many) {
            Some(tiles) => Chosen::Tiles(tiles),
            None => Chosen::Each(b.choices),
        };
        for Slots { gate_up, down, table } in &resident.groups {
            let job = |weight, rows, by_token, quantised| ExpertLinear {
                weight,
                rows,
                gate_then_up: false,
                n_experts: moe.n_experts,
                top_k: moe.top_k,
                table: *table,
                chosen,
                by_token,
                quantised,
                threads: plan.expert_threads(rows),
            };
            let gated = job(gate_up, moe.d_expert, true, plan.quantised(gate_up));
            gpu::expert_linear(to, gated, b.normed, b.expert_ffn);
            let down = job(down, d, false, plan.experts_quantised(down));
            gpu::expert_linear(to, down, b.expert_ffn, b.expert_rows);
        }
        to.stages.extend(sum(plan, moe, resident.table).stages);
    }
}

/// hidden += results of the experts that a table has.
fn sum(plan: &Plan<'_>, moe: &Moe, table: Binding) -> Recording {
    let (b, mut to) = (plan.buffers, Recording::default());
    let width = (moe.top_k, plan.hyper.d_model);
    gpu::combine(&mut to, width, (table, b.choices), (b.expert_rows.at, b.hidden.at));
    to
}
