//! What one token costs a graphics card: of a model that lies there as a whole, and of one whose experts the processor has.

use std::fmt::Write as _;

use anyhow::Result;
use gpu::{CardKind, Limits};
use model::{CardPlan, CardShape, StepCost, Tensors};
use serde_json::{Value, json};
use shaders::KvType;

/// Tokens in the context.
const PAST: usize = 1024;

/// A way to lay a model out.
struct Way {
    name: &'static str,
    cost: StepCost,
    /// Weights that the card reads, of those that the token needs there.
    read_share: f64,
}

/// In words, or as a line of JSON.
pub(super) fn report(model: &str, tensors: &Tensors<'_>, json: bool) -> Result<String> {
    let mut ways = vec![way(tensors, "all on the card", usize::MAX)?];
    if tensors.is_mixture() {
        ways.push(way(tensors, "experts on the processor", 0)?);
    }
    Ok(if json { as_json(model, &ways).to_string() } else { as_words(model, &ways) })
}

fn way(tensors: &Tensors<'_>, name: &'static str, experts: usize) -> Result<Way> {
    // What Vulkan cards offer, through wgpu: 2 GiB at once.
    let bytes = (2 << 30) - 4;
    let limits = Limits { binding_bytes: bytes, buffer_bytes: bytes, memory_bytes: None };
    let shape = CardShape {
        limits,
        kind: CardKind::Discrete,
        subgroups: true,
        f16: true,
        step_tokens: 1,
        kv_tokens: 2 * PAST,
        kv: KvType::F16,
        experts,
        brings: false,
        layers: usize::MAX,
        ends: true,
    };
    let cost = CardPlan::new(tensors, &shape)?.step_cost(1, PAST);
    let read_share = cost.weight_bytes as f64 / tensors.needed_bytes(experts > 0) as f64;
    Ok(Way { name, cost, read_share })
}

fn as_words(model: &str, ways: &[Way]) -> String {
    let mut out = format!("{model}: what a token costs a card\n\n");
    out.push_str("                           dispatches  submits  readbacks   weights read  of what it needs      moved\n");
    for Way { name, cost, read_share } in ways {
        let StepCost { dispatches, submits, readbacks, weight_bytes, moved_bytes } = cost;
        let (read, moved) = (*weight_bytes as f64 / 1e6, *moved_bytes as f64 / 1e6);
        writeln!(
            out,
            "{name:26} {dispatches:10} {submits:8} {readbacks:10} {read:11.1} MB {read_share:17.3} {moved:7.2} MB"
        )
        .expect("a string takes it");
    }
    out.trim_end().to_owned()
}

fn as_json(model: &str, ways: &[Way]) -> Value {
    let way = |Way { name, cost, read_share }: &Way| {
        json!({
            "way": name, "dispatches": cost.dispatches, "submits": cost.submits, "readbacks": cost.readbacks,
            "weight_bytes": cost.weight_bytes, "read_share": read_share, "moved_bytes": cost.moved_bytes,
        })
    };
    json!({ "model": model, "ways": ways.iter().map(way).collect::<Vec<_>>() })
}
