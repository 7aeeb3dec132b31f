//! Weights by name: where each will lie on the card, and what of the file is written there.

use gpu::{Binding, Layout, Weight, WeightShape};
use shaders::format_of;
use tensor::{DType, LANES, Matrix, SCALE_BLOCK};
use weights::{ExpertKey, ExpertPart, Mla, Moe, TensorIndex, Weights};

use super::deepseek::Resident;
use super::per_head::PerHead;
use crate::Error;
use crate::layers::check_shape;

/// The slot of an expert that does not lie on the card: `NOWHERE` in `expert_linear.wgsl`.
const NOWHERE: u32 = u32::MAX;

/// What is written to the card before the first step.
#[derive(Debug)]
pub(crate) enum Upload {
    /// A vector, as f32.
    Vector(TensorIndex, Binding),
    /// A matrix, or gate and up, from a row of the weight on.
    Matrix(Vec<TensorIndex>, Weight, usize),
    /// A matrix for every head.
    PerHead(PerHead, Weight),
    /// Numbers.
    Words(Vec<u32>, Binding),
}

/// Plans weights one after another.
#[derive(Debug)]
pub(crate) struct Binder<'a> {
    weights: &'a Weights,
    layout: &'a mut Layout,
    uploads: Vec<Upload>,
    /// Routed experts of each layer that lie on the card, at most.
    experts: usize,
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
    pub(crate) fn new(weights: &'a Weights, layout: &'a mut Layout, experts: usize) -> Self {
        Self { weights, layout, uploads: Vec::new(), experts }
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

    /// W_uk, transposed, and W_uv of every head.
    pub(crate) fn per_head(
        &mut self,
        layer: usize,
        heads: usize,
        mla: &Mla,
    ) -> Result<(Weight, Weight), Error> {
        let (k, v) = PerHead::find(self.weights, layer, heads, mla)?;
        let mut place = |per_head: PerHead| {
            let weight = self.layout.weight(per_head.shape());
            self.uploads.push(Upload::PerHead(per_head, weight.clone()));
            weight
        };
        Ok((place(k), place(v)))
    }

    /// As many routed experts of a layer as lie on the card: the first ones, in slots. None where they are read from a drive,
    /// or their matrices can't be laid out.
    pub(crate) fn resident(&mut self, layer: usize, moe: &Moe) -> Result<Option<Resident>, Error> {
        let d = self.weights.hyper().d_model;
        if self.experts == 0 || self.weights.is_resident() {
            return Ok(None);
        }
        let find = |binder: &Self, expert: usize, part: ExpertPart, rows, cols| {
            let key = ExpertKey { layer: layer as u32, expert: expert as u32 };
            binder.find(&key.tensor_name(part), rows, cols)
        };
        let of = |binder: &Self, expert| -> Result<[TensorIndex; 3], Error> {
            Ok([
                find(binder, expert, ExpertPart::Gate, moe.d_expert, d)?,
                find(binder, expert, ExpertPart::Up, moe.d_expert, d)?,
                find(binder, expert, ExpertPart::Down, d, moe.d_expert)?,
            ])
        };
        let dtypes = of(self, 0)?.map(|index| self.weights.at(index).dtype);
        let n_slots = self.slots(dtypes, moe, d);
        if n_slots == 0 {
            return Ok(None);
        }
        let (gate_up, down) = (
            self.slab_of(dtypes[0], n_slots * moe.d_expert, d, 2),
            self.slab_of(dtypes[2], n_slots * d, moe.d_expert, 1),
        );
        let table = self.layout.words(moe.n_experts);
        for expert in 0..n_slots {
            let [gate, up, its_down] = of(self, expert)?;
            self.uploads.push(Upload::Matrix(vec![gate, up], gate_up.clone(), expert * moe.d_expert));
            self.uploads.push(Upload::Matrix(vec![its_down], down.clone(), expert * d));
        }
        let slot = |expert: usize| if expert < n_slots { expert as u32 } else { NOWHERE };
        self.uploads.push(Upload::Words((0..moe.n_experts).map(slot).collect(), table));
        Ok(Some(Resident { gate_up, down, table, n_slots }))
    }

    /// Slots of a layer: each of its matrices is bound at once, in whole blocks of rows.
    fn slots(&self, dtypes: [DType; 3], moe: &Moe, d: usize) -> usize {
        let [gate, up, down] = dtypes;
        let whole = |dtype: DType| if dtype == DType::F8E4M3 { SCALE_BLOCK } else { LANES };
        let fits = gate == up && moe.d_expert.is_multiple_of(whole(gate)) && d.is_multiple_of(whole(down));
        if !fits {
            return 0;
        }
        let rows = |dtype, rows: usize, cols| (rows / LANES * format_of(dtype).row_block_bytes(cols)) as u64;
        let largest = (2 * rows(gate, moe.d_expert, d)).max(rows(down, d, moe.d_expert));
        self.experts.min(moe.n_experts).min((self.layout.binding_max() / largest) as usize)
    }

    fn slab_of(&mut self, dtype: DType, rows: usize, cols: usize, parts: usize) -> Weight {
        self.layout.weight(WeightShape { dtype, rows, cols, parts })
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
        self.uploads.push(Upload::Matrix(parts, weight.clone(), 0));
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
            Self::Matrix(parts, weight, at) => {
                let matrix =
                    |index: &TensorIndex| weights.at(*index).matrix().expect("checked when it was bound");
                let parts: Vec<Matrix<'_>> = parts.iter().map(matrix).collect();
                program.upload(weight, *at, &parts, progress)
            }
            Self::PerHead(per_head, weight) => {
                let bytes = per_head.bytes(weights);
                program.upload(weight, 0, &[per_head.matrix(&bytes)], progress)
            }
            Self::Words(words, at) => {
                program.write(*at, bytemuck::cast_slice(words));
                Ok(())
            }
        }
    }
}
