//! What a plan's numbers rest on, in words.

use super::network::Network;
use super::predict::{CPU_READ_SHARE, GPU_OPS_SHARE, GPU_READ_SHARE, HANDOVER_S};
use super::rule::Tier;
use super::{Fact, Known, Machine, ModelShape, Workload};

/// All that apply.
pub(super) fn list(
    network: &Network,
    shape: &ModelShape,
    machine: &Machine,
    workload: &Workload,
    hit_rate: Option<f64>,
) -> Vec<String> {
    let mut list = Vec::new();
    if let Some(bits) = shape.bits {
        list.push(format!(
            "the model isn't here: its weights are taken to be in {bits} (--bits says otherwise)"
        ));
    }
    if shape.hyper.n_draft_layers > 0 {
        list.push("the draft layer stays out: guesses are not part of the plan".into());
    }
    let is_on_gpu =
        network.layers.iter().any(|layer| layer.attends_on_gpu) || network.n_experts(Tier::Vram) > 0;
    let reads_drive = network.n_experts(Tier::Nvme) > 0;
    list.extend(speeds(machine, is_on_gpu, reads_drive));
    list.push(format!(
        "answers are predicted with {} tokens in the context, prompts with {} tokens, of which all is read once and what \
         attention multiplies is not counted",
        workload.depth_tokens, workload.prompt_tokens
    ));
    if shape.hyper.moe.is_some() {
        list.extend(experts(is_on_gpu, hit_rate));
    }
    if is_on_gpu {
        list.push(format!("a layer's hand-over between card and processor takes {:.1} ms", HANDOVER_S * 1e3));
    }
    list
}

/// Speeds that nobody measured, and shares of them that are reached.
fn speeds(machine: &Machine, is_on_gpu: bool, reads_drive: bool) -> Vec<String> {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let guessed = |what: &str, fact: Fact<f64>, unit: f64, name: &str, option: &str| {
        let words = format!("{what} is taken to be {:.1} {name}{option}", fact.value / unit);
        (fact.known == Known::Assumed).then_some(words)
    };
    let mut list = vec![format!(
        "the processor reads {} of its memory's bandwidth and multiplies at {} of its 8-bit peak",
        percent(CPU_READ_SHARE),
        percent(machine.int8_share)
    )];
    list.extend(guessed(
        "the processor's 8-bit peak",
        machine.int8_ops_s,
        1e12,
        "Top/s: this one's, by cores",
        "",
    ));
    if is_on_gpu {
        let bandwidth = machine.vram_bytes_s;
        list.extend(guessed(
            "the card's bandwidth",
            bandwidth,
            1e9,
            "GB/s",
            " (--vram-speed says otherwise)",
        ));
        list.extend(guessed("the card's peak", machine.gpu_ops_s, 1e12, "Tflop/s", ""));
        if bandwidth.known != Known::Measured {
            list.push(format!("a card reads {} of its bandwidth", percent(GPU_READ_SHARE)));
        }
        if machine.gpu_ops_s.known != Known::Measured {
            list.push(format!("a card multiplies at {} of its peak", percent(GPU_OPS_SHARE)));
        }
        list.extend(guessed("what reaches the card", machine.link_bytes_s, 1e9, "GB/s", ""));
    }
    if reads_drive {
        list.extend(guessed("the drive", machine.nvme_bytes_s, 1e9, "GB/s", " (--nvme says otherwise)"));
    }
    list
}

/// How experts are wanted.
fn experts(is_on_gpu: bool, hit_rate: Option<f64>) -> Vec<String> {
    let mut list = Vec::new();
    if is_on_gpu {
        list.push(
            "experts on the card are wanted as often as others; prompts' experts are computed where they lie, or brought \
             to the card where that is faster"
                .into(),
        );
    }
    if let Some(rate) = hit_rate {
        list.push(format!(
            "of the experts that go through memory {:.0} % are there when wanted (the law of `wels replay --synthetic`; \
             recorded traces say better); the rest is read while others are computed",
            rate * 100.0
        ));
    }
    list
}
