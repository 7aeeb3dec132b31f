//! A model under a placement: what lies where, layer by layer.

use weights::{ExpertKey, ExpertPart};

use super::name::Name;
use super::rule::{Device, Tier};
use super::shape::{ModelShape, TensorShape};
use super::{Decision, Placement};
use crate::Error;

/// One of each device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Both<T> {
    pub(super) gpu: T,
    pub(super) cpu: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, device: Device) -> &T {
        match device {
            Device::Gpu => &self.gpu,
            Device::Cpu => &self.cpu,
        }
    }

    pub(super) fn of_mut(&mut self, device: Device) -> &mut T {
        match device {
            Device::Gpu => &mut self.gpu,
            Device::Cpu => &mut self.cpu,
        }
    }
}

/// Weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Load {
    pub(super) bytes: u64,
    /// Values multiplied that lie in blocks, whose products are of 8-bit integers.
    pub(super) block_values: u64,
    /// Other values multiplied.
    pub(super) float_values: u64,
}

impl Load {
    /// Values multiplied.
    pub(super) fn values(&self) -> u64 {
        self.block_values + self.float_values
    }

    fn add(&mut self, tensor: &TensorShape) {
        self.bytes += tensor.bytes;
        let values = if tensor.is_block { &mut self.block_values } else { &mut self.float_values };
        *values += tensor.values;
    }
}

/// One layer.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    /// What every token needs.
    pub(super) dense: Both<Load>,
    /// Attention computes on the card: so lies the layer's KV cache.
    pub(super) attends_on_gpu: bool,
    /// All routed experts together.
    pub(super) experts: Load,
    /// Of each routed expert, the fastest tier that it may take; where it lies, once there is room for it.
    pub(super) homes: Vec<Tier>,
    /// Routed experts that go through the memory's cache, whether they are in it at first or not.
    pub(super) n_cached: usize,
}

impl Layer {
    /// Empty, but for the tiers that its experts' first matrix may take.
    fn of(layer: usize, shape: &ModelShape, placement: &Placement) -> Self {
        let moe = shape.hyper.moe.as_ref().filter(|moe| layer >= moe.n_dense_layers);
        let tier = |expert| {
            let key = ExpertKey { layer: layer as u32, expert };
            placement.of(&key.tensor_name(ExpertPart::Gate)).tier
        };
        let homes = (0..moe.map_or(0, |moe| moe.n_experts as u32)).map(tier).collect();
        Self { homes, ..Self::default() }
    }

    /// Bytes of one routed expert: they are alike.
    pub(super) fn expert_bytes(&self) -> u64 {
        self.experts.bytes / self.homes.len().max(1) as u64
    }

    /// Routed experts in `tier`.
    pub(super) fn n_in(&self, tier: Tier) -> usize {
        self.homes.iter().filter(|home| **home == tier).count()
    }
}

/// A model under a placement.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) layers: Vec<Layer>,
    /// Behind the layers: norm and output matrix.
    pub(super) head: Both<Load>,
    /// Of which a token reads a row; nothing where it is the head.
    pub(super) embedding: Both<u64>,
}

impl Network {
    /// Decides for every tensor.
    ///
    /// # Errors
    /// A rule can't be followed.
    pub(super) fn new(shape: &ModelShape, placement: &Placement) -> Result<Self, Error> {
        let layers = (0..shape.hyper.n_layers).map(|layer| Layer::of(layer, shape, placement)).collect();
        let mut network = Self { layers, head: Both::default(), embedding: Both::default() };
        for tensor in &shape.tensors {
            let decision = placement.of(&tensor.name);
            let tensor = &tensor.converted(decision.format);
            match ExpertKey::parse(&tensor.name) {
                Some((key, ..)) => network.add_expert(tensor, key, decision)?,
                None => network.add_dense(tensor, decision, shape.hyper.tied)?,
            }
        }
        Ok(network)
    }

    fn add_expert(&mut self, tensor: &TensorShape, key: ExpertKey, decision: Decision) -> Result<(), Error> {
        let layer = &mut self.layers[key.layer as usize];
        layer.experts.add(tensor);
        if layer.homes[key.expert as usize] != decision.tier {
            let layer = key.layer;
            let problem = format!(
                "parts experts of layer {layer}, each of which lies in one place: match blk.{layer}.ffn_*_exps.*"
            );
            return Err(wrong(decision, "match", problem));
        }
        Ok(())
    }

    fn add_dense(&mut self, tensor: &TensorShape, decision: Decision, tied: bool) -> Result<(), Error> {
        if decision.tier == Tier::Nvme {
            let problem = format!("only routed experts may stay on the drive, and {} is none", tensor.name);
            return Err(wrong(decision, "tier", problem));
        }
        let layer = Name::of(&tensor.name).layer.and_then(|layer| self.layers.get_mut(layer as usize));
        match (layer, tensor.name.as_str()) {
            (Some(layer), name) => {
                layer.dense.of_mut(decision.device).add(tensor);
                layer.attends_on_gpu |=
                    decision.device == Device::Gpu && name.ends_with("attn_output.weight");
            }
            (None, "token_embd.weight") if !tied => *self.embedding.of_mut(decision.device) += tensor.bytes,
            (None, _) => self.head.of_mut(decision.device).add(tensor),
        }
        Ok(())
    }

    /// Bytes that every token needs, embedding included, without KV cache and activations.
    pub(super) fn dense_bytes(&self, device: Device) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.dense.of(device).bytes);
        layers.sum::<u64>() + self.head.of(device).bytes + self.embedding.of(device)
    }

    /// Layers whose attention computes on `device`.
    pub(super) fn n_attending(&self, device: Device) -> usize {
        self.layers.iter().filter(|layer| layer.attends_on_gpu == (device == Device::Gpu)).count()
    }

    /// Bytes of the routed experts in `tier`.
    pub(super) fn expert_bytes(&self, tier: Tier) -> u64 {
        let bytes = |layer: &Layer| match layer.homes.len() {
            0 => 0,
            n => layer.experts.bytes * layer.n_in(tier) as u64 / n as u64,
        };
        self.layers.iter().map(bytes).sum()
    }

    /// Routed experts in `tier`, of all layers.
    pub(super) fn n_experts(&self, tier: Tier) -> usize {
        self.layers.iter().map(|layer| layer.n_in(tier)).sum()
    }
}

/// About the rule that decided.
fn wrong(decision: Decision, field: &'static str, problem: String) -> Error {
    Error::Rule { rule: decision.rule.map_or(0, |nth| nth + 1), field, problem }
}
