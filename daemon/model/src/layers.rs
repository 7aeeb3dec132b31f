//! Tensors of a dense transformer, found by name and checked against the hyperparameters.

use tensor::Matrix;
use weights::{Hyperparameters, TensorIndex, Weights};

use crate::Error;

/// A weight matrix by its place in the file, with an optional bias.
#[derive(Debug)]
pub(crate) struct Projection {
    weight: TensorIndex,
    bias: Option<Vec<f32>>,
}

impl Projection {
    /// The mapped weights.
    pub(crate) fn matrix<'w>(&self, weights: &'w Weights) -> Matrix<'w> {
        weights.at(self.weight).matrix().expect("shape checked when the model was bound")
    }

    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }
}

/// One decoder layer of Llama and Qwen2.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Vec<f32>,
    pub(crate) q: Projection,
    pub(crate) k: Projection,
    pub(crate) v: Projection,
    pub(crate) o: Projection,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) gate: Projection,
    pub(crate) up: Projection,
    pub(crate) down: Projection,
}

/// All tensors of a model.
#[derive(Debug)]
pub(crate) struct Tensors {
    pub(crate) embedding: Projection,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    pub(crate) head: Projection,
}

impl Tensors {
    pub(crate) fn bind(weights: &Weights) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let (d, vocab) = (hyper.d_model, hyper.n_vocab);
        let head = if hyper.tied { "token_embd" } else { "output" };
        Ok(Self {
            embedding: projection(weights, "token_embd", vocab, d)?,
            layers: (0..hyper.n_layers).map(|i| Layer::bind(weights, hyper, i)).collect::<Result<_, _>>()?,
            output_norm: vector(weights, "output_norm.weight", d)?,
            head: projection(weights, head, vocab, d)?,
        })
    }
}

impl Layer {
    fn bind(weights: &Weights, hyper: &Hyperparameters, layer: usize) -> Result<Self, Error> {
        let (d, ff) = (hyper.d_model, hyper.d_ff);
        let (d_q, d_kv) = (hyper.n_heads * hyper.head_dim, hyper.n_kv_heads * hyper.head_dim);
        let name = |stage: &str| format!("blk.{layer}.{stage}");
        Ok(Self {
            attn_norm: vector(weights, &name("attn_norm.weight"), d)?,
            q: projection(weights, &name("attn_q"), d_q, d)?,
            k: projection(weights, &name("attn_k"), d_kv, d)?,
            v: projection(weights, &name("attn_v"), d_kv, d)?,
            o: projection(weights, &name("attn_output"), d, d_q)?,
            ffn_norm: vector(weights, &name("ffn_norm.weight"), d)?,
            gate: projection(weights, &name("ffn_gate"), ff, d)?,
            up: projection(weights, &name("ffn_up"), ff, d)?,
            down: projection(weights, &name("ffn_down"), d, ff)?,
        })
    }
}

/// `stage.weight` [rows, cols] and, where the file has one, `stage.bias` [rows].
fn projection(weights: &Weights, stage: &str, rows: usize, cols: usize) -> Result<Projection, Error> {
    let name = format!("{stage}.weight");
    let weight = weights.index(&name)?;
    check_shape(&name, weights.at(weight).shape, &[rows, cols])?;
    weights.at(weight).matrix()?;
    let bias_name = format!("{stage}.bias");
    let bias = match weights.tensor(&bias_name) {
        Some(_) => Some(vector(weights, &bias_name, rows)?),
        None => None,
    };
    Ok(Projection { weight, bias })
}

fn vector(weights: &Weights, name: &str, len: usize) -> Result<Vec<f32>, Error> {
    let tensor = weights.at(weights.index(name)?);
    check_shape(name, tensor.shape, &[len])?;
    Ok(tensor.to_f32())
}

fn check_shape(name: &str, got: &[usize], want: &[usize]) -> Result<(), Error> {
    if got != want {
        return Err(Error::TensorShape { name: name.into(), got: got.into(), want: want.into() });
    }
    Ok(())
}
