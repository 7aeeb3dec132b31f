//! Rules for a machine: what every token needs goes to the card as far as it fits, then experts fill it, then memory.

use super::evaluate::STEP_TOKENS;
use super::network::Network;
use super::plan::kv_layer_bytes;
use super::rule::{Device, Rule, Span};
use super::{Machine, ModelShape, Placement, Plan, Workload, evaluate};
use crate::{Error, activation_bytes};

/// All routed experts.
const EXPERTS: &str = "blk.*.ffn_*_exps.*";

/// The rules that suit a machine, and what they come to.
///
/// # Errors
/// What every token needs fits neither on the card nor in memory.
pub fn derive(shape: &ModelShape, machine: &Machine, workload: &Workload) -> Result<Plan, Error> {
    let network = Network::new(shape, &Placement::on_cpu())?;
    let room = machine.vram_room().saturating_sub(activation_bytes(&shape.hyper, STEP_TOKENS, 1));
    let card = Card::of(&network, room, kv_layer_bytes(shape) * workload.context_tokens as u64);
    let mut rules = Vec::new();
    if shape.hyper.moe.is_some() {
        rules.extend(card.expert_rules(&network));
        rules.push(Rule::new(EXPERTS, Device::Cpu));
    }
    rules.extend(card.dense_rules(&network));
    evaluate(&Placement::new(rules), shape, machine, workload)
}

/// What the card takes.
#[derive(Clone, Copy, Debug, Default)]
struct Card {
    /// The first layers.
    n_layers: usize,
    has_head: bool,
    has_embedding: bool,
    /// Bytes left for experts.
    left: u64,
}

impl Card {
    /// Layers in order, each with its KV cache, then the head, then the embedding, as far as they fit in `room`. Experts come
    /// after: each of the former is wanted by every token.
    fn of(network: &Network, room: u64, kv_bytes: u64) -> Self {
        let mut card = Self { left: room, ..Self::default() };
        let fits = network.layers.iter().take_while(|layer| card.take(layer.dense.cpu.bytes + kv_bytes));
        card.n_layers = fits.count();
        if card.n_layers == network.layers.len() {
            card.has_head = card.take(network.head.cpu.bytes);
            card.has_embedding = card.has_head && card.take(network.embedding.cpu);
        }
        card
    }

    fn take(&mut self, bytes: u64) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// As many experts of every layer as fit, and one more in the first layers.
    fn expert_rules(mut self, network: &Network) -> Vec<Rule> {
        let first = network.layers.iter().position(|layer| !layer.homes.is_empty());
        let Some(first) = first.filter(|_| self.has_head) else { return Vec::new() };
        let layers = &network.layers[first..];
        let n_experts = layers[0].homes.len();
        let order = (0..n_experts).flat_map(|_| layers);
        let n_fit = order.take_while(|layer| self.take(layer.expert_bytes())).count();
        let (whole, more) = ((n_fit / layers.len()) as u32, (n_fit % layers.len()) as u32);
        let rule = |layers, experts| Rule { layers, experts, ..Rule::new(EXPERTS, Device::Gpu) };
        if whole as usize == n_experts {
            return vec![rule(None, None)];
        }
        let first = first as u32;
        let of_all = (whole > 0).then(|| rule(None, Some(Span::new(0, whole.max(1) - 1))));
        let of_some =
            (more > 0).then(|| rule(Some(Span::new(first, first + more - 1)), Some(Span::new(whole, whole))));
        of_all.into_iter().chain(of_some).collect()
    }

    fn dense_rules(self, network: &Network) -> Vec<Rule> {
        let rule = Rule::new;
        if self.has_embedding {
            return vec![rule("*", Device::Gpu)];
        }
        if self.has_head {
            return vec![rule("token_embd.weight", Device::Cpu), rule("*", Device::Gpu)];
        }
        let layers = match self.n_layers {
            0 => None,
            n if n == network.layers.len() => Some(rule("blk.*", Device::Gpu)),
            n => Some(Rule { layers: Some(Span::new(0, n as u32 - 1)), ..rule("blk.*", Device::Gpu) }),
        };
        layers.into_iter().chain([rule("*", Device::Cpu)]).collect()
    }
}
