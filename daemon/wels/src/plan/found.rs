//! The machine: what is given, else what is found and measured here, else usual values.

use anyhow::Result;
use kernels::{Cpu, CpuOptions};
use model::placement::{Fact, Machine};
use weights::Weights;

use crate::bench::Limits;
use crate::cli::Plan as Args;
use crate::{machine, streaming};

/// A drive of the slower kind.
pub(crate) const NVME_BYTES_S: f64 = 3e9;
/// A card of the slower kind with memory for layers of a large model: Arc B60 456 GB/s, RX 7900 XTX 960 GB/s.
pub(crate) const VRAM_BYTES_S: f64 = 450e9;
/// The same card's f16 multiply-adds on shaders, without matrix units.
pub(crate) const GPU_OPS_S: f64 = 20e12;

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
    Ok(Machine {
        ram_bytes,
        ram_reserve_bytes,
        expert_ram_bytes: None,
        vram_bytes,
        ram_bytes_s: args.ram_speed.map_or_else(|| Fact::measured(limits.read_bytes_s), Fact::given),
        vram_bytes_s: args.vram_speed.map_or(Fact::assumed(VRAM_BYTES_S), Fact::given),
        nvme_bytes_s: args.nvme.map_or_else(|| drive(has_to_stream), |rate| Ok(Fact::given(rate)))?,
        cores: args.cores.map_or_else(|| Fact::found(limits.threads), Fact::given),
        int8_ops_s,
        int8_share: limits.int8_share(),
        gpu_ops_s: Fact::assumed(GPU_OPS_S),
    })
}

/// How fast the drive reads experts: measured where a model is here that has to stream.
fn drive(weights: Option<&Weights>) -> Result<Fact<f64>> {
    let mixture = weights.filter(|weights| weights.hyper().moe.is_some());
    match mixture {
        Some(weights) => streaming::drive_bytes_s(weights).map(Fact::measured),
        None => Ok(Fact::assumed(NVME_BYTES_S)),
    }
}
