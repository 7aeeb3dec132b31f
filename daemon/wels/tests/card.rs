//! Graphics cards that are there, too small, weak, or not there at all: clear words, and a chat that works.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

fn smollm2() -> String {
    fixtures::test_data("smollm2.gguf").to_str().unwrap().to_owned()
}

/// One question, answered greedily on a card.
fn chat(options: &[&str], env: &[(&str, &str)]) -> Output {
    let model = smollm2();
    let args = ["chat", "--model", &model, "--device", "gpu", "--once", "Say hello.", "--temperature", "0"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_wels"));
    command
        .args(args)
        .args(options)
        .args(["--max-tokens", "12"])
        .env("WELS_LOG", "info")
        .envs(env.iter().copied());
    command.output().unwrap()
}

/// The answer, and what was said beside it.
fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// No driver is found: the loader is given a file that is none.
const NO_VULKAN: [(&str, &str); 2] = [("VK_ICD_FILENAMES", "/dev/null"), ("VK_DRIVER_FILES", "/dev/null")];

#[test]
fn there_is_an_answer_whatever_the_card_is() {
    let (on_card, beside) = said(&chat(&[], &[]));
    assert!(beside.contains("computing on a graphics card"), "{beside}");
    let (without, beside) = said(&chat(&[], &NO_VULKAN));
    assert!(beside.contains("no graphics card with a Vulkan driver was found"), "{beside}");
    assert!(without.len() > 10, "{without}");
    let (small, beside) = said(&chat(&["--gpu-memory", "1MiB"], &[]));
    assert!(beside.contains("has 1 MB for a model, and this one takes"), "{beside}");
    assert!(small.len() > 10, "{small}");
    let (part, beside) = said(&chat(&["--gpu-memory", "60MiB"], &[]));
    assert!(beside.contains("layers=") && !beside.contains("layers=30"), "{beside}");
    assert!(part.len() > 10, "{part}");
    let (weak, beside) = said(&chat(&[], &[("WELS_GPU_MINIMUM_LIMITS", "1")]));
    assert!(beside.contains("computing on a graphics card"), "{beside}");
    assert_eq!(on_card, weak);
    let (lost, beside) = said(&chat(&[], &[("WELS_GPU_LOSE_AFTER", "5")]));
    assert!(beside.contains("the graphics card was lost"), "{beside}");
    // The processor's activations have 8 bits: from there on the words may differ.
    assert!(lost.len() > 10 && lost[..8] == on_card[..8], "{lost}");
}

#[test]
fn a_measurement_does_not_change_its_device_unasked() {
    let model = smollm2();
    for (device, env, words) in [
        ("gpu", &NO_VULKAN[..], "no graphics card with a Vulkan driver was found"),
        ("gpu:7", &[], "`wels doctor` lists them"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wels"));
        command.args(["bench", "--model", &model, "--device", device, "--prefill", "4", "--decode", "2"]);
        let output = command.envs(env.iter().copied()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn doctor_lists_the_cards() {
    let output = Command::new(env!("CARGO_BIN_EXE_wels")).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("graphics") && text.contains("gpu:0 "), "{text}");
}
