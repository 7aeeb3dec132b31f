//! The machine: what is given, else what is found and measured here, else usual values.

use anyhow::Result;
use gpu::{Device, DeviceOptions};
use kernels::{Cpu, CpuOptions};
use model::placement::{Fact, Machine};
use tracing::warn;
use weights::Weights;

use crate::bench::Limits;
use crate::cli::Plan as Args;
use crate::{card, machine, streaming};

/// A drive of the slower kind.
pub(crate) const NVME_BYTES_S: f64 = 3e9;
/// A card of the slower kind with memory for layers of a large model: Arc B60 456 GB/s, RX 7900 XTX 960 GB/s.
pub(crate) const VRAM_BYTES_S: f64 = 450e9;
/// What reaches a card on a PCIe 4.0 slot of 16 lanes, copied twice on the way.
pub(crate) const LINK_BYTES_S: f64 = 12e9;
/// The same card's f16 multiply-adds on shaders, without matrix units.
pub(crate) const GPU_OPS_S: f64 = 20e12;

/// Weights that a card is measured with: more than its caches hold.
const MEASURED_BYTES: u64 = 256 << 20;

/// This machine, but for what `args` say otherwise.
pub(super) fn machine(args: &Args, weights: Option<&Weights>) -> Result<Machine> {
    let limits = Limits::of(&mut Cpu::new(CpuOptions::default())?);
    let ram_bytes = args.ram.map_or_else(|| Fact::found(machine::memory().0), Fact::given);
    let vram_bytes = args.vram.map_or_else(|| Fact::found(machine::vram().unwrap_or(0)), Fact::given);
    let int8_ops_s = match args.cores {
        Some(cores) => Fact::assumed(limits.int8_ops_s * cores as f64 / limits.threads as f64),
        None => Fact::measured(limits.int8_ops_s),
    };
    let ram_reserve_bytes = streaming::reserve(ram_bytes.value);
    let has_to_stream =
        weights.filter(|weights| weights.bytes() > ram_bytes.value - ram_reserve_bytes.min(ram_bytes.value));
    let mut machine = Machine {
        ram_bytes,
        ram_reserve_bytes,
        expert_ram_bytes: None,
        vram_bytes,
        ram_bytes_s: args.ram_speed.map_or_else(|| Fact::measured(limits.read_bytes_s), Fact::given),
        vram_bytes_s: Fact::assumed(VRAM_BYTES_S),
        link_bytes_s: Fact::assumed(LINK_BYTES_S),
        nvme_bytes_s: args.nvme.map_or_else(|| drive(has_to_stream), |rate| Ok(Fact::given(rate)))?,
        cores: args.cores.map_or_else(|| Fact::found(limits.threads), Fact::given),
        int8_ops_s,
        int8_share: limits.int8_share(),
        gpu_ops_s: Fact::assumed(GPU_OPS_S),
    };
    if args.vram.is_none() {
        measure_card(&mut machine, card::Choice::Auto);
    }
    machine.vram_bytes_s = args.vram_speed.map_or(machine.vram_bytes_s, Fact::given);
    Ok(machine)
}

/// Measures the card that would be used, if there is one; what can't be measured stays as it is.
pub(crate) fn measure_card(machine: &mut Machine, device: card::Choice) {
    let Some(card) = card::chosen(device) else { return };
    let speed =
        Device::open(&card, DeviceOptions::default()).and_then(|card| gpu::measure(card, MEASURED_BYTES));
    match speed {
        Ok(gpu::Speed { read_bytes_s, ops_s, link_bytes_s }) => {
            machine.vram_bytes_s = Fact::measured(read_bytes_s);
            machine.gpu_ops_s = Fact::measured(ops_s);
            machine.link_bytes_s = Fact::measured(link_bytes_s);
        }
        Err(error) => warn!(%error, "the card's speed was not measured"),
    }
}

/// How fast the drive reads experts: measured where a model is here that has to stream.
fn drive(weights: Option<&Weights>) -> Result<Fact<f64>> {
    let mixture = weights.filter(|weights| weights.hyper().moe.is_some());
    match mixture {
        Some(weights) => streaming::drive_bytes_s(weights).map(Fact::measured),
        None => Ok(Fact::assumed(NVME_BYTES_S)),
    }
}
