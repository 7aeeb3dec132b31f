//! What would make a machine faster.

use serde::Serialize;

use super::{Fact, Machine, ModelShape, Workload, derive};

/// Answers that are less faster than by this are no reason to buy anything.
const GAIN_MIN: f64 = 1.05;
/// Bytes of memory, and of a card's, that are added.
const RAM_STEP: u64 = 64 << 30;
const VRAM_STEP: u64 = 24 << 30;

/// A change, and what it would bring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// The change.
    pub change: &'static str,
    /// Tokens a second of an answer then.
    pub decode_tok_s: f64,
    /// Tokens a second of a prompt then.
    pub prefill_tok_s: f64,
}

/// Changes that make answers faster than `decode_tok_s`, the best first.
pub fn advice(shape: &ModelShape, machine: &Machine, workload: &Workload, decode_tok_s: f64) -> Vec<Advice> {
    let tried = changes(machine).into_iter().filter_map(|(change, machine)| {
        let plan = derive(shape, &machine, workload).ok()?;
        Some(Advice { change, decode_tok_s: plan.decode_tok_s, prefill_tok_s: plan.prefill_tok_s })
    });
    let mut list: Vec<_> = tried.filter(|advice| advice.decode_tok_s >= decode_tok_s * GAIN_MIN).collect();
    list.sort_by(|a, b| b.decode_tok_s.total_cmp(&a.decode_tok_s));
    list
}

/// The same machine, and others that differ in one thing.
fn changes(machine: &Machine) -> Vec<(&'static str, Machine)> {
    let doubled = |fact: Fact<f64>| Fact { value: fact.value * 2.0, ..fact };
    let more = |fact: Fact<u64>, bytes| Fact { value: fact.value + bytes, ..fact };
    let same = *machine;
    let card = if machine.has_gpu() { "24 GiB more on the card" } else { "a card of 24 GiB" };
    vec![
        ("the rules that `wels plan` derives", same),
        ("64 GiB more memory", Machine { ram_bytes: more(same.ram_bytes, RAM_STEP), ..same }),
        (card, Machine { vram_bytes: more(same.vram_bytes, VRAM_STEP), ..same }),
        ("a drive twice as fast", Machine { nvme_bytes_s: doubled(same.nvme_bytes_s), ..same }),
        ("memory twice as fast", Machine { ram_bytes_s: doubled(same.ram_bytes_s), ..same }),
    ]
}
