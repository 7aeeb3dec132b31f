//! Published files are read into the right facts.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use support::{deepseek_fp8, folder, gguf};
use tensor::{DType, quant};
use weights::{Architecture, Error, Gating, RopePairs, RopeScaling, TokenizerFiles, Weights, open};

#[test]
fn llama_folder_has_its_own_head_dim_and_llama3_scaling() {
    let model = folder("tiny-llama");
    let weights = open(&model.path).unwrap();
    let hyper = weights.hyper();
    assert_eq!(hyper.architecture, Architecture::Llama);
    assert_eq!((hyper.n_layers, hyper.d_model, hyper.n_heads, hyper.n_kv_heads), (3, 128, 8, 2));
    assert_eq!((hyper.head_dim, hyper.d_ff, hyper.n_vocab, hyper.context), (32, 320, 512, 2048));
    assert_eq!((hyper.tied, hyper.rms_eps, hyper.rope.theta), (false, 1e-5, 500_000.0));
    assert_eq!(hyper.rope.pairs, RopePairs::Halves);
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 128,
    };
    assert_eq!(hyper.rope.scaling, Some(scaling));
    assert_eq!(weights.generation().eos_ids, [506]);
    assert_eq!((weights.generation().temperature, weights.generation().top_p), (Some(0.6), Some(0.95)));
    let q = weights.require("blk.2.attn_q.weight").unwrap();
    assert_eq!((q.published, q.shape), ("model.layers.2.self_attn.q_proj.weight", &[256, 128][..]));
    assert_eq!(q.matrix().unwrap().rows(), 256);
}

/// The facts that must not depend on the file's format.
fn assert_same_shape(a: &Weights, b: &Weights) {
    let (a, b) = (a.hyper(), b.hyper());
    assert_eq!((a.architecture, a.n_layers, a.d_model), (b.architecture, b.n_layers, b.d_model));
    assert_eq!((a.n_heads, a.n_kv_heads, a.head_dim), (b.n_heads, b.n_kv_heads, b.head_dim));
    assert_eq!((a.d_ff, a.n_vocab, a.context), (b.d_ff, b.n_vocab, b.context));
    assert_eq!((a.rms_eps, a.rope.theta, a.rope.dim, a.tied), (b.rms_eps, b.rope.theta, b.rope.dim, b.tied));
}

#[test]
fn gguf_and_folder_of_a_model_agree() {
    let pairs = [("tiny-llama", "tiny-llama.q4_0.gguf"), ("tiny-qwen2", "tiny-qwen2.q8_0.gguf")];
    for (name, file) in pairs {
        let (from_folder, from_file) = (folder(name), gguf(file));
        let (a, b) = (open(&from_folder.path).unwrap(), open(&from_file.path).unwrap());
        assert_same_shape(&a, &b);
        assert_eq!(a.generation().eos_ids, b.generation().eos_ids, "{name}");
        assert_eq!(a.generation().temperature, b.generation().temperature, "{name}");
        for tensor in a.tensors() {
            assert_eq!(tensor.shape, b.require(tensor.name).unwrap().shape, "{name}: {}", tensor.name);
        }
    }
}

#[test]
fn gguf_llama_pairs_dimensions_side_by_side_and_brings_rope_freqs() {
    let model = gguf("tiny-llama.q4_0.gguf");
    let weights = open(&model.path).unwrap();
    assert_eq!(weights.hyper().rope.pairs, RopePairs::Interleaved);
    assert_eq!(weights.hyper().rope.scaling, None);
    assert_eq!(weights.require("rope_freqs.weight").unwrap().to_f32().len(), 16);
    assert_eq!(weights.require("blk.0.attn_q.weight").unwrap().dtype, DType::Q4_0);
    let Some(TokenizerFiles::Gguf(tokenizer)) = weights.tokenizer() else { panic!("no tokenizer") };
    assert_eq!((tokenizer.model.as_str(), tokenizer.pre.as_deref()), ("gpt2", Some("llama-bpe")));
    assert_eq!((tokenizer.tokens.len(), tokenizer.merges.len()), (512, 308));
    assert_eq!((tokenizer.bos, tokenizer.eos, tokenizer.add_bos), (Some(505), Some(506), Some(false)));
    assert!(weights.chat_template().is_some_and(|text| text.starts_with("{% if not add_generation_prompt")));
}

#[test]
fn tied_models_have_no_output_tensor() {
    let weights = open(&fixtures::test_data("smollm2.gguf")).unwrap();
    assert!(weights.hyper().tied);
    assert!(weights.tensor("output.weight").is_none());
    let weights = open(&gguf("tiny-qwen2.q8_0.gguf").path).unwrap();
    assert!(!weights.hyper().tied);
    assert_eq!(weights.hyper().rope.pairs, RopePairs::Halves);
    assert_eq!(weights.require("blk.0.attn_q.bias").unwrap().shape, [128]);
}

#[test]
fn deepseek_experts_are_tensors_of_their_own_with_block_scales() {
    let model = deepseek_fp8();
    let weights = open(&model.path).unwrap();
    let hyper = weights.hyper();
    let (mla, moe) = (hyper.mla.unwrap(), hyper.moe.unwrap());
    assert_eq!(
        (mla.q_lora_rank, mla.kv_lora_rank, mla.nope_dim, mla.rope_dim, mla.v_dim),
        (Some(16), 24, 8, 4, 12)
    );
    assert_eq!((moe.n_experts, moe.top_k, moe.n_groups, moe.gating), (4, 2, 2, Gating::Sigmoid));
    assert_eq!((hyper.head_dim, hyper.rope.dim, hyper.rope.pairs), (12, 4, RopePairs::Interleaved));
    assert_eq!((hyper.n_layers, hyper.n_draft_layers), (2, 1));
    assert!(weights.tensor("blk.2.nextn.eh_proj.weight").is_some());
    assert_eq!(weights.generation().eos_ids, [1, 3]);
    assert_eq!(weights.chat_template(), Some("D"));
    let down = weights.require("blk.1.ffn_down.3.weight").unwrap();
    assert_eq!(down.published, "model.layers.1.mlp.experts.3.down_proj.weight");
    let scale = down.scale.unwrap();
    assert_eq!((scale.rows, scale.cols), (2, 1));
    // The last block of rows is partial: row 159 has the second scale.
    let second = f32::from_le_bytes(scale.data[4..8].try_into().unwrap());
    assert_eq!(scale.at(159, 19), second);
    let mut codes = vec![0.0; 160 * 20];
    quant::dequantize(DType::F8E4M3, down.data, &mut codes);
    assert_eq!(down.to_f32()[159 * 20 + 19].to_bits(), (codes[159 * 20 + 19] * second).to_bits());
}

#[test]
fn names_what_is_missing() {
    let model = deepseek_fp8();
    let shard = model.path.join("model-00002-of-00002.safetensors");
    fs::rename(&shard, model.path.join("elsewhere")).unwrap();
    let error = open(&model.path).unwrap_err();
    assert!(matches!(&error, Error::MissingPart { path, .. } if *path == shard), "{error}");
    assert!(error.to_string().contains("copy all parts"), "{error}");
}

#[test]
fn refuses_an_index_that_climbs_out_of_its_folder() {
    let model = deepseek_fp8();
    let index = r#"{"weight_map": {"lm_head.weight": "../../etc/passwd"}}"#;
    fs::write(model.path.join("model.safetensors.index.json"), index).unwrap();
    let error = open(&model.path).unwrap_err().to_string();
    assert!(error.contains("the name of a file in the same folder"), "{error}");
}

#[test]
fn refuses_tensors_it_would_have_to_leave_out() {
    let model = folder("tiny-llama");
    let path = model.path.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let name = b"model.layers.0.self_attn.q_proj.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at + name.len() - 1] = b'?';
    fs::write(&path, bytes).unwrap();
    let error = open(&model.path).unwrap_err();
    assert!(matches!(&error, Error::UnmappedTensor { tensor, .. } if tensor.ends_with("weigh?")), "{error}");
}

#[test]
fn refuses_hyperparameters_that_contradict_the_tensors() {
    let model = folder("tiny-llama");
    let path = model.path.join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let cases = [
        (r#""vocab_size": 512"#, r#""vocab_size": 500"#, "ask for [500, 128]"),
        (
            r#""num_attention_heads": 8"#,
            r#""num_attention_heads": 0"#,
            "n_heads: 0, but it must be at least 1",
        ),
        (r#""num_key_value_heads": 2"#, r#""num_key_value_heads": 3"#, "a multiple of n_kv_heads"),
        (r#""num_hidden_layers": 3"#, r#""num_hidden_layers": 4"#, "blk.3.attn_norm.weight is missing"),
        (r#""rms_norm_eps": 1e-05"#, r#""rms_norm_eps": -1"#, "a finite number above 0"),
        (r#""model_type": "llama""#, r#""model_type": "gpt2""#, "gpt2 is not supported"),
        (r#""hidden_act": "silu""#, r#""hidden_act": "gelu""#, "gelu is not supported"),
        (r#""rope_type": "llama3""#, r#""rope_type": "longrope""#, "longrope is not supported"),
        (r#""head_dim": 32"#, r#""head_dim": 18446744073709551615"#, "head_dim"),
        (r#""head_dim": 32"#, r#""head_dim": "32""#, "invalid type"),
    ];
    for (from, to, want) in cases {
        assert!(config.contains(from), "{from}");
        fs::write(&path, config.replace(from, to)).unwrap();
        let error = open(&model.path).unwrap_err().to_string();
        assert!(error.contains(want), "{to}: {error}");
    }
}

#[test]
fn sparse_attention_is_named_before_its_tensors_are() {
    let model = deepseek_fp8();
    let path = model.path.join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let cases = [
        (r#""model_type": "deepseek_v32""#, "model_type: deepseek_v32 (DeepSeek V3.2): "),
        (r#""model_type": "glm_moe_dsa""#, "model_type: glm_moe_dsa (GLM-5): "),
        (r#""index_topk": 2048, "model_type": "deepseek_v3""#, "index_topk: 2048: "),
    ];
    // The indexer's tensors have names that no table holds; the family is the better thing to say.
    let index = model.path.join("model.safetensors.index.json");
    fs::write(index, r#"{"weight_map": {"model.layers.0.self_attn.indexer.wk.weight": "none"}}"#).unwrap();
    for (to, want) in cases {
        fs::write(&path, config.replace(r#""model_type": "deepseek_v3""#, to)).unwrap();
        let error = open(&model.path).unwrap_err().to_string();
        assert!(error.contains(want), "{to}: {error}");
        for words in ["lightning indexer", "does not run", "DeepSeek V2, V3, V3.1 and R1"] {
            assert!(error.contains(words), "{to}: {error}");
        }
    }
    for other in ["glm4_moe", "qwen3_moe", "deepseek_v4", "kimi_k25"] {
        fs::write(&path, config.replace("deepseek_v3", other)).unwrap();
        let error = open(&model.path).unwrap_err().to_string();
        let want = format!("model_type: {other} is not supported; supported: llama, qwen2, deepseek_v2");
        assert!(error.contains(&want), "{other}: {error}");
    }
}

#[test]
fn refuses_gguf_tensors_it_would_have_to_leave_out() {
    let model = gguf("tiny-llama.q4_0.gguf");
    let mut bytes = fs::read(&model.path).unwrap();
    let at = bytes.windows(17).position(|window| window == b"rope_freqs.weight").unwrap();
    bytes[at..at + 17].copy_from_slice(b"pool_norms.weight");
    fs::write(&model.path, bytes).unwrap();
    let error = open(&model.path).unwrap_err();
    assert!(
        matches!(&error, Error::UnmappedTensor { tensor, .. } if tensor == "pool_norms.weight"),
        "{error}"
    );
}

#[test]
fn newer_rope_parameters_mean_the_same() {
    let model = folder("tiny-llama");
    let path = model.path.join("config.json");
    let before = open(&model.path).unwrap().hyper().clone();
    let config = fs::read_to_string(&path).unwrap();
    let config = config.replace(r#""rope_theta": 500000.0,"#, "");
    let config = config.replace(r#""rope_scaling": {"#, r#""rope_parameters": {"rope_theta": 500000.0,"#);
    fs::write(&path, config).unwrap();
    assert_eq!(*open(&model.path).unwrap().hyper(), before);
}

#[test]
fn says_what_a_path_is_instead_of_a_model() {
    let model = folder("tiny-llama");
    let cases = [
        (model.path.join("nowhere"), "No such file"),
        (model.dir.path().to_path_buf(), "a folder without pack.json or config.json"),
        (model.path.join("config.json"), "not a GGUF file"),
        (model.path.join("model.safetensors"), "the folder it is in is wanted"),
    ];
    for (path, want) in cases {
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// Bytes of a model's map that are in memory, as the system counts them. (Another test may have mapped the same file.)
fn resident_bytes(weights: &Weights) -> u64 {
    let address = weights.tensors().next().unwrap().data.as_ptr() as u64;
    let holds = |line: &str| {
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let [start, end] = range.map(|(start, end)| [start, end].map(|hex| u64::from_str_radix(hex, 16)))?;
        Some((start.ok()?..end.ok()?).contains(&address))
    };
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines().skip_while(|line| holds(line) != Some(true));
    let rss = lines.find(|line| line.starts_with("Rss:")).unwrap();
    1024 * rss.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

#[test]
fn mapped_tensors_are_brought_into_memory_and_come_back_when_they_were_let_go() {
    let path = fs::canonicalize(fixtures::test_data("smollm2.gguf")).unwrap();
    let weights = open(&path).unwrap();
    let n_pieces = (0..).take_while(|&piece| weights.bring_in(piece)).count() as u64;
    let whole = fs::metadata(&path).unwrap().len();
    assert_eq!((n_pieces, resident_bytes(&weights) >> 16), (whole.div_ceil(64 << 20), whole >> 16));
    assert!(!weights::open_headers(&path).unwrap().bring_in(0), "nothing is mapped");
    let sum = |weights: &Weights| {
        let bytes = weights.tensors().flat_map(|tensor| tensor.data.iter());
        bytes.fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
    };
    let before = sum(&weights);
    let all = resident_bytes(&weights);
    assert!(all > weights.bytes() / 2, "{all} of {}", weights.bytes());
    weights.tensors().for_each(|tensor| weights.let_go(tensor.name));
    let left = resident_bytes(&weights);
    assert!(left < all / 4, "{left} of {all} bytes are left");
    assert_eq!(sum(&weights), before);
}

#[test]
fn dense_tensors_are_mapped_and_experts_left_to_others() {
    let model = folder("tiny-deepseek-v3");
    let (whole, dense) = (open(&model.path).unwrap(), weights::open_headers(&model.path).unwrap());
    let dense = dense.dense_mapped().unwrap();
    assert!(dense.is_resident() && dense.awaited_bytes() > 0);
    for (whole, dense) in whole.tensors().zip(dense.tensors()) {
        let routed = weights::ExpertKey::parse(whole.name).is_some();
        assert_eq!(dense.data, if routed { &[][..] } else { whole.data }, "{}", whole.name);
    }
}
