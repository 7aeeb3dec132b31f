//! Llama and Qwen2 as stages on a card.

use gpu::{Binding, Linear, Recording, Rows};
use tensor::reference::RopePairs;

use super::Plan;
use super::bind::{Binder, FeedForward, GateUp, Projection, Stacked};
use super::deepseek::Segment;
use crate::Error;

/// The layers.
#[derive(Debug)]
pub(crate) struct Dense(Vec<Layer>);

/// Embedding and head.
#[derive(Debug)]
pub(crate) struct Ends {
    embedding: gpu::Weight,
    output_norm: Binding,
    head: gpu::Weight,
}

#[derive(Debug)]
struct Layer {
    attn_norm: Binding,
    qkv: Stacked,
    o: Projection,
    ffn_norm: Binding,
    ffn: FeedForward,
}

impl Dense {
    pub(crate) fn bind(binder: &mut Binder<'_>, n_layers: usize) -> Result<Self, Error> {
        Ok(Self((0..n_layers).map(|i| Layer::bind(binder, i)).collect::<Result<_, _>>()?))
    }

    /// hidden <- the last layer's output.
    pub(crate) fn layers(&self, plan: &Plan<'_>, mut segment: Segment) -> Segment {
        for (i, layer) in self.0.iter().enumerate() {
            layer.record(&mut segment.stages, plan, i);
        }
        segment
    }
}

impl Ends {
    pub(crate) fn bind(binder: &mut Binder<'_>) -> Result<Self, Error> {
        let hyper = binder.tensors().hyper();
        let (d, vocab) = (hyper.d_model, hyper.n_vocab);
        let embedding = binder.matrix("token_embd.weight", vocab, d)?;
        let output_norm = binder.vector("output_norm.weight", d)?;
        let head = if hyper.tied { embedding.clone() } else { binder.matrix("output.weight", vocab, d)? };
        Ok(Self { embedding, output_norm, head })
    }

    pub(crate) fn embed(&self, recording: &mut Recording, plan: &Plan<'_>) {
        let b = plan.buffers;
        let ids = gpu::Embedding { step: b.step, ids: b.step_layout.ids };
        gpu::embedding(recording, &self.embedding, ids, b.hidden);
    }

    pub(crate) fn head(&self, plan: &Plan<'_>) -> Recording {
        let (b, hyper) = (plan.buffers, plan.hyper);
        let mut recording = Recording::default();
        let norm = (self.output_norm, hyper.d_model, hyper.rms_eps);
        let rows = (b.step, Some(b.step_layout.wanted));
        gpu::rms_norm(&mut recording, norm, 0, rows, (b.hidden, b.wanted), plan.shape.subgroups);
        let job = Linear { wanted: true, ..plan.job(&self.head) };
        gpu::linear(&mut recording, job, b.wanted, b.logits);
        recording
    }

    /// best <- the largest of each row of logits.
    pub(crate) fn best(&self, plan: &Plan<'_>) -> Recording {
        let mut recording = Recording::default();
        gpu::argmax(&mut recording, plan.hyper.n_vocab, plan.buffers.logits, plan.buffers.best);
        recording
    }
}

impl Plan<'_> {
    /// out = W x.
    pub(crate) fn job<'w>(&self, weight: &'w gpu::Weight) -> Linear<'w> {
        let job = Linear::new(weight, self.threads(weight.shape.rows));
        Linear { tokens: self.tokens(), quantised: self.quantised(weight), ..job }
    }

    /// out = W x + b.
    pub(crate) fn project(&self, recording: &mut Recording, projection: &Projection, x: Rows, out: Rows) {
        let job = Linear { bias: projection.bias, ..self.job(&projection.weight) };
        gpu::linear(recording, job, x, out);
    }

    /// The same of projections side by side.
    pub(crate) fn project_stacked(&self, recording: &mut Recording, stacked: &Stacked, x: Rows, out: Rows) {
        for (projection, at) in &stacked.pieces {
            self.project(recording, projection, x, out.at_offset(out.offset + at));
        }
    }

    /// out = W x + b + out.
    pub(crate) fn project_onto(
        &self,
        recording: &mut Recording,
        projection: &Projection,
        x: Rows,
        out: Rows,
    ) {
        let job = Linear { bias: projection.bias, add: true, ..self.job(&projection.weight) };
        gpu::linear(recording, job, x, out);
    }

    /// out = norm(x).
    pub(crate) fn norm(&self, recording: &mut Recording, weight: Binding, width: usize, x: Rows, out: Rows) {
        let norm = (weight, width, self.hyper.rms_eps);
        gpu::rms_norm(recording, norm, 0, (self.buffers.step, None), (x, out), self.shape.subgroups);
    }

    /// Rotates the heads of `x`, from `offset` values of each on, in place.
    pub(crate) fn rotate(&self, recording: &mut Recording, heads: usize, x: Rows) {
        gpu::rope(recording, self.rope(heads), None, x);
    }

    pub(crate) fn rope(&self, heads: usize) -> gpu::Rope {
        let rope = &self.hyper.rope;
        gpu::Rope {
            heads,
            dim: rope.dim,
            neighbours: rope.pairs == RopePairs::Interleaved,
            step: self.buffers.step,
            angles: self.buffers.step_layout.angles,
        }
    }

    /// out = out + feed-forward(x).
    pub(crate) fn feed_forward(&self, recording: &mut Recording, ffn: &FeedForward, x: Rows, out: Rows) {
        let b = self.buffers;
        let (inner, gate, up) =
            (b.ffn.of_width(ffn.width), b.gate.of_width(ffn.width), b.up.of_width(ffn.width));
        match &ffn.gate_up {
            GateUp::Fused(weight) => gpu::linear(recording, self.job(weight), x, inner),
            GateUp::Apart(gate_weight, up_weight) => {
                gpu::linear(recording, self.job(gate_weight), x, gate);
                gpu::linear(recording, self.job(up_weight), x, up);
                gpu::swiglu(recording, ffn.width, gate.at, up.at, inner.at);
            }
        }
        gpu::linear(recording, Linear { add: true, ..self.job(&ffn.down) }, inner, out);
    }
}

impl Layer {
    fn bind(binder: &mut Binder<'_>, layer: usize) -> Result<Self, Error> {
        let hyper = binder.tensors().hyper();
        let d = hyper.d_model;
        let (d_q, d_kv) = (hyper.n_heads * hyper.head_dim, hyper.n_kv_heads * hyper.head_dim);
        let name = |stage: &str| format!("blk.{layer}.{stage}");
        Ok(Self {
            attn_norm: binder.vector(&name("attn_norm.weight"), d)?,
            qkv: binder
                .stacked(&[(name("attn_q"), d_q), (name("attn_k"), d_kv), (name("attn_v"), d_kv)], d)?,
            o: binder.projection(&name("attn_output"), d, d_q)?,
            ffn_norm: binder.vector(&name("ffn_norm.weight"), d)?,
            ffn: binder.feed_forward(layer, "", hyper.d_ff)?,
        })
    }

    fn record(&self, to: &mut Recording, plan: &Plan<'_>, layer: usize) {
        let (hyper, b) = (plan.hyper, plan.buffers);
        let (heads, kv_heads, dim) = (hyper.n_heads, hyper.n_kv_heads, hyper.head_dim);
        plan.norm(to, self.attn_norm, hyper.d_model, b.hidden, b.normed);
        plan.project_stacked(to, &self.qkv, b.normed, b.q);
        // Queries, then keys: one row of heads.
        plan.rotate(to, heads + kv_heads, b.q.with_heads(dim));
        let (keys, values) = b.kv[layer];
        let slots = (b.step, b.step_layout.slots);
        let k = b.q.at_offset(heads * dim);
        let v = b.q.at_offset((heads + kv_heads) * dim);
        gpu::kv_write(to, plan.shape.kv, (kv_heads, dim), slots, (k, keys));
        gpu::kv_write(to, plan.shape.kv, (kv_heads, dim), slots, (v, values));
        let attention = gpu::Attention {
            heads,
            kv_heads,
            key_dim: dim,
            value_dim: dim,
            value_row: dim,
            scale: (dim as f32).sqrt().recip(),
            kv: plan.shape.kv,
            step: b.step,
            tiles: b.step_layout.tiles,
            positions: b.step_layout.positions,
        };
        gpu::attention(to, attention, b.q, (keys, values), (b.attended.at, b.parts));
        plan.project_onto(to, &self.o, b.attended, b.hidden);

        plan.norm(to, self.ffn_norm, hyper.d_model, b.hidden, b.normed);
        plan.feed_forward(to, &self.ffn, b.normed, b.hidden);
    }
}
