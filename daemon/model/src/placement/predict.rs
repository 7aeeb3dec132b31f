//! How fast a placement will be.
//!
//! ```text
//! a layer of a token: | what every token needs, where it lies | experts: the slowest of card, processor, drive | hand-over |
//! ```
//! Each device takes the longer of reading its weights and multiplying them. A token is the sum of its layers; a prompt reads
//! each expert once, and the drive reads layers ahead of it; a card computes a prompt's experts that do not lie there, too, where
//! it is faster to bring them there.

use super::network::{Layer, Load, Network};
use super::plan::kv_layer_bytes;
use super::rule::{Device, Tier};
use super::{Fact, Known, Machine, ModelShape, Workload};

/// Seconds from a device to the other and back, in every layer where both compute.
pub const HANDOVER_S: f64 = 1e-4;
/// Tokens of the prompt whose speed is predicted.
pub const PROMPT_TOKENS: usize = 512;
/// Share of the memory's bandwidth that kernels reach: `wels bench` on a pack of Qwen2.5-Coder-1.5B, two cores with AVX-512,
/// 0.66 to 0.84. Smaller models reach less.
pub(super) const CPU_READ_SHARE: f64 = 0.75;
/// The same of a card; assumed until one was measured.
pub(super) const GPU_READ_SHARE: f64 = 0.7;
pub(super) const GPU_OPS_SHARE: f64 = 0.4;
/// Multiply-adds of floats take as long as so many of 8-bit integers: the width of their lanes.
const FLOAT_COST: u64 = 4;

/// A device's speed.
#[derive(Clone, Copy, Debug)]
struct Speed {
    bytes_s: f64,
    ops_s: f64,
    /// Operations of a value in a block, and of others.
    ops: (u64, u64),
}

impl Speed {
    fn of(machine: &Machine, device: Device) -> Self {
        match device {
            Device::Gpu => Self {
                bytes_s: reached(machine.vram_bytes_s, GPU_READ_SHARE),
                ops_s: reached(machine.gpu_ops_s, GPU_OPS_SHARE),
                ops: (2, 2),
            },
            Device::Cpu => Self {
                bytes_s: machine.ram_bytes_s.value * CPU_READ_SHARE,
                ops_s: machine.int8_ops_s.value * machine.int8_share,
                ops: (2, 2 * FLOAT_COST),
            },
        }
    }

    /// Seconds that these weights take where a share `read` of them is read, and they are multiplied with `tokens` on average.
    fn seconds(&self, load: &Load, read: f64, tokens: f64) -> f64 {
        let ops = self.ops.0 * load.block_values + self.ops.1 * load.float_values;
        (load.bytes as f64 * read / self.bytes_s).max(ops as f64 * tokens / self.ops_s)
    }
}

/// What stages reach of a card's speed: what was measured, they did.
fn reached(fact: Fact<f64>, share: f64) -> f64 {
    fact.value * if fact.known == Known::Measured { 1.0 } else { share }
}

/// A network under prediction.
pub(super) struct Prediction<'a> {
    network: &'a Network,
    machine: &'a Machine,
    workload: &'a Workload,
    top_k: f64,
    /// Rows of the embedding.
    n_vocab: u64,
    /// Bytes of the KV cache that a token reads in a layer.
    kv_bytes: u64,
    hit_rate: f64,
    gpu: Speed,
    cpu: Speed,
}

/// Of a layer's experts, the shares that a token's uses go to.
#[derive(Clone, Copy, Debug, Default)]
struct Shares {
    gpu: f64,
    cpu: f64,
    /// Of the processor's, those that have to be read.
    missed: f64,
}

impl<'a> Prediction<'a> {
    pub(super) fn new(
        network: &'a Network,
        shape: &ModelShape,
        machine: &'a Machine,
        workload: &'a Workload,
        hit_rate: f64,
    ) -> Self {
        let top_k = shape.hyper.moe.map_or(0.0, |moe| moe.top_k as f64);
        let kv_bytes = kv_layer_bytes(shape) * workload.depth_tokens as u64;
        let (gpu, cpu) = (Speed::of(machine, Device::Gpu), Speed::of(machine, Device::Cpu));
        let n_vocab = shape.hyper.n_vocab as u64;
        Self { network, machine, workload, top_k, n_vocab, kv_bytes, hit_rate, gpu, cpu }
    }

    fn speed(&self, device: Device) -> &Speed {
        match device {
            Device::Gpu => &self.gpu,
            Device::Cpu => &self.cpu,
        }
    }

    /// Experts are wanted alike, but of those that go through the cache it has more than its share: that is what it is for.
    fn shares(&self, layer: &Layer) -> Shares {
        let share = |n: usize| n as f64 / layer.homes.len().max(1) as f64;
        let gpu = share(layer.n_in(Tier::Vram));
        let cpu = share(layer.homes.len()) - gpu;
        let cached = share(layer.n_cached);
        Shares { gpu, cpu, missed: cpu - cached * self.hit_rate }
    }

    /// Seconds of a token of an answer.
    pub(super) fn decode_s(&self) -> f64 {
        let layers: f64 = self.network.layers.iter().map(|layer| self.decode_layer_s(layer)).sum();
        let head =
            Device::ALL.map(|device| self.speed(device).seconds(self.network.head.of(device), 1.0, 1.0));
        layers + head.iter().sum::<f64>() + self.handovers_s()
    }

    fn decode_layer_s(&self, layer: &Layer) -> f64 {
        let dense = Device::ALL.map(|device| {
            let mut load = *layer.dense.of(device);
            if layer.attends_on_gpu == (device == Device::Gpu) {
                load.bytes += self.kv_bytes;
            }
            self.speed(device).seconds(&load, 1.0, 1.0)
        });
        let (shares, used) = (self.shares(layer), self.top_k / layer.homes.len().max(1) as f64);
        let experts = |speed: &Speed, share: f64| speed.seconds(&layer.experts, used * share, used * share);
        let drive = layer.experts.bytes as f64 * used * shares.missed / self.machine.nvme_bytes_s.value;
        let mixture = experts(&self.gpu, shares.gpu).max(experts(&self.cpu, shares.cpu)).max(drive);
        dense.iter().sum::<f64>() + mixture
    }

    /// Layers in which both devices compute, the borders between layers of different devices, and the logits' way back.
    fn handovers_s(&self) -> f64 {
        let layers = &self.network.layers;
        let is_shared = |layer: &&Layer| {
            let n_on_gpu = layer.n_in(Tier::Vram);
            let on_gpu = layer.dense.gpu.bytes > 0 || n_on_gpu > 0;
            on_gpu && (layer.dense.cpu.bytes > 0 || n_on_gpu < layer.homes.len())
        };
        let shared = layers.iter().filter(is_shared).count();
        let borders =
            layers.windows(2).filter(|pair| pair[0].attends_on_gpu != pair[1].attends_on_gpu).count();
        let back = usize::from(layers.last().is_some_and(|layer| layer.attends_on_gpu));
        (shared + borders + back) as f64 * HANDOVER_S
    }

    /// Seconds of a prompt: what computes, or what the drive reads meanwhile, whichever takes longer.
    pub(super) fn prefill_s(&self) -> f64 {
        let tokens = self.workload.prompt_tokens as f64;
        let layers: f64 = self.network.layers.iter().map(|layer| self.prefill_layer_s(layer, tokens)).sum();
        let head =
            Device::ALL.map(|device| self.speed(device).seconds(self.network.head.of(device), 1.0, 1.0));
        let drive = self.wanted_share(tokens) * self.network.expert_bytes(Tier::Nvme) as f64;
        let computed = layers + head.iter().sum::<f64>();
        computed.max(drive / self.machine.nvme_bytes_s.value) + self.handovers_s()
    }

    fn prefill_layer_s(&self, layer: &Layer, tokens: f64) -> f64 {
        let dense = Device::ALL.map(|device| self.speed(device).seconds(layer.dense.of(device), 1.0, tokens));
        let (shares, wanted) = (self.shares(layer), self.wanted_share(tokens));
        let used = tokens * self.top_k / layer.homes.len().max(1) as f64;
        let experts = |speed: &Speed, share: f64| speed.seconds(&layer.experts, wanted * share, used * share);
        let brought = layer.experts.bytes as f64 * wanted * shares.cpu / self.machine.link_bytes_s.value
            + experts(&self.gpu, shares.gpu + shares.cpu);
        let apart = experts(&self.gpu, shares.gpu).max(experts(&self.cpu, shares.cpu));
        let mixture = if layer.attends_on_gpu { apart.min(brought) } else { apart };
        dense.iter().sum::<f64>() + mixture
    }

    /// Share of the experts that a prompt wants, if all are wanted alike.
    fn wanted_share(&self, tokens: f64) -> f64 {
        let n = self.network.layers.iter().map(|layer| layer.homes.len()).max().unwrap_or(0).max(1) as f64;
        1.0 - (1.0 - (self.top_k / n).min(1.0)).powf(tokens)
    }

    /// Bytes read for a token of an answer from each tier. The processor reads experts in memory, wherever they came from.
    pub(super) fn token_bytes(&self) -> [u64; 3] {
        let dense = |device| {
            let layers = self.network.layers.iter().map(|layer| layer.dense.of(device).bytes);
            let kv = self.network.n_attending(device) as u64 * self.kv_bytes;
            layers.sum::<u64>()
                + self.network.head.of(device).bytes
                + self.network.embedding.of(device) / self.n_vocab
                + kv
        };
        let experts = |share: fn(Shares) -> f64| {
            let used = |layer: &Layer| {
                let used = self.top_k / layer.homes.len().max(1) as f64;
                layer.experts.bytes as f64 * used * share(self.shares(layer))
            };
            self.network.layers.iter().map(used).sum::<f64>() as u64
        };
        let (gpu, cpu, missed) = (experts(|s| s.gpu), experts(|s| s.cpu), experts(|s| s.missed));
        [dense(Device::Gpu) + gpu, dense(Device::Cpu) + cpu, missed]
    }
}
