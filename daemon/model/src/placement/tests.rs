//! Derivation and evaluation as a whole.

use proptest::prelude::*;

use super::predict::CPU_READ_SHARE;
use super::shape::tests::{qwen_7b, r1};
use super::*;

const GIB: u64 = 1 << 30;

/// An office machine, with as much memory, and a card if it has one.
fn machine(ram_gib: u64, vram_gib: u64) -> Machine {
    Machine {
        ram_bytes: Fact::given(ram_gib * GIB),
        ram_reserve_bytes: ram_gib * GIB / 10,
        expert_ram_bytes: None,
        vram_bytes: Fact::given(vram_gib * GIB),
        ram_bytes_s: Fact::measured(80e9),
        vram_bytes_s: Fact::assumed(450e9),
        link_bytes_s: Fact::assumed(12e9),
        nvme_bytes_s: Fact::given(7e9),
        cores: Fact::found(16),
        int8_ops_s: Fact::measured(8e12),
        int8_share: 0.3,
        gpu_ops_s: Fact::assumed(20e12),
    }
}

const WORKLOAD: Workload =
    Workload { context_tokens: 8192, depth_tokens: 1024, prompt_tokens: PROMPT_TOKENS };

fn plan(shape: &ModelShape, machine: &Machine) -> Plan {
    let plan = derive(shape, machine, &WORKLOAD).expect("fits");
    every_tensor_has_one_home(&plan, shape);
    plan
}

/// The bytes of the tiers are those of the tensors at home there, and within what is there.
fn every_tensor_has_one_home(plan: &Plan, shape: &ModelShape) {
    for used in &plan.tiers {
        let at_home = shape.tensors.iter().filter(|tensor| plan.home(&tensor.name) == used.tier);
        assert_eq!(used.weights_bytes, at_home.map(|tensor| tensor.bytes).sum::<u64>(), "{used:?}");
        assert!(used.room_bytes.is_none_or(|room| used.bytes() <= room), "{used:?}");
    }
    assert_eq!(plan.tiers.iter().map(|used| used.weights_bytes).sum::<u64>(), shape.bytes());
}

fn on_card(plan: &Plan) -> u64 {
    plan.tier(Tier::Vram).bytes()
}

#[test]
fn r1_takes_all_three_tiers_of_an_office_machine() {
    let shape = r1(Bits::Q4KM);
    let plan = plan(&shape, &machine(128, 24));
    let [vram, ram, nvme] = &plan.tiers;
    assert!(vram.n_layers == 61 && vram.has_head && vram.has_embedding, "{vram:?}");
    assert_eq!(vram.n_experts + ram.n_experts + nvme.n_experts, 58 * 256);
    assert!(vram.n_experts > 58 && ram.n_experts > 3000 && nvme.n_experts > 8000, "{:?}", plan.tiers);
    // What is left on the card and in memory is less than an expert of some 25 MB.
    let left = |used: &TierUse| used.room_bytes.expect("memory") - used.bytes();
    assert!(left(vram) < 32 << 20 && left(ram) < 32 << 20, "{:?}", plan.tiers);
    let token = nvme.token_bytes as f64 / 7e9;
    assert!(plan.decode_tok_s < 1.0 / token && plan.decode_tok_s > 0.5 / token, "the drive is the limit");
}

#[test]
fn a_distill_lies_wholly_on_the_card() {
    let shape = qwen_7b();
    let plan = plan(&shape, &machine(32, 24));
    assert_eq!(plan.placement.rules(), [Rule::new("*", Device::Gpu)]);
    assert_eq!(plan.tier(Tier::Vram).weights_bytes, shape.bytes());
    assert_eq!((plan.tier(Tier::Ram).bytes(), plan.tier(Tier::Ram).token_bytes), (0, 0));
}

#[test]
fn without_a_card_all_is_the_processors() {
    for shape in [qwen_7b(), r1(Bits::Q4KM)] {
        let plan = plan(&shape, &machine(128, 0));
        assert_eq!(on_card(&plan), 0);
        assert_eq!(plan.tier(Tier::Ram).n_layers, shape.hyper.n_layers);
    }
}

#[test]
fn a_card_too_small_for_a_layer_stays_empty() {
    let small = Machine { vram_bytes: Fact::given(640 << 20), ..machine(128, 0) };
    let shape = r1(Bits::Q4KM);
    let (small, none) = (plan(&shape, &small), plan(&shape, &machine(128, 0)));
    assert_eq!(small.placement, none.placement);
    assert_eq!(small.decode_tok_s, none.decode_tok_s);
}

#[test]
fn a_small_card_takes_the_first_layers() {
    let plan = plan(&qwen_7b(), &machine(32, 4));
    let n_layers = plan.tier(Tier::Vram).n_layers;
    assert!((5..28).contains(&n_layers), "{n_layers}");
    let first = Rule { layers: Some(Span::new(0, n_layers as u32 - 1)), ..Rule::new("blk.*", Device::Gpu) };
    assert_eq!(plan.placement.rules(), [first, Rule::new("*", Device::Cpu)]);
}

#[test]
fn rules_written_and_read_again_give_the_same_plan() {
    for (shape, machine) in [(r1(Bits::Of(4.5)), machine(128, 24)), (qwen_7b(), machine(16, 3))] {
        let plan = plan(&shape, &machine);
        let read = Placement::parse(&plan.placement.to_toml()).expect("what was written");
        let again = evaluate(&read, &shape, &machine, &WORKLOAD).expect("fits");
        assert_eq!((&again.tiers, again.decode_tok_s), (&plan.tiers, plan.decode_tok_s));
    }
}

#[test]
fn what_fits_nowhere_is_an_error_with_a_remedy() {
    let error = derive(&r1(Bits::Q4KM), &machine(8, 0), &WORKLOAD).expect_err("does not fit").to_string();
    assert!(error.contains("GiB of ram") && error.contains("add memory or a card"), "{error}");
    let on_card = Placement::new(vec![Rule::new("*", Device::Gpu)]);
    for (vram_gib, want) in [(2, "leave fewer layers to the card"), (0, "this machine has no card")] {
        let error =
            evaluate(&on_card, &qwen_7b(), &machine(64, vram_gib), &WORKLOAD).expect_err("does not fit");
        assert!(error.to_string().contains(want), "{error}");
    }
}

#[test]
fn rules_that_cannot_be_followed_are_named() {
    let complaint = |text: &str| {
        let rules = Placement::parse(text).expect("rules");
        evaluate(&rules, &r1(Bits::Q4KM), &machine(512, 0), &WORKLOAD).expect_err(text).to_string()
    };
    let drive = "[[rule]]\nmatch = \"*\"\ndevice = \"cpu\"\ntier = \"nvme\"";
    assert!(complaint(drive).contains("rule 1, tier: only routed experts may stay on the drive"));
    let parted = "[[rule]]\nmatch = \"blk.*.ffn_gate_exps.*\"\ndevice = \"gpu\"\n[[rule]]\nmatch = \"*\"\ndevice = \"cpu\"";
    assert!(complaint(parted).contains("rule 2, match: parts experts of layer 3"), "{}", complaint(parted));
}

#[test]
fn experts_that_rules_leave_on_the_drive_are_read_each_time() {
    let text =
        "[[rule]]\nmatch = \"blk.*.ffn_*_exps.*\"\nlayers = \"3-31\"\ndevice = \"cpu\"\ntier = \"nvme\"";
    let (shape, rules) = (r1(Bits::Of(4.5)), Placement::parse(text).expect("rules"));
    let plan = evaluate(&rules, &shape, &machine(512, 0), &WORKLOAD).expect("fits");
    every_tensor_has_one_home(&plan, &shape);
    let nvme = plan.tier(Tier::Nvme);
    assert_eq!(nvme.n_experts, 29 * 256);
    assert_eq!(nvme.token_bytes, nvme.expert_bytes * 8 / 256);
}

#[test]
fn where_reading_is_the_limit_a_token_takes_what_it_reads() {
    let shape = qwen_7b();
    let machine = Machine { int8_ops_s: Fact::given(1e18), ..machine(32, 0) };
    let plan = plan(&shape, &machine);
    let embedding =
        shape.tensors.iter().find(|tensor| tensor.name == "token_embd.weight").expect("is there").bytes;
    let kv = 2 * 2 * 4 * 128 * 28 * WORKLOAD.depth_tokens as u64;
    let bytes = shape.bytes() - embedding + kv;
    let want = 80e9 * CPU_READ_SHARE / bytes as f64;
    assert!((plan.decode_tok_s / want - 1.0).abs() < 1e-3, "{} tok/s, want {want}", plan.decode_tok_s);
}

#[test]
fn advice_names_what_helps_and_the_best_first() {
    let (shape, machine) = (r1(Bits::Q4KM), machine(128, 24));
    let now = plan(&shape, &machine).decode_tok_s;
    let list = advice(&shape, &machine, &WORKLOAD, now);
    assert!(list.iter().any(|advice| advice.change == "a drive twice as fast"), "{list:?}");
    assert!(list.iter().all(|advice| advice.change != "the rules that `wels plan` derives"), "{list:?}");
    assert!(list.is_sorted_by(|a, b| a.decode_tok_s >= b.decode_tok_s), "{list:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_the_machine_homes_add_up(ram_mib in 12_000_u64..600_000, vram_mib in 0_u64..80_000) {
        let machine = Machine {
            ram_bytes: Fact::given(ram_mib << 20), vram_bytes: Fact::given(vram_mib << 20), ..machine(0, 0)
        };
        let shape = r1(Bits::Of(4.0));
        if let Ok(plan) = derive(&shape, &machine, &WORKLOAD) {
            every_tensor_has_one_home(&plan, &shape);
            prop_assert!(plan.decode_tok_s > 0.0 && plan.prefill_tok_s > 0.0);
        }
    }
}

#[test]
fn a_prompts_experts_come_to_the_card_where_that_is_faster() {
    let shape = r1(Bits::Q4KM);
    let slow = machine(512, 24);
    let fast = Machine { link_bytes_s: Fact::measured(1e12), gpu_ops_s: Fact::measured(100e12), ..slow };
    let stuck = Machine { link_bytes_s: Fact::measured(1.0), ..fast };
    let prefill = |machine: &Machine| plan(&shape, machine).prefill_tok_s;
    assert!(prefill(&fast) > 1.5 * prefill(&stuck), "{} {}", prefill(&fast), prefill(&stuck));
    assert_eq!(plan(&shape, &fast).decode_tok_s, plan(&shape, &stuck).decode_tok_s);
}
