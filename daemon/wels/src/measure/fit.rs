//! What the machine would serve: every model of the catalogue by the rules of `wels plan`, with what was measured.

use anyhow::Result;
use model::placement::{Bits, Fact, Machine, ModelShape, Workload, derive};
use serde::Serialize;

use super::report::{Card, Drive, Memory, Processor};
use crate::bench::Limits;
use crate::{catalogue, plan, serve, size, streaming};

/// A model of the catalogue on this machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Fit {
    id: String,
    pub(super) name: String,
    bytes: u64,
    /// What its weights are taken to be stored in.
    format: String,
    context_tokens: usize,
    /// `None` where it doesn't fit.
    pub(super) plan: Option<Speeds>,
    /// Why it doesn't.
    reason: Option<String>,
}

/// What a plan comes to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Speeds {
    pub(super) decode_tok_s: f64,
    prefill_tok_s: f64,
    /// Bytes that lie on card, memory and drive.
    vram_bytes: u64,
    ram_bytes: u64,
    nvme_bytes: u64,
    assumptions: Vec<String>,
}

/// The machine as `wels plan` takes it: what wasn't measured is a usual value, and the plans say so.
pub(super) fn machine(
    limits: &Limits,
    (processor, memory): (&Processor, &Memory),
    drive: &Drive,
    card: Option<&Card>,
) -> Machine {
    let speeds = card.and_then(|card| card.speeds.as_ref());
    let fact = |measured: Option<f64>, usual: f64| measured.map_or(Fact::assumed(usual), Fact::measured);
    Machine {
        ram_bytes: Fact::found(memory.bytes),
        ram_reserve_bytes: streaming::reserve(memory.bytes),
        expert_ram_bytes: None,
        vram_bytes: Fact::found(card.and_then(|card| card.memory_bytes).unwrap_or(0)),
        ram_bytes_s: Fact::measured(memory.read_bytes_s),
        vram_bytes_s: fact(speeds.map(|speeds| speeds.read_bytes_s), plan::VRAM_BYTES_S),
        link_bytes_s: fact(speeds.map(|speeds| speeds.link_bytes_s), plan::LINK_BYTES_S),
        nvme_bytes_s: fact(drive.reads.as_ref().map(|reads| reads.bytes_s), plan::NVME_BYTES_S),
        cores: Fact::found(processor.threads),
        int8_ops_s: Fact::measured(processor.int8_ops_s),
        int8_share: limits.int8_share(),
        gpu_ops_s: fact(speeds.map(|speeds| speeds.ops_s), plan::GPU_OPS_S),
    }
}

/// The catalogue, the smallest first. A model that the drive can't hold, whose bytes are known, does not fit, wherever it would lie.
pub(super) fn models(machine: &Machine, drive_bytes: Option<i64>) -> Result<Vec<Fit>> {
    let mut fits = Vec::new();
    for entry in catalogue::entries()? {
        // Of some the catalogue knows no shape.
        let Ok(hyper) = catalogue::hyperparameters(&entry.id) else { continue };
        let context_tokens = serve::CONTEXT_DEFAULT.min(hyper.context).max(1);
        let shape = ModelShape::assumed(hyper, Bits::Q4KM);
        let drive_bytes = drive_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let derived = match drive_bytes.filter(|bytes| *bytes < shape.bytes()) {
            Some(bytes) => Err(format!("the drive holds {}: add a larger one", size::format(bytes))),
            None => derive(&shape, machine, &Workload::of(context_tokens)).map_err(|error| error.to_string()),
        };
        let reason = derived.as_ref().err().cloned();
        let plan = derived.ok().map(|plan| {
            let [vram_bytes, ram_bytes, nvme_bytes] = plan.tiers.each_ref().map(|used| used.bytes());
            let (decode_tok_s, prefill_tok_s) = (plan.decode_tok_s, plan.prefill_tok_s);
            Speeds {
                decode_tok_s,
                prefill_tok_s,
                vram_bytes,
                ram_bytes,
                nvme_bytes,
                assumptions: plan.assumptions,
            }
        });
        let (bytes, format) = (shape.bytes(), Bits::Q4KM.to_string());
        fits.push(Fit { id: entry.id, name: entry.name, bytes, format, context_tokens, plan, reason });
    }
    fits.sort_by_key(|fit| fit.bytes);
    Ok(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A box with a large drive, but for its memory.
    fn machine(ram_bytes: u64) -> Machine {
        Machine {
            ram_bytes: Fact::found(ram_bytes),
            ram_reserve_bytes: 1 << 30,
            expert_ram_bytes: None,
            vram_bytes: Fact::found(0),
            ram_bytes_s: Fact::measured(60e9),
            vram_bytes_s: Fact::assumed(plan::VRAM_BYTES_S),
            link_bytes_s: Fact::assumed(plan::LINK_BYTES_S),
            nvme_bytes_s: Fact::measured(7e9),
            cores: Fact::found(16),
            int8_ops_s: Fact::measured(5e12),
            int8_share: 0.19,
            gpu_ops_s: Fact::assumed(plan::GPU_OPS_S),
        }
    }

    fn fit(name: &str, ram_bytes: u64, drive_bytes: Option<i64>) -> Fit {
        let fits = models(&machine(ram_bytes), drive_bytes).unwrap();
        assert!(fits.is_sorted_by_key(|fit| fit.bytes) && fits.len() > 8);
        fits.into_iter().find(|fit| fit.id == name).unwrap()
    }

    #[test]
    fn a_mixture_streams_and_needs_a_drive_that_holds_it() {
        let speeds = fit("deepseek-r1", 128 << 30, None).plan.unwrap();
        assert!(speeds.nvme_bytes > speeds.ram_bytes && speeds.decode_tok_s > 0.0);
        let small = fit("deepseek-r1", 128 << 30, Some(256_000_000_000));
        assert!(small.plan.is_none() && small.reason.unwrap().contains("the drive holds 238.4 GiB"));
        let dense = fit("r1-distill-llama-70b", 16 << 30, None);
        assert!(dense.plan.is_none() && dense.reason.unwrap().contains("GiB"));
    }
}
