//! `wels plan` as a person or a script runs it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

use serde_json::Value;

/// The machine of the README: all that would be measured is given, but the cores' speed.
const OFFICE: [&str; 12] = [
    "--model",
    "deepseek-r1",
    "--vram",
    "24GiB",
    "--ram",
    "128GiB",
    "--nvme",
    "7GB/s",
    "--ram-speed",
    "80GB/s",
    "--cores",
    "16",
];

fn wels(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wels")).arg("plan").args(args).env_remove("WELS_MODEL").output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = wels(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&[args, &["--json"]].concat())).unwrap()
}

fn complaint(args: &[&str]) -> String {
    let output = wels(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !text.contains("panicked"), "{text}");
    text
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

#[test]
fn r1_is_planned_for_a_machine_that_nobody_has() {
    let text = stdout(&OFFICE[..8]);
    for part in [
        "DeepSeek-R1, 376.7 GiB in Q4_K_M, 61 layers",
        "24.0 GiB (given)",
        "7.0 GB/s (given)",
        "\nvram ",
        "\nram ",
        "\nnvme ",
        "of 14848 routed experts",
        "prefill ",
        "decode ",
        "This rests on:",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn numbers_are_there_for_scripts() {
    let plan = json(&OFFICE);
    let tier = |tier: &str, key: &str| plan["tiers"][tier][key].as_u64().unwrap();
    let weights: u64 = ["vram", "ram", "nvme"].iter().map(|name| tier(name, "weights_bytes")).sum();
    assert_eq!(weights, plan["model_bytes"].as_u64().unwrap());
    assert!(tier("nvme", "token_bytes") > 0 && tier("vram", "n_layers") == 61, "{plan}");
    for key in ["prefill_tok_s", "decode_tok_s", "hit_rate"] {
        assert!(plan[key].as_f64().unwrap() > 0.0, "{key}: {plan}");
    }
    assert_eq!(plan["machine"]["vram_bytes_s"]["known"], "assumed");
    assert!(
        !plan["assumptions"].as_array().unwrap().is_empty() && !plan["advice"].as_array().unwrap().is_empty()
    );
}

#[test]
fn rules_written_are_read_again_to_the_same_plan() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.toml");
    let path = path.to_str().unwrap();
    let written = json(&with(&OFFICE, &["--write", path]));
    let read = json(&with(&OFFICE, &["--rules", path]));
    assert_eq!((&read["rules"], &read["tiers"]), (&written["rules"], &written["tiers"]));
    let again = complaint(&with(&OFFICE, &["--write", path]));
    assert!(again.contains("--write takes a file that isn't there yet"), "{again}");
}

#[test]
fn rules_that_cannot_be_read_are_named_with_their_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.toml");
    let path = path.to_str().unwrap();
    let fine = "[[rule]]\nmatch = \"*\"\ndevice = \"cpu\"\n";
    for (rule, want) in [
        ("match = \"*\"\ndevice = \"npu\"", "rule 2, device: \"npu\" is none of gpu, cpu"),
        (
            "match = \"*\"\ndevice = \"gpu\"\nformat = \"q4_k\"",
            "format: \"q4_k\" is none of as-is, f32, f16, q8_0",
        ),
        ("match = \"*\"\ndevice = \"cpu\"\nkernel = \"f32\"", "rule 2, kernel: \"f32\" goes with device gpu"),
        ("match = \"*\"\ndevise = \"cpu\"", "rule 2: \"devise\" is not known"),
    ] {
        std::fs::write(path, format!("{fine}[[rule]]\n{rule}\n")).unwrap();
        let error = complaint(&with(&OFFICE, &["--rules", path]));
        assert!(error.contains(want) && error.contains("rules.toml"), "{error}");
    }
}

#[test]
fn a_model_that_is_here_takes_what_its_files_say() {
    let model = fixtures::gguf("tiny-qwen2.q8_0.gguf");
    let path = model.path.to_str().unwrap();
    let plan = json(&["--model", path, "--vram", "0"]);
    assert_eq!(plan["bits"], Value::Null);
    assert_eq!(plan["tiers"]["ram"]["weights_bytes"], plan["model_bytes"]);
    assert!(
        complaint(&["--model", path, "--bits", "4"]).contains("--bits goes with a model of the catalogue")
    );
}

#[test]
fn what_cannot_be_planned_says_why_and_what_to_do() {
    let little = complaint(&["--model", "deepseek-r1", "--ram", "4GiB"]);
    assert!(
        little.contains("DeepSeek-R1 cannot be placed") && little.contains("add memory or a card"),
        "{little}"
    );
    let unknown = complaint(&["--model", "deepseek-r9"]);
    assert!(unknown.contains("no such file or folder") && unknown.contains("deepseek-r1"), "{unknown}");
    assert!(complaint(&["--model", "deepseek-r1", "--nvme", "7"]).contains("write e.g. 7GB/s"));
}

/// Of each way to lay a model out: submits, readbacks, and weights read over those needed.
fn stages(model: &str) -> Vec<(u64, u64, f64)> {
    let report = json(&["--model", model, "--stages"]);
    let way = |way: &Value| {
        let n = |name: &str| way[name].as_u64().unwrap();
        (n("submits"), n("readbacks"), way["read_share"].as_f64().unwrap())
    };
    report["ways"].as_array().unwrap().iter().map(way).collect()
}

#[test]
fn a_token_costs_a_card_one_submit_or_a_readback_for_each_layer_with_experts_elsewhere() {
    for model in ["r1-distill-qwen-1.5b", "r1-distill-qwen-7b", "r1-distill-llama-8b", "r1-distill-llama-70b"]
    {
        let ways = stages(model);
        assert!(matches!(ways[..], [(1, 1, share)] if share <= 1.05), "{model}: {ways:?}");
    }
    for (model, n_mixtures) in [("deepseek-r1", 58), ("deepseek-v2-lite", 26)] {
        let ways = stages(model);
        let &[(submits, readbacks, share), (_, handed, share_beside)] = &ways[..] else { panic!("{ways:?}") };
        assert_eq!((submits, readbacks), (1, 1), "{model}");
        // One for each layer with experts, and one for the logits.
        assert_eq!(handed, n_mixtures + 1, "{model}");
        assert!(share <= 1.05 && share_beside <= 1.05, "{model}: {ways:?}");
    }
}
