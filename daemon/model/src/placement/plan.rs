//! What a placement comes to on a machine.

use serde::Serialize;
use weights::ExpertKey;

use super::network::Network;
use super::rule::{Device, Tier};
use super::{Machine, ModelShape, Placement};

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Tokens that the KV cache has room for.
    pub context_tokens: usize,
    /// Tokens in the cache while the predicted answer is written.
    pub depth_tokens: usize,
    /// Tokens of the predicted prompt.
    pub prompt_tokens: usize,
}

impl Workload {
    /// Depth of answers whose speed is predicted: a reasoning model's thoughts are some thousand tokens.
    pub const DEPTH_TOKENS: usize = 4096;

    /// Of conversations of up to `context_tokens`.
    pub fn of(context_tokens: usize) -> Self {
        let depth_tokens = Self::DEPTH_TOKENS.min(context_tokens);
        Self { context_tokens, depth_tokens, prompt_tokens: super::PROMPT_TOKENS }
    }
}

/// One tier's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TierUse {
    /// Which.
    pub tier: Tier,
    /// Layers whose attention computes there, and whose KV cache lies there.
    pub n_layers: usize,
    /// The output matrix lies there.
    pub has_head: bool,
    /// The embedding lies there.
    pub has_embedding: bool,
    /// Routed experts, of all layers.
    pub n_experts: usize,
    /// Bytes of weights, experts among them.
    pub weights_bytes: u64,
    /// Bytes of routed experts.
    pub expert_bytes: u64,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// Bytes of a step's activations.
    pub activation_bytes: u64,
    /// Bytes that a model may take there; `None` of a drive.
    pub room_bytes: Option<u64>,
    /// Bytes read from there for a token of an answer, on average.
    pub token_bytes: u64,
}

impl TierUse {
    /// Bytes taken.
    pub fn bytes(&self) -> u64 {
        self.weights_bytes + self.kv_bytes + self.activation_bytes
    }
}

/// A home for every tensor, and what to expect of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rules.
    pub placement: Placement,
    /// VRAM, RAM, NVMe.
    pub tiers: [TierUse; 3],
    /// Tokens a second of one answer.
    pub decode_tok_s: f64,
    /// Tokens a second of a prompt.
    pub prefill_tok_s: f64,
    /// Share of the experts wanted of those that go through the memory's cache that are there; `None` where nothing is read
    /// from a drive.
    pub hit_rate: Option<f64>,
    /// What the numbers rest on, in words.
    pub assumptions: Vec<String>,
    pub(super) network: Network,
}

impl Plan {
    /// Where a tensor of the model lies. Of experts that a cache moves between memory and drive: where they lie at first.
    pub fn home(&self, tensor: &str) -> Tier {
        let home = |key: ExpertKey| {
            self.network.layers.get(key.layer as usize)?.homes.get(key.expert as usize).copied()
        };
        let expert = ExpertKey::parse(tensor).and_then(|(key, ..)| home(key));
        expert.unwrap_or_else(|| self.placement.of(tensor).device.tier())
    }

    /// One tier's part.
    pub fn tier(&self, tier: Tier) -> &TierUse {
        self.tiers.iter().find(|used| used.tier == tier).expect("all three are there")
    }
}

/// Bytes that every token needs, by device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    pub(super) weights_bytes: u64,
    pub(super) kv_bytes: u64,
    pub(super) activation_bytes: u64,
}

impl Needs {
    pub(super) fn bytes(&self) -> u64 {
        self.weights_bytes + self.kv_bytes + self.activation_bytes
    }
}

/// The tiers of a network whose experts are at home.
pub(super) fn tiers(
    network: &Network,
    machine: &Machine,
    needs: impl Fn(Device) -> Needs,
    token_bytes: [u64; 3],
) -> [TierUse; 3] {
    let tier = |tier: Tier, token_bytes| {
        let device = (tier != Tier::Nvme).then_some(tier.device());
        let needs = device.map_or_else(Needs::default, &needs);
        let expert_bytes = network.expert_bytes(tier);
        TierUse {
            tier,
            n_layers: device.map_or(0, |device| network.n_attending(device)),
            has_head: device.is_some_and(|device| network.head.of(device).values() > 0),
            has_embedding: device.is_some_and(|device| *network.embedding.of(device) > 0),
            n_experts: network.n_experts(tier),
            weights_bytes: needs.weights_bytes + expert_bytes,
            expert_bytes,
            kv_bytes: needs.kv_bytes,
            activation_bytes: needs.activation_bytes,
            room_bytes: device
                .map(|device| if device == Device::Gpu { machine.vram_room() } else { machine.ram_room() }),
            token_bytes,
        }
    };
    let [vram, ram, nvme] = token_bytes;
    [tier(Tier::Vram, vram), tier(Tier::Ram, ram), tier(Tier::Nvme, nvme)]
}

/// Bytes that the cache takes for a token in one layer.
pub(super) fn kv_layer_bytes(shape: &ModelShape) -> u64 {
    let kv = crate::KvShape::of(&shape.hyper, 0);
    (kv.token_bytes(kernels::Precision::Fast) / kv.n_layers) as u64
}
