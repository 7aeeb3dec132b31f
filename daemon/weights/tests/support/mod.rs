//! Models to test with: the committed fixtures, and small ones made up on the spot.
#![allow(dead_code, reason = "every test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "test code")]

pub(crate) mod gguf_files;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;

pub(crate) use fixtures::{Model, folder, gguf};
use tensor::{DType, LANES, Layout, deinterleave_row};
use weights::{Tensor, Weights, safetensors};

/// Every committed Hugging Face folder.
pub(crate) const FOLDERS: [&str; 6] = [
    "tiny-llama",
    "tiny-qwen2",
    "tiny-deepseek-v2",
    "tiny-deepseek-v2-lite",
    "tiny-deepseek-v3",
    "tiny-deepseek-v3-fp8",
];
/// Every committed GGUF file.
pub(crate) const GGUFS: [&str; 3] =
    ["tiny-llama.q4_0.gguf", "tiny-qwen2.q8_0.gguf", "tiny-deepseek-v3-k256.q4_k_m.gguf"];

/// Every committed model.
pub(crate) fn all() -> impl Iterator<Item = Model> {
    FOLDERS.iter().map(|name| folder(name)).chain(GGUFS.iter().map(|name| gguf(name)))
}

/// A small generator of reproducible bytes (xorshift).
pub(crate) struct Bytes(pub(crate) u64);

impl Bytes {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn fill(&mut self, n: usize) -> Vec<u8> {
        // Small exponents: finite in every float format.
        (0..n).map(|_| (self.next() & 0x3f) as u8).collect()
    }
}

pub(crate) const N_EXPERTS: usize = 4;
const CONFIG: &str = r#"{"model_type": "deepseek_v3", "hidden_size": 160, "num_hidden_layers": 2,
  "num_attention_heads": 2, "intermediate_size": 144, "vocab_size": 32, "max_position_embeddings": 256,
  "rms_norm_eps": 1e-6, "q_lora_rank": 16, "kv_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
  "v_head_dim": 12, "moe_intermediate_size": 20, "n_routed_experts": 4, "num_experts_per_tok": 2,
  "n_shared_experts": 1, "num_nextn_predict_layers": 1, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "routed_scaling_factor": 2.5,
  "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64, "mscale": 1.0,
  "mscale_all_dim": 1.0}, "tie_word_embeddings": false,
  "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}"#;

/// A DeepSeek V3 in FP8 with random weights, one dense, one MoE and one draft layer, in two shards.
pub(crate) fn deepseek_fp8() -> Model {
    deepseek_fp8_where(|_| true)
}

/// The same, of the tensors whose published names `keep` accepts.
pub(crate) fn deepseek_fp8_where(keep: fn(&str) -> bool) -> Model {
    let model = Model::new("tiny-moe");
    fs::create_dir(&model.path).unwrap();
    fs::write(model.path.join("config.json"), CONFIG).unwrap();
    fs::write(model.path.join("generation_config.json"), r#"{"eos_token_id": [1, 3], "temperature": 0.6}"#)
        .unwrap();
    fs::write(model.path.join("tokenizer.json"), r#"{"made": "up"}"#).unwrap();
    let template =
        r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
    fs::write(model.path.join("tokenizer_config.json"), template).unwrap();
    fs::write(model.path.join("LICENSE"), "MIT\n").unwrap();
    let (mut first, mut second) = (Shard::new(1, keep), Shard::new(2, keep));
    first.bf16("model.embed_tokens.weight", &[32, 160]);
    first.attention_and_norms(0);
    first.feed_forward("model.layers.0.mlp", 144);
    for layer in [1, 2] {
        second.attention_and_norms(layer);
        second.experts(layer);
    }
    second.draft(2);
    second.bf16("model.norm.weight", &[160]);
    second.bf16("lm_head.weight", &[32, 160]);
    let map: Vec<String> = [(&first, 1), (&second, 2)]
        .iter()
        .flat_map(|(shard, no)| {
            shard.names.iter().map(move |name| format!(r#""{name}": "model-0000{no}-of-00002.safetensors""#))
        })
        .collect();
    let index = format!(r#"{{"metadata": {{}}, "weight_map": {{{}}}}}"#, map.join(", "));
    fs::write(model.path.join("model.safetensors.index.json"), index).unwrap();
    first.writer.write(&model.path.join("model-00001-of-00002.safetensors")).unwrap();
    second.writer.write(&model.path.join("model-00002-of-00002.safetensors")).unwrap();
    model
}

struct Shard {
    writer: safetensors::Writer,
    names: Vec<String>,
    bytes: Bytes,
    keep: fn(&str) -> bool,
}

impl Shard {
    fn new(seed: u64, keep: fn(&str) -> bool) -> Self {
        Self { writer: safetensors::Writer::new(), names: Vec::new(), bytes: Bytes(seed), keep }
    }

    fn add(&mut self, name: &str, dtype: DType, shape: &[usize]) {
        if !(self.keep)(name) {
            return;
        }
        let n = dtype.bytes_for(shape.iter().product()).unwrap();
        let data = self.bytes.fill(n);
        self.writer = std::mem::take(&mut self.writer).tensor(name, dtype, shape, &data);
        self.names.push(name.into());
    }

    fn bf16(&mut self, name: &str, shape: &[usize]) {
        self.add(name, DType::BF16, shape);
    }

    fn f32(&mut self, name: &str, shape: &[usize]) {
        self.add(name, DType::F32, shape);
    }

    fn fp8(&mut self, name: &str, rows: usize, cols: usize) {
        self.add(&format!("{name}.weight"), DType::F8E4M3, &[rows, cols]);
        self.f32(&format!("{name}.weight_scale_inv"), &[rows.div_ceil(128), cols.div_ceil(128)]);
    }

    fn attention_and_norms(&mut self, layer: usize) {
        let prefix = format!("model.layers.{layer}");
        self.bf16(&format!("{prefix}.input_layernorm.weight"), &[160]);
        self.bf16(&format!("{prefix}.post_attention_layernorm.weight"), &[160]);
        self.fp8(&format!("{prefix}.self_attn.q_a_proj"), 16, 160);
        self.bf16(&format!("{prefix}.self_attn.q_a_layernorm.weight"), &[16]);
        self.fp8(&format!("{prefix}.self_attn.q_b_proj"), 24, 16);
        self.fp8(&format!("{prefix}.self_attn.kv_a_proj_with_mqa"), 28, 160);
        self.bf16(&format!("{prefix}.self_attn.kv_a_layernorm.weight"), &[24]);
        self.fp8(&format!("{prefix}.self_attn.kv_b_proj"), 40, 24);
        self.fp8(&format!("{prefix}.self_attn.o_proj"), 160, 24);
    }

    fn experts(&mut self, layer: usize) {
        let prefix = format!("model.layers.{layer}.mlp");
        self.bf16(&format!("{prefix}.gate.weight"), &[N_EXPERTS, 160]);
        self.f32(&format!("{prefix}.gate.e_score_correction_bias"), &[N_EXPERTS]);
        // Out of order, as in real files, whose names sort 0, 1, 10, 100, 11.
        for expert in [2, 0, 3, 1] {
            self.feed_forward(&format!("{prefix}.experts.{expert}"), 20);
        }
        self.feed_forward(&format!("{prefix}.shared_experts"), 20);
    }

    /// What a draft layer has besides a layer's own.
    fn draft(&mut self, layer: usize) {
        let prefix = format!("model.layers.{layer}");
        self.bf16(&format!("{prefix}.embed_tokens.weight"), &[32, 160]);
        self.bf16(&format!("{prefix}.enorm.weight"), &[160]);
        self.bf16(&format!("{prefix}.hnorm.weight"), &[160]);
        self.bf16(&format!("{prefix}.eh_proj.weight"), &[160, 320]);
        self.bf16(&format!("{prefix}.shared_head.norm.weight"), &[160]);
        self.bf16(&format!("{prefix}.shared_head.head.weight"), &[32, 160]);
    }

    fn feed_forward(&mut self, prefix: &str, width: usize) {
        self.fp8(&format!("{prefix}.gate_proj"), width, 160);
        self.fp8(&format!("{prefix}.up_proj"), width, 160);
        self.fp8(&format!("{prefix}.down_proj"), 160, width);
    }
}

/// A tensor's bytes row after row, however they lie.
pub(crate) fn published<'a>(tensor: &Tensor<'a>) -> Cow<'a, [u8]> {
    if tensor.layout == Layout::Rows {
        return Cow::Borrowed(tensor.data);
    }
    let row_bytes = tensor.matrix().unwrap().row_bytes();
    let mut rows = vec![0; tensor.data.len()];
    for (i, row) in rows.chunks_exact_mut(row_bytes).enumerate() {
        let lanes = &tensor.data[i / LANES * LANES * row_bytes..][..LANES * row_bytes];
        deinterleave_row(tensor.dtype, lanes, i % LANES, row);
    }
    Cow::Owned(rows)
}

/// All values, bit for bit: some of what random bytes decode to is not a number.
fn bits(tensor: &Tensor<'_>) -> Vec<u32> {
    tensor.to_f32().into_iter().map(f32::to_bits).collect()
}

/// Panics unless both models hold the same tensors, byte for byte and value for value, and say the same about themselves.
pub(crate) fn assert_equal(a: &Weights, b: &Weights) {
    assert_eq!(a.hyper(), b.hyper());
    assert_eq!(a.generation(), b.generation());
    assert_eq!(a.tokenizer(), b.tokenizer());
    assert_eq!(a.chat_template(), b.chat_template());
    assert_eq!(a.bytes(), b.bytes());
    assert_eq!(a.tensors().count(), b.tensors().count());
    for left in a.tensors() {
        let right = b.require(left.name).unwrap();
        assert_eq!((left.published, left.dtype, left.shape), (right.published, right.dtype, right.shape));
        assert!(published(&left) == published(&right), "{}: bytes differ", left.name);
        assert!(bits(&left) == bits(&right), "{}: values differ", left.name);
        assert_eq!(left.scale.map(|s| s.data), right.scale.map(|s| s.data), "{}: scales", left.name);
    }
}

/// Every file below `dir` and its content, by name.
pub(crate) fn contents(dir: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        files.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}
