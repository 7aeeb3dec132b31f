//! The plan in words and in JSON.

use std::fmt::Write as _;

use anyhow::Result;
use model::placement::{Advice, Fact, Machine, ModelShape, Plan, TierUse, Workload};
use serde_json::{Value, json};

use crate::size;

/// A plan, and what it was made for.
pub(super) struct Report<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a ModelShape,
    pub(super) machine: &'a Machine,
    pub(super) workload: Workload,
    pub(super) plan: &'a Plan,
    pub(super) advice: &'a [Advice],
}

impl Report<'_> {
    pub(super) fn words(&self) -> String {
        let mut out = format!("model     {}\n", self.model());
        let _ = writeln!(out, "machine   {}", machine(self.machine).join("\n          "));
        let _ =
            write!(out, "\n{:6}{:>12}{:>12}{:>15}  what lies there\n", "tier", "bytes", "of", "read a token");
        for used in &self.plan.tiers {
            out.push_str(&self.tier(used));
        }
        let Workload { depth_tokens, prompt_tokens, context_tokens } = self.workload;
        let (prefill, decode) = (rate(self.plan.prefill_tok_s), rate(self.plan.decode_tok_s));
        let _ = write!(out, "\nprefill   {prefill} tok/s ({prompt_tokens} tokens)\n");
        let _ = writeln!(
            out,
            "decode    {decode} tok/s (after {depth_tokens} tokens; memory for {context_tokens})"
        );
        out.push_str("\nThis rests on:\n");
        self.plan.assumptions.iter().for_each(|words| out.push_str(&item(words)));
        out.push_str(&self.advice());
        out.trim_end().to_owned()
    }

    fn model(&self) -> String {
        let hyper = &self.shape.hyper;
        let mut words = format!("{}, {}", self.name, size::format(self.shape.bytes()));
        if let Some(bits) = self.shape.bits {
            let _ = write!(words, " in {bits}");
        }
        let _ = write!(words, ", {} layers", hyper.n_layers);
        if let Some(moe) = &hyper.moe {
            let mixtures = hyper.n_layers - moe.n_dense_layers;
            let _ =
                write!(words, ", {mixtures} of them with {} experts, {} a token", moe.n_experts, moe.top_k);
        }
        words
    }

    /// A row of the table.
    fn tier(&self, used: &TierUse) -> String {
        let room = used.room_bytes.map_or_else(|| "-".into(), size::format);
        let (bytes, read) = (size::format(used.bytes()), size::format(used.token_bytes));
        format!("{:6}{bytes:>12}{room:>12}{read:>15}  {}\n", used.tier.name(), self.held(used))
    }

    /// What lies in a tier.
    fn held(&self, used: &TierUse) -> String {
        let n_layers = self.shape.hyper.n_layers;
        let mut words = Vec::new();
        match used.n_layers {
            0 => {}
            n if n == n_layers => {
                words.push("what every token needs of all layers, their KV cache".to_owned())
            }
            n => words.push(format!("what every token needs of {n} of {n_layers} layers, their KV cache")),
        }
        words.extend(used.has_head.then(|| "head".to_owned()));
        words.extend(used.has_embedding.then(|| "embedding".to_owned()));
        let n_all: usize = self.plan.tiers.iter().map(|used| used.n_experts).sum();
        if used.n_experts > 0 {
            let share = 100.0 * used.n_experts as f64 / n_all as f64;
            words.push(format!("{} of {n_all} routed experts ({share:.0} %)", used.n_experts));
        }
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    }

    fn advice(&self) -> String {
        if self.advice.is_empty() {
            return "\nMore memory, a larger card or a faster drive would each bring less than 5 %.\n"
                .to_owned();
        }
        let mut out = "\nWhat would help, the most first:\n".to_owned();
        for Advice { change, decode_tok_s, prefill_tok_s } in self.advice {
            let (decode, prefill) = (rate(*decode_tok_s), rate(*prefill_tok_s));
            let gain = decode_tok_s / self.plan.decode_tok_s;
            let words =
                format!("{change}: decode {decode} tok/s ({gain:.1} times as fast), prefill {prefill} tok/s");
            out.push_str(&item(&words));
        }
        out
    }

    pub(super) fn json(&self) -> Result<Value> {
        let Self { name, shape, machine, workload, plan, advice } = self;
        let rules: toml::Table = plan.placement.to_toml().parse()?;
        let tiers = plan.tiers.iter().map(|used| (used.tier.name().to_owned(), json!(used)));
        Ok(json!({
            "model": name, "model_bytes": shape.bytes(), "bits": shape.bits.map(|bits| bits.to_string()),
            "machine": machine, "workload": workload, "tiers": tiers.collect::<serde_json::Map<_, _>>(),
            "prefill_tok_s": plan.prefill_tok_s, "decode_tok_s": plan.decode_tok_s, "hit_rate": plan.hit_rate,
            "rules": rules.get("rule"), "assumptions": plan.assumptions, "advice": advice,
        }))
    }
}

/// Memory and speeds, a line each.
fn machine(machine: &Machine) -> Vec<String> {
    let bytes = |fact: Fact<u64>| format!("{} ({})", size::format(fact.value), fact.known.name());
    let speed = |fact: Fact<f64>| format!("{:.1} GB/s ({})", fact.value / 1e9, fact.known.name());
    let cores = format!("{} ({})", machine.cores.value, machine.cores.known.name());
    let card = if machine.has_gpu() {
        format!("card with {}, read at {}", bytes(machine.vram_bytes), speed(machine.vram_bytes_s))
    } else {
        format!("no card ({})", machine.vram_bytes.known.name())
    };
    vec![
        format!("memory {}, read at {}; cores {cores}", bytes(machine.ram_bytes), speed(machine.ram_bytes_s)),
        card,
        format!("drive read at {}", speed(machine.nvme_bytes_s)),
    ]
}

/// A line of a list.
fn item(words: &str) -> String {
    format!("  - {words}\n")
}

/// Tokens a second with as many digits as say something.
fn rate(tok_s: f64) -> String {
    if tok_s < 10.0 { format!("{tok_s:.2}") } else { format!("{tok_s:.1}") }
}
