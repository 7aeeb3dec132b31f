//! Small models on a graphics card (llvmpipe) against logits computed by other people's code.

use gpu::{Adapter, CardKind, Device, DeviceOptions};
use model::placement::Placement;
use model::{CardOptions, Chunk, Forward, LogitsOf, Model, Precision, PromptExperts};

use crate::logits::{agrees, chats_agree};
use crate::support::{argmax, bind, greedy, logits_of};

/// Two thousandths: the sums of shaders are in another order, in f32.
const TOLERANCE: f32 = 2e-3;

/// llvmpipe, so that tests are the same everywhere.
pub(crate) fn device(options: DeviceOptions) -> Device {
    let cards = gpu::adapters();
    let software = cards.iter().position(|card| card.kind == CardKind::Software);
    let card =
        Adapter::choose(cards, software).expect("Mesa's llvmpipe: apt-get install mesa-vulkan-drivers");
    Device::open(&card, options).unwrap()
}

fn on_card(model: Model, options: DeviceOptions) -> Model {
    with_experts(model, options, None)
}

fn with_experts(model: Model, options: DeviceOptions, experts: Option<usize>) -> Model {
    moved(model, options, CardOptions { experts, ..CardOptions::default() })
}

fn moved(mut model: Model, device_options: DeviceOptions, options: CardOptions) -> Model {
    model.move_to_card(device(device_options), options, &mut |_, _| {}).unwrap();
    model
}

/// With all routed experts on the processor, some of them on the card, and all; those that are not there computed by the
/// processor, or brought for the prompt.
fn mixture_agrees(fixture: &fixtures::Model, expected: &str) {
    for experts in [Some(0), Some(3), None] {
        for prompt_experts in [PromptExperts::Measured, PromptExperts::From(2)] {
            let model = bind(&fixture.path, Precision::F32, 512);
            let options = CardOptions { experts, prompt_experts, ..CardOptions::default() };
            let model = moved(model, DeviceOptions::default(), options);
            let told = experts.is_some() && prompt_experts != PromptExperts::Measured;
            // Experts of the FP8 model are no whole blocks of 128 rows: they can't be cut into slots.
            let brings = told && !expected.contains("fp8");
            assert_eq!(model.brings_from().is_some(), brings, "a software device is told, or brings none");
            agrees(model, expected, TOLERANCE);
        }
    }
}

fn mixture_folder_agrees(name: &str) {
    mixture_agrees(&fixtures::folder(name), &format!("{name}/expected.safetensors"));
}

#[test]
fn tiny_deepseek_v3_on_card_and_processor() {
    mixture_folder_agrees("tiny-deepseek-v3");
}

#[test]
fn tiny_deepseek_v3_fp8_on_card_and_processor() {
    mixture_folder_agrees("tiny-deepseek-v3-fp8");
}

#[test]
fn tiny_deepseek_v2_on_card_and_processor() {
    mixture_folder_agrees("tiny-deepseek-v2");
}

#[test]
fn tiny_deepseek_v2_lite_on_card_and_processor() {
    mixture_folder_agrees("tiny-deepseek-v2-lite");
}

#[test]
fn tiny_deepseek_v3_k_quants_on_card_and_processor() {
    let name = "tiny-deepseek-v3-k256.q4_k_m";
    mixture_agrees(&fixtures::gguf(&format!("{name}.gguf")), &format!("gguf/{name}.expected.safetensors"));
}

fn folder_agrees(name: &str, options: DeviceOptions) {
    let fixture = fixtures::folder(name);
    let model = on_card(bind(&fixture.path, Precision::F32, 512), options);
    agrees(model, &format!("{name}/expected.safetensors"), TOLERANCE);
}

fn gguf_agrees(name: &str) {
    let fixture = fixtures::gguf(&format!("{name}.gguf"));
    let model = on_card(bind(&fixture.path, Precision::F32, 512), DeviceOptions::default());
    agrees(model, &format!("gguf/{name}.expected.safetensors"), TOLERANCE);
}

#[test]
fn tiny_llama_on_the_card() {
    folder_agrees("tiny-llama", DeviceOptions::default());
}

#[test]
fn tiny_qwen2_on_the_card() {
    folder_agrees("tiny-qwen2", DeviceOptions::default());
}

#[test]
fn tiny_llama_q4_0_on_the_card() {
    gguf_agrees("tiny-llama.q4_0");
}

#[test]
fn tiny_qwen2_q8_0_on_the_card() {
    gguf_agrees("tiny-qwen2.q8_0");
}

#[test]
fn smollm2_continues_five_chats_on_the_card_as_the_reference_does() {
    let model = bind(&fixtures::test_data("smollm2.gguf"), Precision::F32, 512);
    chats_agree(on_card(model, DeviceOptions::default()), &["c0", "c1", "c2", "c3", "c4"], TOLERANCE);
}

#[test]
fn the_weakest_card_that_webgpu_knows_computes_the_same() {
    folder_agrees(
        "tiny-llama",
        DeviceOptions { minimum_limits: true, no_subgroups: true, ..DeviceOptions::default() },
    );
}

#[test]
fn a_card_with_too_little_memory_says_so_and_the_processor_goes_on() {
    let fixture = fixtures::folder("tiny-llama");
    let mut model = bind(&fixture.path, Precision::F32, 512);
    let small = device(DeviceOptions { memory: Some(1_000_000), ..DeviceOptions::default() });
    let error = model.move_to_card(small, CardOptions::default(), &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("has 1 MB for a model, and this one takes"), "{error}");
    agrees(model, "tiny-llama/expected.safetensors", TOLERANCE);
}

/// The first layers on the card, the others, with what stands outside them, on the processor.
fn partly(name: &str, layers: usize) -> Model {
    let mut model = bind(&fixtures::folder(name).path, Precision::F32, 512);
    let options = CardOptions { experts: Some(1), layers: Some(layers), ..CardOptions::default() };
    model.move_to_card(device(DeviceOptions::default()), options, &mut |_, _| {}).unwrap();
    model
}

#[test]
fn layers_are_shared_by_card_and_processor() {
    for name in ["tiny-llama", "tiny-deepseek-v3"] {
        agrees(partly(name, 1), &format!("{name}/expected.safetensors"), TOLERANCE);
        agrees(partly(name, 2), &format!("{name}/expected.safetensors"), TOLERANCE);
    }
}

#[test]
fn an_answer_survives_the_loss_of_its_card() {
    let fixture = fixtures::folder("tiny-qwen2");
    let whole = {
        let mut model = bind(&fixture.path, Precision::F32, 512);
        let (seq, rows) = logits_of(&mut model, &PROMPT, 8, 64);
        let last = rows[rows.len() - model.limits().n_vocab..].to_vec();
        greedy(&mut model, seq, last, 24)
    };
    let mut model = on_card(bind(&fixture.path, Precision::F32, 512), DeviceOptions::default());
    let other = model.open(32).unwrap();
    let mut logits = Vec::new();
    model.step(&[Chunk { seq: other, tokens: &PROMPT[..5], logits: LogitsOf::Last }], &mut logits).unwrap();
    let (seq, rows) = logits_of(&mut model, &PROMPT, 8, 64);
    let last = rows[rows.len() - model.limits().n_vocab..].to_vec();
    let first = greedy(&mut model, seq, last, 10);
    assert_eq!(first, whole[..10]);
    assert_eq!(model.notice(), None);
    model.card().expect("it is in use").lose();
    let mut row = Vec::new();
    model.step(&[Chunk { seq, tokens: &whole[10..11], logits: LogitsOf::Last }], &mut row).unwrap();
    let notice = model.notice().unwrap();
    assert!(notice.card_lost && notice.reason.contains("lost"), "{notice:?}");
    assert!(model.card().is_none());
    assert_eq!(greedy(&mut model, seq, row, 13), whole[11..]);
    // A sequence that slept meanwhile wakes up on the processor.
    model.step(&[Chunk { seq: other, tokens: &PROMPT[5..], logits: LogitsOf::Last }], &mut logits).unwrap();
    let again = logits_of(&mut bind(&fixture.path, Precision::F32, 512), &PROMPT, 99, 64).1;
    let difference = fixtures::max_difference(&logits, &again[again.len() - logits.len()..]);
    assert!(difference <= TOLERANCE, "{difference}");
}

const PROMPT: [u32; 12] = [1, 17, 300, 45, 6, 78, 9, 101, 33, 250, 4, 19];

#[test]
fn sequences_in_one_step_do_not_mix() {
    let fixture = fixtures::folder("tiny-llama");
    let mut alone = bind(&fixture.path, Precision::F32, 512);
    let mut model = on_card(bind(&fixture.path, Precision::F32, 512), DeviceOptions::default());
    let seqs = [model.open(64).unwrap(), model.open(64).unwrap(), model.open(64).unwrap()];
    let mut logits = Vec::new();
    for tokens in [&PROMPT[..1], &PROMPT[1..7], &PROMPT[7..8]] {
        let chunks: Vec<Chunk<'_>> = seqs
            .iter()
            .enumerate()
            .map(|(i, &seq)| Chunk {
                seq,
                tokens: &tokens[..tokens.len().min(i + 1)],
                logits: LogitsOf::Last,
            })
            .collect();
        model.step(&chunks, &mut logits).unwrap();
    }
    let n_vocab = model.limits().n_vocab;
    for (i, row) in logits.chunks_exact(n_vocab).enumerate() {
        let mut tokens = PROMPT[..1].to_vec();
        tokens.extend(&PROMPT[1..][..6.min(i + 1)]);
        tokens.push(PROMPT[7]);
        let (seq, want) = logits_of(&mut alone, &tokens, 99, 64);
        alone.close(seq);
        let difference = fixtures::max_difference(row, &want[want.len() - n_vocab..]);
        assert!(difference <= TOLERANCE, "sequence {i}: {difference}");
    }
}

/// Everything on the card, as one rule says.
fn under_rule(name: &str, how: &str) -> Model {
    let model = bind(&fixtures::folder(name).path, Precision::F32, 512);
    let rule =
        |pattern: &str, how: &str| format!("[[rule]]\nmatch = \"{pattern}\"\ndevice = \"gpu\"\n{how}\n");
    // The router's logits decide: they stay what they are.
    let rules = format!("{}{}", rule("*ffn_gate_inp*", ""), rule("*", how));
    let rules = Placement::parse(&rules).unwrap();
    let options = model::options_of(&rules, model.weights()).unwrap().unwrap();
    moved(model, DeviceOptions::default(), options)
}

#[test]
fn rules_convert_what_lies_on_the_card_and_choose_its_kernels() {
    let converted = under_rule("tiny-deepseek-v3", "format = \"f32\"");
    agrees(converted, "tiny-deepseek-v3/expected.safetensors", TOLERANCE);
    for name in ["tiny-llama", "tiny-qwen2"] {
        let logits = |mut model: Model| logits_of(&mut model, &PROMPT, 99, 64).1;
        let exact = logits(bind(&fixtures::folder(name).path, Precision::F32, 512));
        // Fewer bits say less: the rounding of weights, and of a prompt's activations.
        let mut before = 0.0;
        for (how, bound) in [
            ("format = \"f16\"\nkernel = \"f32\"", 0.02),
            ("format = \"q8_0\"\nkernel = \"f32\"", 0.5),
            ("format = \"q8_0\"\nkernel = \"int8\"", 1.0),
        ] {
            let difference = fixtures::max_difference(&logits(under_rule(name, how)), &exact);
            assert!(before < difference && difference < bound, "{name} {how}: {difference}");
            before = difference;
        }
    }
}

#[test]
fn a_card_with_half_floats_and_one_without_compute_alike() {
    let logits = |mut model: Model| logits_of(&mut model, &PROMPT, 99, 64).1;
    for name in ["tiny-deepseek-v3-fp8", "tiny-llama"] {
        let fast = || bind(&fixtures::folder(name).path, Precision::Fast, 512);
        let f16 = "[[rule]]\nmatch = \"*.attn_*.weight\"\ndevice = \"gpu\"\nformat = \"f16\"\n\
                   [[rule]]\nmatch = \"*\"\ndevice = \"gpu\"\n";
        let rules = Placement::parse(f16).unwrap();
        let on = |no_f16: bool| {
            let options = model::options_of(&rules, fast().weights()).unwrap().unwrap();
            logits(moved(fast(), DeviceOptions { no_f16, ..DeviceOptions::default() }, options))
        };
        let difference = fixtures::max_difference(&on(false), &on(true));
        assert!(difference > 0.0 && difference < 0.1, "{name}: {difference}");
    }
}

#[test]
fn where_only_the_likeliest_counts_the_card_finds_it() {
    let mut model =
        on_card(bind(&fixtures::folder("tiny-qwen2").path, Precision::F32, 512), DeviceOptions::default());
    // More rows than are computed at a time.
    let tokens: Vec<u32> = PROMPT.iter().chain(&PROMPT).copied().collect();
    let mut rows = |logits_of| {
        let seq = model.open(32).unwrap();
        let mut logits = Vec::new();
        model.step(&[Chunk { seq, tokens: &tokens, logits: logits_of }], &mut logits).unwrap();
        model.close(seq);
        logits
    };
    let (all, best) = (rows(LogitsOf::All), rows(LogitsOf::Best));
    let n_vocab = model.limits().n_vocab;
    assert_eq!((all.len(), best.len()), (tokens.len() * n_vocab, tokens.len() * n_vocab));
    for (all, best) in all.chunks(n_vocab).zip(best.chunks(n_vocab)) {
        let likeliest = argmax(all) as usize;
        assert_eq!(best[likeliest], all[likeliest]);
        assert_eq!(best.iter().filter(|logit| logit.is_finite()).count(), 1);
    }
}

#[test]
fn compiled_pipelines_are_kept_and_a_broken_file_of_them_is_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let pipelines = folder.path().join("pipelines");
    let compute = || {
        let options = DeviceOptions { pipelines: Some(pipelines.clone()), ..DeviceOptions::default() };
        folder_agrees("tiny-llama", options);
    };
    compute();
    let kept: Vec<_> = std::fs::read_dir(&pipelines).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = kept.as_slice() else { panic!("one file for one sort of card: {kept:?}") };
    let whole = std::fs::read(file).unwrap();
    compute();
    for broken in [vec![7; 4096], whole[..whole.len() / 2].to_vec(), Vec::new()] {
        std::fs::write(file, broken).unwrap();
        compute();
        assert_eq!(std::fs::read(file).unwrap(), whole, "written anew");
    }
}

#[test]
fn a_cards_speed_can_be_measured() {
    let speed = gpu::measure(device(DeviceOptions::default()), 1 << 20).unwrap();
    let numbers = [speed.read_bytes_s, speed.ops_s, speed.link_bytes_s];
    assert!(numbers.iter().all(|number| number.is_finite() && *number > 0.0), "{speed:?}");
}
