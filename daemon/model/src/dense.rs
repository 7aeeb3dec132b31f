//! Llama and Qwen2: the layer loop.
//!
//! Source: Touvron et al. 2023, arXiv:2302.13971 (Llama); Yang et al. 2024, arXiv:2407.10671 (Qwen2: a bias on Q, K, V).

use kernels::{AttentionShape, Fit};
use weights::{Hyperparameters, Weights};

use crate::Error;
use crate::layers::{FeedForward, FfnBuffers, Projection, vector};
use crate::pass::Pass;

/// The decoder layers.
#[derive(Debug)]
pub(crate) struct Dense {
    layers: Vec<Layer>,
    shape: AttentionShape,
    activations: Activations,
}

#[derive(Debug)]
struct Layer {
    attn_norm: Vec<f32>,
    q: Projection,
    k: Projection,
    v: Projection,
    o: Projection,
    ffn_norm: Vec<f32>,
    ffn: FeedForward,
}

/// Activations of one step, [n_tokens, width] each; grown once, then reused.
#[derive(Debug, Default)]
struct Activations {
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    ffn: FfnBuffers,
    out: Vec<f32>,
}

impl Dense {
    pub(crate) fn bind(weights: &Weights) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let shape = AttentionShape {
            n_heads: hyper.n_heads,
            n_kv_heads: hyper.n_kv_heads,
            key_dim: hyper.head_dim,
            value_dim: hyper.head_dim,
            scale: (hyper.head_dim as f32).sqrt().recip(),
        };
        let layers = (0..hyper.n_layers).map(|i| Layer::bind(weights, hyper, i)).collect::<Result<_, _>>()?;
        Ok(Self { layers, shape, activations: Activations::default() })
    }

    /// hidden [n_tokens, d_model] <- the last layer's output, of layer `from`'s input.
    pub(crate) fn forward(&mut self, pass: &mut Pass<'_>, hidden: &mut [f32], from: usize) {
        let Self { layers, shape, activations: a } = self;
        let (hyper, weights, n) = (pass.hyper(), pass.weights, pass.n_tokens());
        let (shape, seqs, positions) = (*shape, pass.batch.seqs(), &pass.batch.positions);
        a.resize(hyper, n);
        for (i, layer) in layers.iter().enumerate().skip(from) {
            let Pass { cpu, kv, rope, .. } = &mut *pass;
            cpu.rms_norm(&mut a.normed, hidden, &layer.attn_norm, hyper.rms_eps);
            let (q, k) = (layer.q.job(weights, &mut a.q), layer.k.job(weights, &mut a.k));
            cpu.linear(&a.normed, n, &mut [q, k, layer.v.job(weights, &mut a.v)]);
            cpu.rope(&mut a.q, shape.n_heads, (shape.key_dim, 0), rope, positions);
            cpu.rope(&mut a.k, shape.n_kv_heads, (shape.key_dim, 0), rope, positions);
            cpu.kv_write(kv.layer_mut(i), shape, &a.k, Some(&a.v), &seqs);
            cpu.attention(&mut a.attended, &a.q, &seqs, shape, kv.layer(i));
            cpu.linear(&a.attended, n, &mut [layer.o.job(weights, &mut a.out)]);
            cpu.add(hidden, &a.out);

            cpu.rms_norm(&mut a.normed, hidden, &layer.ffn_norm, hyper.rms_eps);
            layer.ffn.forward(cpu, weights, &a.normed, &mut a.out, &mut a.ffn);
            cpu.add(hidden, &a.out);
            pass.trace_hidden(i, hidden);
        }
    }
}

impl Layer {
    fn bind(weights: &Weights, hyper: &Hyperparameters, layer: usize) -> Result<Self, Error> {
        let d = hyper.d_model;
        let (d_q, d_kv) = (hyper.n_heads * hyper.head_dim, hyper.n_kv_heads * hyper.head_dim);
        let name = |stage: &str| format!("blk.{layer}.{stage}");
        Ok(Self {
            attn_norm: vector(weights, &name("attn_norm.weight"), d)?,
            q: Projection::bind(weights, &name("attn_q"), d_q, d)?,
            k: Projection::bind(weights, &name("attn_k"), d_kv, d)?,
            v: Projection::bind(weights, &name("attn_v"), d_kv, d)?,
            o: Projection::bind(weights, &name("attn_output"), d, d_q)?,
            ffn_norm: vector(weights, &name("ffn_norm.weight"), d)?,
            ffn: FeedForward::bind(weights, layer, "", hyper.d_ff)?,
        })
    }
}

impl Activations {
    fn resize(&mut self, hyper: &Hyperparameters, n: usize) {
        let d = n * hyper.d_model;
        let (d_q, d_kv) = (n * hyper.n_heads * hyper.head_dim, n * hyper.n_kv_heads * hyper.head_dim);
        let Self { normed, q, k, v, attended, out, ffn: _ } = self;
        for (buffer, len) in [(normed, d), (q, d_q), (k, d_kv), (v, d_kv), (attended, d_q), (out, d)] {
            buffer.fit(len);
        }
    }
}
