//! Experts that come to the card for one prompt: slots that are written anew while the card computes those before.
//!
//! ```text
//! processor   write half 0 | write half 1 | wait for half 0, write it | wait for half 1 ..
//! card                       compute 0      compute 1                   compute 0 ..
//! ```

use std::collections::HashMap;

use gpu::{Binding, BufferKind, Chosen, ExpertLinear, Layout, Recording, Tiles, Weight, WeightShape};
use shaders::format_of;
use tensor::{DType, LANES, SCALE_BLOCK};
use weights::{ExpertKey, ExpertPart, Moe};

use super::Plan;
use super::tensors::Tensors;

/// Bytes of experts under way in a half; one expert may take more.
const HALF_BYTES: u64 = 64 << 20;
/// Experts of a half, at most.
const SLOTS_MAX: usize = 16;

/// Two halves that take turns.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pub(crate) halves: [Half; 2],
    /// Of each expert of a layer, whether it has come: which results count.
    pub(crate) came: Binding,
    pub(crate) slots: usize,
    /// How each layer's experts lie in a slot; a layer that is not here has experts that can't come.
    shapes: HashMap<usize, Slot>,
    d_expert: usize,
    d_model: usize,
}

/// Memory for some experts, and what says which these are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Half {
    gate_up: Binding,
    down: Binding,
    /// FP8 factors of each.
    scales: Option<[Binding; 2]>,
    /// The slot of each expert of the layer.
    pub(crate) table: Binding,
    /// Tiles of its experts' choices.
    pub(crate) tiles: Binding,
}

/// Formats of a layer's experts.
#[derive(Clone, Copy, Debug)]
struct Slot {
    gate_up: DType,
    down: DType,
}

/// A half's memory as one layer's experts lie in it.
#[derive(Clone, Debug)]
pub(crate) struct HalfWeights {
    /// All of a slot's gate, then its up.
    pub(crate) gate_up: Weight,
    pub(crate) down: Weight,
}

impl Ring {
    /// Plans a ring for the experts of the first layers; none where they can't be cut into slots.
    pub(crate) fn plan(
        layout: &mut Layout,
        tensors: &Tensors<'_>,
        (moe, n_layers): (&Moe, usize),
        step_tokens: usize,
    ) -> Option<Self> {
        let (d_model, d_expert) = (tensors.hyper().d_model, moe.d_expert);
        let slot = |layer: &usize| Some((*layer, Slot::of(tensors, *layer, moe)?));
        let shapes: HashMap<usize, Slot> =
            (moe.n_dense_layers..n_layers).collect::<Vec<_>>().iter().filter_map(slot).collect();
        let largest = |bytes: &dyn Fn(&Slot) -> u64| shapes.values().map(bytes).max().unwrap_or(0);
        let gate_up = largest(&|slot| bytes(slot.gate_up, 2 * d_expert, d_model));
        let down = largest(&|slot| bytes(slot.down, d_model, d_expert));
        let bound = layout.binding_max() / gate_up.max(down).max(1);
        let slots = (HALF_BYTES / (gate_up + down).max(1)).clamp(1, SLOTS_MAX as u64).min(bound) as usize;
        if shapes.is_empty() || slots == 0 {
            return None;
        }
        let scaled = shapes.values().any(|slot| [slot.gate_up, slot.down].contains(&DType::F8E4M3));
        let factors =
            (slots * (2 * d_expert).div_ceil(SCALE_BLOCK) * d_model.div_ceil(SCALE_BLOCK) * 4) as u64;
        let n_tiles = gpu::expert_tiles_max((step_tokens * moe.top_k) as u32, moe.n_experts as u32);
        let mut buffer = |bytes: u64| layout.buffer(BufferKind::Ring, bytes);
        let mut half = || Half {
            gate_up: buffer(slots as u64 * gate_up),
            down: buffer(slots as u64 * down),
            scales: scaled.then(|| [buffer(factors), buffer(factors)]),
            table: buffer(4 * moe.n_experts as u64),
            tiles: buffer(16 * u64::from(n_tiles)),
        };
        let halves = [half(), half()];
        let came = buffer(4 * moe.n_experts as u64);
        Some(Self { halves, came, slots, shapes, d_expert, d_model })
    }

    /// A half as a layer's experts lie in it; `None` where they can't come.
    pub(crate) fn weights(&self, half: usize, layer: usize) -> Option<HalfWeights> {
        let slot = self.shapes.get(&layer)?;
        let Half { gate_up, down, scales, .. } = self.halves[half];
        let shape = |dtype, rows, cols| WeightShape { dtype, rows: self.slots * rows, cols, parts: 1 };
        Some(HalfWeights {
            gate_up: Weight::within(
                shape(slot.gate_up, 2 * self.d_expert, self.d_model),
                gate_up,
                scales.map(|[first, _]| first),
            ),
            down: Weight::within(
                shape(slot.down, self.d_model, self.d_expert),
                down,
                scales.map(|[_, second]| second),
            ),
        })
    }

    /// Results of the choices whose experts lie in a half <- x.
    pub(crate) fn record(&self, plan: &Plan<'_>, layer: usize, moe: &Moe) -> Option<[Recording; 2]> {
        let half = |half: usize| {
            let weights = self.weights(half, layer)?;
            let Half { table, tiles, .. } = self.halves[half];
            let chosen = Chosen::SomeTiles(Tiles { tiles, ..plan.buffers.expert_tiles? });
            let (b, mut to) = (plan.buffers, Recording::default());
            let job = |weight, rows, gate_then_up, quantised| ExpertLinear {
                weight,
                rows,
                gate_then_up,
                n_experts: moe.n_experts,
                top_k: moe.top_k,
                table,
                chosen,
                by_token: gate_then_up,
                quantised,
                threads: plan.threads(rows),
            };
            let gated = job(&weights.gate_up, moe.d_expert, true, plan.quantised(&weights.gate_up));
            gpu::expert_linear(&mut to, gated, b.normed, b.expert_ffn);
            let down = job(&weights.down, self.d_model, false, plan.experts_quantised(&weights.down));
            gpu::expert_linear(&mut to, down, b.expert_ffn, b.expert_rows);
            Some(to)
        };
        Some([half(0)?, half(1)?])
    }
}

impl Slot {
    /// Of a layer; `None` where gate and up differ, or are no whole blocks of rows.
    fn of(tensors: &Tensors<'_>, layer: usize, moe: &Moe) -> Option<Self> {
        let key = ExpertKey { layer: layer as u32, expert: 0 };
        let dtype = |part| Some(tensors.stored(&key.tensor_name(part))?.dtype);
        let [gate, up, down] = ExpertPart::ALL.map(dtype);
        let (gate_up, down) = (gate.filter(|_| gate == up)?, down?);
        let whole = |dtype: DType| if dtype == DType::F8E4M3 { SCALE_BLOCK } else { LANES };
        let fits = moe.d_expert.is_multiple_of(whole(gate_up))
            && tensors.hyper().d_model.is_multiple_of(whole(down));
        fits.then_some(Self { gate_up, down })
    }
}

/// Bytes of a matrix in whole blocks of rows.
fn bytes(dtype: DType, rows: usize, cols: usize) -> u64 {
    (rows / LANES * format_of(dtype).row_block_bytes(cols)) as u64
}
