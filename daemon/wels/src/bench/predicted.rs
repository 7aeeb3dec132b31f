//! What `wels plan` would have said of this run.

use anyhow::Result;
use gpu::CardKind;
use model::placement::{Fact, Machine, ModelShape, Placement, Plan, Workload, derive, evaluate};
use serde_json::{Value, json};
use tracing::warn;
use weights::Weights;

use super::Limits;
use crate::cli::{Bench, Precision};
use crate::{plan, streaming};

/// Speeds predicted before anything ran.
#[derive(Debug)]
pub(super) struct Predicted(Plan);

impl Predicted {
    /// For where the model runs; `None` for reference arithmetic, which nobody waits for, for a software device, of which
    /// nothing is known, and where a plan would leave more memory free than there is.
    ///
    /// # Errors
    /// The drive can't be measured.
    pub(super) fn of(
        args: &Bench,
        weights: &Weights,
        limits: &Limits,
        card: Option<&gpu::Device>,
    ) -> Result<Option<Self>> {
        if args.precision == Precision::F32 || card.is_some_and(|card| card.kind == CardKind::Software) {
            return Ok(None);
        }
        let mut machine = machine(args, weights, limits)?;
        let depth_tokens = args.depth + args.decode / 2;
        let workload =
            Workload { context_tokens: args.depth + args.decode, depth_tokens, prompt_tokens: args.prefill };
        let shape = ModelShape::of(weights);
        let plan = match card.and_then(|card| card.limits.memory_bytes) {
            Some(bytes) => {
                machine.vram_bytes = Fact::found(bytes);
                plan::measure_card(&mut machine, args.compute.device);
                derive(&shape, &machine, &workload)
            }
            None => evaluate(&Placement::on_cpu(), &shape, &machine, &workload),
        };
        match plan {
            Ok(plan) => Ok(Some(Self(plan))),
            Err(error) => {
                warn!(%error, "speed was not predicted");
                Ok(None)
            }
        }
    }

    pub(super) fn prefill_tok_s(&self) -> f64 {
        self.0.prefill_tok_s
    }

    /// Of one answer.
    pub(super) fn decode_tok_s(&self) -> f64 {
        self.0.decode_tok_s
    }

    pub(super) fn json(&self) -> Value {
        let Plan { prefill_tok_s, decode_tok_s, hit_rate, assumptions, .. } = &self.0;
        json!({
            "prefill_tok_s": prefill_tok_s, "decode_tok_s": decode_tok_s, "hit_rate": hit_rate, "assumptions": assumptions,
        })
    }
}

/// For people, behind what was measured.
pub(super) fn words(tok_s: Option<f64>) -> String {
    tok_s.map_or_else(String::new, |tok_s| format!("; predicted {tok_s:.1}"))
}

/// This machine without its card, with the memory that this process may take: all it wants, where the model is mapped.
fn machine(args: &Bench, weights: &Weights, limits: &Limits) -> Result<Machine> {
    let streams = weights.is_resident();
    let ram = if streams { streaming::limit(&args.compute) } else { u64::MAX };
    let drive = if streams {
        Fact::measured(streaming::drive_bytes_s(weights)?)
    } else {
        Fact::assumed(plan::NVME_BYTES_S)
    };
    Ok(Machine {
        ram_bytes: Fact::found(ram),
        ram_reserve_bytes: 0,
        expert_ram_bytes: args.compute.expert_memory.filter(|_| streams),
        vram_bytes: Fact::found(0),
        ram_bytes_s: Fact::measured(limits.read_bytes_s),
        vram_bytes_s: Fact::assumed(plan::VRAM_BYTES_S),
        link_bytes_s: Fact::assumed(plan::LINK_BYTES_S),
        nvme_bytes_s: drive,
        cores: Fact::found(limits.threads),
        int8_ops_s: Fact::measured(limits.int8_ops_s),
        int8_share: limits.int8_share(),
        gpu_ops_s: Fact::assumed(plan::GPU_OPS_S),
    })
}
