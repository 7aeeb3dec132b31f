//! Weights by name: where each will lie on the card, and what of the file is written there.

use gpu::{Binding, Layout, Weight, WeightShape};
use tensor::Matrix;
use weights::{TensorIndex, Weights};

use crate::Error;
use crate::layers::check_shape;

/// What is written to the card before the first step.
#[derive(Debug)]
pub(crate) enum Upload {
    /// A vector, as f32.
    Vector(TensorIndex, Binding),
    /// A matrix, or gate and up.
    Matrix(Vec<TensorIndex>, Weight),
}

/// Plans weights one after another.
#[derive(Debug)]
pub(crate) struct Binder<'a> {
    weights: &'a Weights,
    layout: &'a mut Layout,
    uploads: Vec<Upload>,
}

/// A projection on the card, with an optional bias.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Binding>,
}

/// A gated feed-forward on the card.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate_up: GateUp,
    pub(crate) down: Weight,
    pub(crate) width: usize,
}

/// Gate and up in one where they are of one format.
#[derive(Debug)]
pub(crate) enum GateUp {
    Fused(Weight),
    Apart(Weight, Weight),
}

impl<'a> Binder<'a> {
    pub(crate) fn new(weights: &'a Weights, layout: &'a mut Layout) -> Self {
        Self { weights, layout, uploads: Vec::new() }
    }

    pub(crate) fn weights(&self) -> &'a Weights {
        self.weights
    }

    pub(crate) fn into_uploads(self) -> Vec<Upload> {
        self.uploads
    }

    /// The vector called `name` [len].
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Binding, Error> {
        let index = self.weights.index(name)?;
        check_shape(name, self.weights.at(index).shape, &[len])?;
        let at = self.layout.vector(len);
        self.uploads.push(Upload::Vector(index, at));
        Ok(at)
    }

    /// The matrix called `name` [rows, cols].
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight, Error> {
        let index = self.find(name, rows, cols)?;
        Ok(self.place(vec![index], rows, cols))
    }

    /// `stage.weight` [rows, cols] and, where the file has one, `stage.bias` [rows].
    pub(crate) fn projection(&mut self, stage: &str, rows: usize, cols: usize) -> Result<Projection, Error> {
        let weight = self.matrix(&format!("{stage}.weight"), rows, cols)?;
        let name = format!("{stage}.bias");
        let bias = match self.weights.tensor(&name) {
            Some(_) => Some(self.vector(&name, rows)?),
            None => None,
        };
        Ok(Projection { weight, bias })
    }

    /// `blk.N.ffn_gate{suffix}` and its like.
    pub(crate) fn feed_forward(
        &mut self,
        layer: usize,
        suffix: &str,
        width: usize,
    ) -> Result<FeedForward, Error> {
        let d = self.weights.hyper().d_model;
        let name = |part: &str| format!("blk.{layer}.ffn_{part}{suffix}.weight");
        let (gate, up) = (self.find(&name("gate"), width, d)?, self.find(&name("up"), width, d)?);
        let gate_up = if self.weights.at(gate).dtype == self.weights.at(up).dtype {
            GateUp::Fused(self.place(vec![gate, up], width, d))
        } else {
            GateUp::Apart(self.place(vec![gate], width, d), self.place(vec![up], width, d))
        };
        Ok(FeedForward { gate_up, down: self.matrix(&name("down"), d, width)?, width })
    }

    fn find(&self, name: &str, rows: usize, cols: usize) -> Result<TensorIndex, Error> {
        let index = self.weights.index(name)?;
        check_shape(name, self.weights.at(index).shape, &[rows, cols])?;
        self.weights.at(index).matrix()?;
        Ok(index)
    }

    fn place(&mut self, parts: Vec<TensorIndex>, rows: usize, cols: usize) -> Weight {
        let dtype = self.weights.at(parts[0]).dtype;
        let weight = self.layout.weight(WeightShape { dtype, rows, cols, parts: parts.len() });
        self.uploads.push(Upload::Matrix(parts, weight.clone()));
        weight
    }
}

impl Upload {
    /// Writes it; `progress` is told of every piece's bytes.
    ///
    /// # Errors
    /// The card was lost.
    pub(crate) fn write(
        &self,
        program: &gpu::Program,
        weights: &Weights,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), gpu::Error> {
        match self {
            Self::Vector(index, at) => {
                let values = weights.at(*index).to_f32();
                program.write(*at, bytemuck::cast_slice(&values));
                progress(at.bytes());
                Ok(())
            }
            Self::Matrix(parts, weight) => {
                let matrix =
                    |index: &TensorIndex| weights.at(*index).matrix().expect("checked when it was bound");
                let parts: Vec<Matrix<'_>> = parts.iter().map(matrix).collect();
                program.upload(weight, &parts, progress)
            }
        }
    }
}
