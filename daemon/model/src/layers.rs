//! Tensors found by name and checked against the hyperparameters; the feed-forward that all architectures share.

use kernels::{Cpu, Fit, Linear};
use tensor::Matrix;
use weights::{TensorIndex, Weights};

use crate::Error;

/// A weight matrix by its place in the file, with an optional bias.
#[derive(Debug)]
pub(crate) struct Projection {
    weight: TensorIndex,
    bias: Option<Vec<f32>>,
}

impl Projection {
    /// `stage.weight` [rows, cols] and, where the file has one, `stage.bias` [rows].
    pub(crate) fn bind(weights: &Weights, stage: &str, rows: usize, cols: usize) -> Result<Self, Error> {
        let name = format!("{stage}.weight");
        let weight = weights.index(&name)?;
        check_shape(&name, weights.at(weight).shape, &[rows, cols])?;
        weights.at(weight).matrix()?;
        let bias_name = format!("{stage}.bias");
        let bias = match weights.tensor(&bias_name) {
            Some(_) => Some(vector(weights, &bias_name, rows)?),
            None => None,
        };
        Ok(Self { weight, bias })
    }

    /// The same where the file has it, `None` where not.
    pub(crate) fn bind_optional(
        weights: &Weights,
        stage: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Option<Self>, Error> {
        let there = weights.tensor(&format!("{stage}.weight")).is_some();
        there.then(|| Self::bind(weights, stage, rows, cols)).transpose()
    }

    /// The mapped weights.
    pub(crate) fn matrix<'w>(&self, weights: &'w Weights) -> Matrix<'w> {
        weights.at(self.weight).matrix().expect("shape checked when the model was bound")
    }

    /// A job of a linear stage: out <- W x + b.
    pub(crate) fn job<'a>(&'a self, weights: &'a Weights, out: &'a mut [f32]) -> Linear<'a> {
        Linear::new(self.matrix(weights), out).bias(self.bias.as_deref())
    }
}

/// Tokens that go through a feed-forward together: its activations are the widest of a layer, and more tokens at once make
/// nothing faster.
pub(crate) const FFN_TOKENS: usize = 512;

/// What stands outside the layers.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) embedding: Projection,
    pub(crate) output_norm: Vec<f32>,
    pub(crate) head: Projection,
}

impl Ends {
    pub(crate) fn bind(weights: &Weights) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let (d, vocab) = (hyper.d_model, hyper.n_vocab);
        let head = if hyper.tied { "token_embd" } else { "output" };
        Ok(Self {
            embedding: Projection::bind(weights, "token_embd", vocab, d)?,
            output_norm: vector(weights, "output_norm.weight", d)?,
            head: Projection::bind(weights, head, vocab, d)?,
        })
    }
}

/// The gated feed-forward: down(silu(gate x) * up x).
///
/// Source: Shazeer 2020, arXiv:2002.05202.
#[derive(Debug)]
pub(crate) struct FeedForward {
    gate: Projection,
    up: Projection,
    down: Projection,
    d_model: usize,
    width: usize,
}

/// Activations of a feed-forward, [n_tokens, width] each, of [`FFN_TOKENS`] at most.
#[derive(Debug, Default)]
pub(crate) struct FfnBuffers {
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
    pub(crate) ffn: Vec<f32>,
}

impl FeedForward {
    /// `blk.N.ffn_gate{suffix}` and its like.
    pub(crate) fn bind(weights: &Weights, layer: usize, suffix: &str, width: usize) -> Result<Self, Error> {
        let d = weights.hyper().d_model;
        let bind = |stage: &str, rows, cols| {
            Projection::bind(weights, &format!("blk.{layer}.ffn_{stage}{suffix}"), rows, cols)
        };
        Ok(Self {
            gate: bind("gate", width, d)?,
            up: bind("up", width, d)?,
            down: bind("down", d, width)?,
            d_model: d,
            width,
        })
    }

    /// out <- the feed-forward of x, both [n_tokens, d_model].
    pub(crate) fn forward(
        &self,
        cpu: &mut Cpu,
        weights: &Weights,
        x: &[f32],
        out: &mut [f32],
        buffers: &mut FfnBuffers,
    ) {
        let FfnBuffers { gate, up, ffn } = buffers;
        let piece = FFN_TOKENS * self.d_model;
        for (x, out) in x.chunks(piece).zip(out.chunks_mut(piece)) {
            let n = x.len() / self.d_model;
            for buffer in [&mut *gate, &mut *up, &mut *ffn] {
                buffer.fit(n * self.width);
            }
            cpu.linear(x, n, &mut [self.gate.job(weights, gate), self.up.job(weights, up)]);
            cpu.swiglu(ffn, gate, up);
            cpu.linear(ffn, n, &mut [self.down.job(weights, out)]);
        }
    }
}

/// The vector called `name`, as f32.
pub(crate) fn vector(weights: &Weights, name: &str, len: usize) -> Result<Vec<f32>, Error> {
    let tensor = weights.at(weights.index(name)?);
    check_shape(name, tensor.shape, &[len])?;
    Ok(tensor.to_f32())
}

pub(crate) fn check_shape(name: &str, got: &[usize], want: &[usize]) -> Result<(), Error> {
    if got != want {
        return Err(Error::TensorShape { name: name.into(), got: got.into(), want: want.into() });
    }
    Ok(())
}
