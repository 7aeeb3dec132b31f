//! Imports take the memory they say, whatever the model's size: under a limit on private memory, killed once and resumed.
//!
//! The models are a header and a hole. The import runs in a child process (this test binary again, with `child`
//! selected), so that limit and kill are real ones.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use serde_json::{Map, json};
use support::gguf_files;
use tempfile::TempDir;
use tensor::DType;
use weights::pack::Pack;
use weights::{Compress, ImportOptions, import, open};

/// Private memory of the import's process: heap, stacks of its threads, the program's own data.
const LIMIT_KIB: u64 = 64 << 10;
const MIB: usize = 1 << 20;

/// A checkpoint each 32 MiB, so that there is one before the kill.
fn options(chunk_bytes: usize) -> ImportOptions {
    let compress = Compress::Always;
    ImportOptions { chunk_bytes, checkpoint_bytes: 32 << 20, compress, ..ImportOptions::default() }
}

#[test]
#[ignore = "a process the other tests start"]
fn child() {
    let path = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let (kill_at, chunk_bytes) = (number("KILL_AT_BYTE"), number("CHUNK_BYTES"));
    import(&path("IMPORT_FROM"), &path("IMPORT_TO"), &options(chunk_bytes), &mut |progress| {
        if progress.bytes_done >= kill_at as u64 {
            kill(getpid(), Signal::SIGKILL).unwrap();
        }
    })
    .unwrap();
}

/// Runs [`child`] with a limit on its private memory.
fn run_child(from: &Path, to: &Path, kill_at: usize, chunk_bytes: usize) -> ExitStatus {
    let script = format!("ulimit -d {LIMIT_KIB}; exec \"$0\" --exact child --ignored --test-threads 1");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    command.env("IMPORT_FROM", from).env("IMPORT_TO", to);
    command.env("KILL_AT_BYTE", kill_at.to_string()).env("CHUNK_BYTES", chunk_bytes.to_string());
    command.output().unwrap().status
}

/// Imports under the limit: killed half-way, then resumed to a pack that opens and whose hashes hold.
fn check(model: &Path) {
    let dest = model.with_extension("pack");
    let bytes = open(model).unwrap().bytes() as usize;
    assert!(bytes > 4 * LIMIT_KIB as usize * 1024, "{bytes} bytes are no test of the limit");
    let status = run_child(model, &dest, bytes / 2, 4 * MIB);
    assert_eq!(status.signal(), Some(9), "the child was not killed half-way: {status}");
    assert!(!dest.exists());
    // More than half of the limit, chunk and interleaved copy together.
    let status = run_child(model, &dest, usize::MAX, 40 * MIB);
    assert!(status.success(), "the resumed import: {status}");
    assert_eq!(open(&dest).unwrap().bytes() as usize, bytes);
    assert!(Pack::open(&dest).unwrap().verify(&mut |_| {}).unwrap().is_empty());
    fs::remove_dir_all(&dest).unwrap();
    // The limit is felt: the same import with larger chunks does not fit.
    assert!(!run_child(model, &dest, usize::MAX, 2 * LIMIT_KIB as usize * 1024).success());
}

/// Makes a file of `header` and a hole of `bytes`.
fn sparse(path: &Path, header: &[u8], bytes: usize) {
    fs::write(path, header).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len((header.len() + bytes) as u64).unwrap();
}

/// One layer of a Llama with a large vocabulary: rows are interleaved on the way.
#[test]
fn a_gguf_file_is_imported_in_little_memory() {
    let dir = TempDir::new().unwrap();
    let (metadata, tensors) = gguf_files::llama((1, 1024, 140_000), |_| DType::Q8_0);
    let (header, n_bytes) = gguf_files::header(metadata, &tensors);
    let path = dir.path().join("model.gguf");
    sparse(&path, &header, n_bytes);
    check(&path);
}

/// A DeepSeek V3 in FP8 of two MoE layers.
#[test]
fn an_fp8_folder_is_imported_in_little_memory() {
    const CONFIG: &str = r#"{"model_type": "deepseek_v3", "hidden_size": 1024, "num_hidden_layers": 2,
      "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 64,
      "rms_norm_eps": 1e-6, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 64, "v_head_dim": 64,
      "moe_intermediate_size": 1024, "n_routed_experts": 48, "num_experts_per_tok": 2, "n_shared_experts": 1,
      "first_k_dense_replace": 0, "n_group": 1, "topk_group": 1, "tie_word_embeddings": false,
      "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}"#;
    let dir = TempDir::new().unwrap();
    let mut file = Fp8File::default();
    file.add("model.embed_tokens.weight", "BF16", &[512, 1024]);
    file.add("lm_head.weight", "BF16", &[512, 1024]);
    file.add("model.norm.weight", "BF16", &[1024]);
    for layer in 0..2 {
        let prefix = format!("model.layers.{layer}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            file.add(&format!("{prefix}.{norm}.weight"), "BF16", &[1024]);
        }
        file.add(&format!("{prefix}.self_attn.kv_a_layernorm.weight"), "BF16", &[128]);
        file.add_fp8(&format!("{prefix}.self_attn.q_proj"), 256, 1024);
        file.add_fp8(&format!("{prefix}.self_attn.kv_a_proj_with_mqa"), 192, 1024);
        file.add_fp8(&format!("{prefix}.self_attn.kv_b_proj"), 256, 128);
        file.add_fp8(&format!("{prefix}.self_attn.o_proj"), 1024, 128);
        file.add(&format!("{prefix}.mlp.gate.weight"), "BF16", &[48, 1024]);
        file.add(&format!("{prefix}.mlp.gate.e_score_correction_bias"), "F32", &[48]);
        let experts = (0..48).map(|expert| format!("experts.{expert}"));
        for expert in experts.chain(["shared_experts".to_owned()]) {
            for part in ["gate_proj", "up_proj", "down_proj"] {
                file.add_fp8(&format!("{prefix}.mlp.{expert}.{part}"), 1024, 1024);
            }
        }
    }
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), CONFIG).unwrap();
    file.write(&model.join("model.safetensors"));
    check(&model);
}

/// A safetensors file in the making: its header and how much data follows.
#[derive(Default)]
struct Fp8File {
    header: Map<String, serde_json::Value>,
    bytes: usize,
}

impl Fp8File {
    fn add(&mut self, name: &str, dtype: &str, shape: &[usize]) {
        let width = match dtype {
            "F32" => 4,
            "BF16" => 2,
            _ => 1,
        };
        let end = self.bytes + width * shape.iter().product::<usize>();
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": [self.bytes, end] });
        self.header.insert(name.to_owned(), info);
        self.bytes = end;
    }

    fn add_fp8(&mut self, name: &str, rows: usize, cols: usize) {
        self.add(&format!("{name}.weight"), "F8_E4M3", &[rows, cols]);
        let scales = [rows.div_ceil(128), cols.div_ceil(128)];
        self.add(&format!("{name}.weight_scale_inv"), "F32", &scales);
    }

    fn write(self, path: &Path) {
        let mut json = serde_json::to_vec(&self.header).unwrap();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend(json);
        sparse(path, &header, self.bytes);
    }
}
