//! Placement: which device computes with a tensor, and where its bytes lie.
//!
//! ```text
//! rules (TOML, or derived) ──> Placement ──┐
//! a model's tensors ─────────> ModelShape ─┼─> Plan: a home for every tensor, bytes a token from each tier,
//! memory and speeds ─────────> Machine ────┘         predicted speed, and what was assumed
//! ```
//! A placement is an ordered list of rules: the first that matches a tensor's name decides. [`derive`](derive()) writes the
//! rules for a machine, [`evaluate`] says what any rules come to. Nothing here reads files or measures: machines that nobody
//! has can be planned for. Start reading at [`Placement::of`], then `derive.rs` and `predict.rs`.

mod advice;
mod assumptions;
mod bits;
mod derive;
mod evaluate;
mod glob;
mod hits;
mod machine;
mod name;
mod network;
mod plan;
mod predict;
mod rule;
mod shape;
mod tensors;
#[cfg(test)]
mod tests;
mod text;

pub use advice::{Advice, advice};
pub use bits::Bits;
pub use derive::derive;
pub use evaluate::evaluate;
pub use machine::{Fact, Known, Machine};
pub use plan::{Plan, TierUse, Workload};
pub use predict::{HANDOVER_S, PROMPT_TOKENS};
pub use rule::{Decision, Device, Kernel, Rule, Span, Tier};
pub use shape::{ModelShape, TensorShape};
pub use text::RULES_MAX;

use name::Name;
use tensor::DType;
use weights::Hyperparameters;

/// Name, data type and shape of every tensor of a model that isn't here, as llama.cpp's Q4_K_M would have it.
pub(crate) fn assumed_tensors(hyper: &Hyperparameters) -> Vec<(String, DType, Vec<usize>)> {
    let mut all = Vec::new();
    tensors::each(hyper, |name, shape, layer| {
        let dtype = bits::q4_k_m(&name, &shape, layer.map(|layer| (layer, hyper.n_layers)));
        all.push((name, dtype, shape));
    });
    all
}

/// Rules, the first that matches wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    rules: Vec<Rule>,
}

impl Placement {
    /// The rules in this order.
    ///
    /// # Panics
    /// There are more than [`RULES_MAX`]: a programmer's error; what people write goes through [`Placement::parse`].
    pub fn new(rules: Vec<Rule>) -> Self {
        assert!(rules.len() <= RULES_MAX, "at most {RULES_MAX} rules");
        Self { rules }
    }

    /// Everything on the processor.
    pub fn on_cpu() -> Self {
        Self::new(vec![Rule::new("*", Device::Cpu)])
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the first rule says that matches `tensor`, a GGUF name; the processor where none does.
    ///
    /// One expert's matrix (`blk.3.ffn_gate.17.weight`) is matched under the name of the stack it is published in
    /// (`blk.3.ffn_gate_exps.weight`) and by its number.
    pub fn of(&self, tensor: &str) -> Decision {
        let name = Name::of(tensor);
        let found = self.rules.iter().enumerate().find(|(_, rule)| rule.matches(&name));
        match found {
            Some((nth, rule)) => Decision {
                device: rule.device,
                tier: rule.tier,
                format: rule.format,
                kernel: rule.kernel,
                rule: Some(nth),
            },
            None => Decision {
                device: Device::Cpu,
                tier: Tier::Ram,
                format: None,
                kernel: Kernel::Auto,
                rule: None,
            },
        }
    }
}

#[cfg(test)]
mod matching {
    use super::*;

    fn placement(rules: &[Rule]) -> Placement {
        Placement::new(rules.to_vec())
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let experts = Rule::new("blk.*.ffn_*_exps.*", Device::Cpu);
        let all = Rule::new("*", Device::Gpu);
        let order = placement(&[experts.clone(), all.clone()]);
        assert_eq!(order.of("blk.3.ffn_gate_exps.weight").device, Device::Cpu);
        assert_eq!(order.of("blk.3.ffn_gate_shexp.weight").device, Device::Gpu);
        assert_eq!(placement(&[all, experts]).of("blk.3.ffn_gate_exps.weight").device, Device::Gpu);
    }

    #[test]
    fn an_expert_is_matched_by_its_stack_and_its_number() {
        let some = Rule { experts: Some(Span::new(4, 7)), ..Rule::new("blk.*.ffn_*_exps.*", Device::Gpu) };
        let order = placement(&[some]);
        for (name, device) in [
            ("blk.3.ffn_gate.4.weight", Device::Gpu),
            ("blk.3.ffn_down.7.weight_scale_inv", Device::Gpu),
            ("blk.3.ffn_gate.8.weight", Device::Cpu),
            ("blk.3.ffn_gate_exps.weight", Device::Cpu),
            ("blk.3.ffn_gate.weight", Device::Cpu),
        ] {
            assert_eq!(order.of(name).device, device, "{name}");
        }
    }

    #[test]
    fn a_range_of_layers_matches_their_tensors_alone() {
        let layers = Rule { layers: Some(Span::new(0, 30)), ..Rule::new("*", Device::Gpu) };
        let order = placement(&[layers]);
        assert_eq!(order.of("blk.30.attn_q.weight").rule, Some(0));
        assert_eq!(order.of("blk.31.attn_q.weight").rule, None);
        assert_eq!(order.of("output.weight").rule, None);
    }
}
