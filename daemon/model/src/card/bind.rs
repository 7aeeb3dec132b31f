//! Weights by name: where each will lie on the card, and what of the file is written there.

use std::ops::Range;

use gpu::{Binding, Layout, Weight, WeightShape};
use shaders::format_of;
use tensor::{DType, LANES, Matrix, SCALE_BLOCK};
use weights::{ExpertKey, ExpertPart, Mla, Moe, Weights};

use super::deepseek::{Resident, Slots};
use super::per_head::PerHead;
use super::tensors::Tensors;
use crate::Error;
use crate::placement::Kernel;

/// The slot of an expert that does not lie on the card: `NOWHERE` in `expert_linear.wgsl`.
pub(super) const NOWHERE: u32 = u32::MAX;

const FOUND: &str = "found when it was planned";

/// What is written to the card before the first step.
#[derive(Debug)]
pub(crate) enum Upload {
    /// A vector, as f32.
    Vector(String, Binding),
    /// A matrix, or gate and up, from a row of the weight on.
    Matrix(Vec<String>, Weight, usize),
    /// A matrix for every head.
    PerHead(PerHead, Weight),
    /// Numbers.
    Words(Vec<u32>, Binding),
}

/// Plans weights one after another.
#[derive(Debug)]
pub(crate) struct Binder<'a> {
    tensors: &'a Tensors<'a>,
    layout: &'a mut Layout,
    uploads: Vec<Upload>,
    /// Routed experts of each layer that lie on the card, at most.
    experts: usize,
    /// Nothing is rounded that need not be.
    exact: bool,
}

/// What matrices have to share to lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    dtype: DType,
    kernel: Kernel,
}

/// A projection on the card, with an optional bias.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Binding>,
}

/// Projections of the same activations, side by side in one buffer: one weight where the file lets them lie so.
#[derive(Debug)]
pub(crate) struct Stacked {
    /// Each with the place of its first value.
    pub(crate) pieces: Vec<(Projection, usize)>,
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
    pub(crate) fn new(
        tensors: &'a Tensors<'a>,
        layout: &'a mut Layout,
        (experts, exact): (usize, bool),
    ) -> Self {
        Self { tensors, layout, uploads: Vec::new(), experts, exact }
    }

    pub(crate) fn tensors(&self) -> &'a Tensors<'a> {
        self.tensors
    }

    pub(crate) fn into_uploads(self) -> Vec<Upload> {
        self.uploads
    }

    /// The vector called `name` [len].
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Binding, Error> {
        self.tensors.require(name, &[len])?;
        let at = self.layout.vector(len);
        self.uploads.push(Upload::Vector(name.to_owned(), at));
        Ok(at)
    }

    /// The matrix called `name` [rows, cols].
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight, Error> {
        let kind = self.kind(name, &[rows, cols])?;
        Ok(self.place(kind, vec![name.to_owned()], rows, cols))
    }

    /// `stage.weight` [rows, cols] and, where the file has one, `stage.bias` [rows].
    pub(crate) fn projection(&mut self, stage: &str, rows: usize, cols: usize) -> Result<Projection, Error> {
        let weight = self.matrix(&format!("{stage}.weight"), rows, cols)?;
        let name = format!("{stage}.bias");
        let bias = match self.tensors.get(&name) {
            Some(_) => Some(self.vector(&name, rows)?),
            None => None,
        };
        Ok(Projection { weight, bias })
    }

    /// Projections of one input, [rows, cols] each: one below the other where they are of one format and of whole blocks of
    /// rows, and all or none have a bias.
    pub(crate) fn stacked(&mut self, stages: &[(String, usize)], cols: usize) -> Result<Stacked, Error> {
        let mut kinds = Vec::new();
        for (stage, rows) in stages {
            kinds.push(self.kind(&format!("{stage}.weight"), &[*rows, cols])?);
        }
        let bias = |stage: &str| format!("{stage}.bias");
        let biased = stages.iter().filter(|(stage, _)| self.tensors.get(&bias(stage)).is_some()).count();
        let block = if kinds[0].dtype == DType::F8E4M3 { SCALE_BLOCK } else { LANES };
        let fits = kinds.iter().all(|kind| *kind == kinds[0])
            && stages.iter().all(|(_, rows)| rows.is_multiple_of(block))
            && (biased == 0 || biased == stages.len());
        let starts = stages.iter().scan(0, |start, (_, rows)| {
            *start += rows;
            Some(*start - rows)
        });
        let starts: Vec<usize> = starts.collect();
        if !fits {
            let pieces = stages.iter().zip(starts);
            let pieces = pieces.map(|((stage, rows), at)| Ok((self.projection(stage, *rows, cols)?, at)));
            return Ok(Stacked { pieces: pieces.collect::<Result<_, Error>>()? });
        }
        let rows = stages.iter().map(|(_, rows)| rows).sum();
        let weight = self.weight(kinds[0], rows, cols, 1);
        let together = (biased > 0).then(|| self.layout.vector(rows));
        for ((stage, rows), at) in stages.iter().zip(starts) {
            self.uploads.push(Upload::Matrix(vec![format!("{stage}.weight")], weight.clone(), at));
            if let Some(together) = together {
                self.tensors.require(&bias(stage), &[*rows])?;
                self.uploads.push(Upload::Vector(bias(stage), together.from(4 * at as u64)));
            }
        }
        Ok(Stacked { pieces: vec![(Projection { weight, bias: together }, 0)] })
    }

    /// `blk.N.ffn_gate{suffix}` and its like.
    pub(crate) fn feed_forward(
        &mut self,
        layer: usize,
        suffix: &str,
        width: usize,
    ) -> Result<FeedForward, Error> {
        let d = self.tensors.hyper().d_model;
        let name = |part: &str| format!("blk.{layer}.ffn_{part}{suffix}.weight");
        let (gate, up) = (self.kind(&name("gate"), &[width, d])?, self.kind(&name("up"), &[width, d])?);
        let names = ["gate", "up"].map(name);
        let gate_up = if gate == up {
            GateUp::Fused(self.place(gate, names.to_vec(), width, d))
        } else {
            let [gate_name, up_name] = names;
            GateUp::Apart(
                self.place(gate, vec![gate_name], width, d),
                self.place(up, vec![up_name], width, d),
            )
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
        let (k, v) = PerHead::find(self.tensors, layer, heads, mla, self.exact)?;
        let mut place = |per_head: PerHead| {
            let weight = self.layout.weight(per_head.shape());
            self.uploads.push(Upload::PerHead(per_head.clone(), weight.clone()));
            weight
        };
        Ok((place(k), place(v)))
    }

    /// As many routed experts of a layer as lie on the card: the first ones, in slots. None where they are read from a drive,
    /// or their matrices can't be laid out.
    pub(crate) fn resident(&mut self, layer: usize, moe: &Moe) -> Result<Option<Resident>, Error> {
        let d = self.tensors.hyper().d_model;
        if self.experts == 0 || self.tensors.experts_stream() {
            return Ok(None);
        }
        let shape = |part| if part == ExpertPart::Down { [d, moe.d_expert] } else { [moe.d_expert, d] };
        let name =
            |expert: usize, part| ExpertKey { layer: layer as u32, expert: expert as u32 }.tensor_name(part);
        let mut kinds = Vec::new();
        for part in ExpertPart::ALL {
            kinds.push(self.kind(&name(0, part), &shape(part))?);
        }
        let a_binding = self.slots(&kinds, moe, d);
        if a_binding == 0 {
            return Ok(None);
        }
        let n_experts = self.experts.min(moe.n_experts);
        let mut groups = Vec::new();
        for first in (0..n_experts).step_by(a_binding) {
            let experts = first..(first + a_binding).min(n_experts);
            let gate_up = self.weight(kinds[0], experts.len() * moe.d_expert, d, 2);
            let down = self.weight(kinds[2], experts.len() * d, moe.d_expert, 1);
            for (slot, expert) in experts.clone().enumerate() {
                let [gate, up, its_down] = ExpertPart::ALL.map(|part| name(expert, part));
                self.uploads.push(Upload::Matrix(vec![gate, up], gate_up.clone(), slot * moe.d_expert));
                self.uploads.push(Upload::Matrix(vec![its_down], down.clone(), slot * d));
            }
            let table = self.table(moe.n_experts, experts.clone());
            groups.push(Slots { gate_up, down, table });
        }
        let table = self.table(moe.n_experts, 0..n_experts);
        Ok(Some(Resident { groups, table, n_experts }))
    }

    /// Of each expert of a layer its slot, where it is one of `experts`.
    fn table(&mut self, n_experts: usize, experts: Range<usize>) -> Binding {
        let table = self.layout.words(n_experts);
        let slot = |expert| if experts.contains(&expert) { (expert - experts.start) as u32 } else { NOWHERE };
        self.uploads.push(Upload::Words((0..n_experts).map(slot).collect(), table));
        table
    }

    /// Experts of a layer whose matrices are bound at once; none where these can't be cut into whole blocks of rows.
    fn slots(&self, kinds: &[Kind], moe: &Moe, d: usize) -> usize {
        let &[gate, up, down] = kinds else { return 0 };
        if gate != up {
            return 0;
        }
        let (gate, down) = (gate.dtype, down.dtype);
        let whole = |dtype: DType| if dtype == DType::F8E4M3 { SCALE_BLOCK } else { LANES };
        let fits = moe.d_expert.is_multiple_of(whole(gate)) && d.is_multiple_of(whole(down));
        if !fits {
            return 0;
        }
        let rows = |dtype, rows: usize, cols| (rows / LANES * format_of(dtype).row_block_bytes(cols)) as u64;
        let largest = (2 * rows(gate, moe.d_expert, d)).max(rows(down, d, moe.d_expert));
        (self.layout.binding_max() / largest) as usize
    }

    fn weight(&mut self, kind: Kind, rows: usize, cols: usize, parts: usize) -> Weight {
        let weight = self.layout.weight(WeightShape { dtype: kind.dtype, rows, cols, parts });
        let int8 = match kind.kernel {
            Kernel::Auto => None,
            Kernel::F32 => Some(false),
            Kernel::Int8 => Some(true),
        };
        Weight { int8, ..weight }
    }

    /// How the matrix called `name` of this shape is to lie, and to be computed with.
    fn kind(&self, name: &str, shape: &[usize]) -> Result<Kind, Error> {
        let dtype = self.tensors.require(name, shape)?.dtype;
        Ok(Kind { dtype, kernel: self.tensors.kernel(name) })
    }

    fn place(&mut self, kind: Kind, parts: Vec<String>, rows: usize, cols: usize) -> Weight {
        let weight = self.weight(kind, rows, cols, parts.len());
        self.uploads.push(Upload::Matrix(parts, weight.clone(), 0));
        weight
    }
}

impl Upload {
    /// The tensors that are in it.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Vector(name, _) => vec![name.clone()],
            Self::Matrix(names, ..) => names.clone(),
            Self::PerHead(per_head, _) => vec![per_head.tensor().to_owned()],
            Self::Words(..) => Vec::new(),
        }
    }

    /// Writes it; `progress` is told of every piece's bytes.
    ///
    /// # Errors
    /// The card was lost.
    pub(crate) fn write(
        &self,
        program: &mut gpu::Program,
        weights: &Weights,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), gpu::Error> {
        match self {
            Self::Vector(name, at) => {
                let values = weights.tensor(name).expect(FOUND).to_f32();
                program.write(*at, bytemuck::cast_slice(&values));
                progress(at.bytes());
                Ok(())
            }
            Self::Matrix(parts, weight, at) => {
                let matrix = |name: &String| {
                    weights.tensor(name).expect(FOUND).matrix().expect("two dimensions: checked")
                };
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
