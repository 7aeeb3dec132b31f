//! What any rules come to: homes within the memory there is, then a prediction.

use super::network::Network;
use super::plan::{Needs, kv_layer_bytes, tiers};
use super::predict::Prediction;
use super::rule::{Device, Tier};
use super::{Machine, ModelShape, Placement, Plan, Workload, hits};
use crate::{Error, activation_bytes};

/// Tokens of the longest step whose activations always have memory of their own; longer ones borrow the experts'.
pub(super) const STEP_TOKENS: usize = 512;
const GIB: f64 = (1_u64 << 30) as f64;

/// Finds every tensor's home under `placement` and predicts speed.
///
/// # Errors
/// A rule can't be followed, or what every token needs doesn't fit.
pub fn evaluate(
    placement: &Placement,
    shape: &ModelShape,
    machine: &Machine,
    workload: &Workload,
) -> Result<Plan, Error> {
    let mut network = Network::new(shape, placement)?;
    let needs = |network: &Network, device| needs(network, shape, workload, device);
    let vram = room(machine.vram_room(), needs(&network, Device::Gpu), Tier::Vram, machine.has_gpu())?;
    let ram = room(machine.ram_room(), needs(&network, Device::Cpu), Tier::Ram, true)?;
    fill(&mut network, Tier::Vram, vram);
    network.layers.iter_mut().for_each(|layer| layer.n_cached = layer.n_in(Tier::Ram));
    let cached = network.expert_bytes(Tier::Ram);
    fill(&mut network, Tier::Ram, machine.expert_ram_bytes.map_or(ram, |most| ram.min(most)));
    let hit_rate = hit_rate(&network, shape, cached);
    let prediction = Prediction::new(&network, shape, machine, workload, hit_rate.unwrap_or(1.0));
    Ok(Plan {
        placement: placement.clone(),
        tiers: tiers(&network, machine, |device| needs(&network, device), prediction.token_bytes()),
        decode_tok_s: 1.0 / prediction.decode_s(),
        prefill_tok_s: workload.prompt_tokens as f64 / prediction.prefill_s(),
        hit_rate,
        assumptions: super::assumptions::list(&network, shape, machine, workload, hit_rate),
        network,
    })
}

/// What every token needs of a device's memory. Activations: of steps on that device, if it has any.
fn needs(network: &Network, shape: &ModelShape, workload: &Workload, device: Device) -> Needs {
    let n_layers = network.n_attending(device) as u64;
    let weights_bytes = network.dense_bytes(device);
    let is_used = weights_bytes > 0 || network.n_experts(device.tier()) > 0;
    Needs {
        weights_bytes,
        kv_bytes: n_layers * workload.context_tokens as u64 * kv_layer_bytes(shape),
        activation_bytes: if is_used { activation_bytes(&shape.hyper, STEP_TOKENS, 1) } else { 0 },
    }
}

/// What is left for routed experts.
fn room(have: u64, needs: Needs, tier: Tier, is_there: bool) -> Result<u64, Error> {
    let remedy = match (tier, is_there) {
        (Tier::Vram, true) => "leave fewer layers to the card, or shorten --context",
        (Tier::Vram, false) => {
            "this machine has no card: say how large one is (--vram), or leave all to the processor"
        }
        _ => "add memory or a card, or take a smaller model, fewer bits or a shorter --context",
    };
    let (need_gib, have_gib) = (needs.bytes() as f64 / GIB, have as f64 / GIB);
    have.checked_sub(needs.bytes()).ok_or(Error::NoRoom { tier: tier.name(), need_gib, have_gib, remedy })
}

/// Leaves experts in `tier` as far as `room` goes, the first of every layer first, so that all layers have as many; the rest
/// falls to the next.
fn fill(network: &mut Network, tier: Tier, mut room: u64) {
    let next = if tier == Tier::Vram { Tier::Ram } else { Tier::Nvme };
    let n_experts = network.layers.iter().map(|layer| layer.homes.len()).max().unwrap_or(0);
    for expert in 0..n_experts {
        for layer in &mut network.layers {
            let bytes = layer.expert_bytes();
            match layer.homes.get_mut(expert).filter(|home| **home == tier) {
                Some(_) if bytes <= room => room -= bytes,
                Some(home) => *home = next,
                None => {}
            }
        }
    }
}

/// Of the experts that go through the memory's cache, `cached` bytes, where not all stay there; `None` where none is read from
/// a drive.
fn hit_rate(network: &Network, shape: &ModelShape, cached: u64) -> Option<f64> {
    let moe = shape.hyper.moe.as_ref()?;
    if network.n_experts(Tier::Nvme) == 0 {
        return None;
    }
    let share = network.expert_bytes(Tier::Ram) as f64 / cached.max(1) as f64;
    Some(hits::hit_rate(moe, share))
}
