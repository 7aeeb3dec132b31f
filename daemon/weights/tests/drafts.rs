//! Draft layers (multi-token prediction): complete, absent or an error.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use support::{assert_equal, deepseek_fp8, deepseek_fp8_where, gguf_files};
use tempfile::TempDir;
use tensor::DType;
use weights::gguf::MetadataWriter;
use weights::{Error, ImportOptions, Weights, import, open};

/// Which published names stay.
type Keep = fn(&str) -> bool;

/// Opens the FP8 folder without the tensors of its draft layer that `keep` refuses.
fn folder_where(keep: Keep) -> Result<Weights, Error> {
    open(&deepseek_fp8_where(keep).path)
}

#[test]
fn a_folder_without_draft_tensors_has_no_draft_layer() {
    let weights = folder_where(|name| !name.starts_with("model.layers.2.")).unwrap();
    assert_eq!((weights.hyper().n_layers, weights.hyper().n_draft_layers), (2, 0));
}

#[test]
fn a_draft_layer_may_share_embedding_and_head() {
    let keep = |name: &str| !name.contains("2.embed_tokens") && !name.contains("2.shared_head.head");
    assert_eq!(folder_where(keep).unwrap().hyper().n_draft_layers, 1);
}

#[test]
fn part_of_a_draft_layer_is_an_error_that_names_what_lacks() {
    let cases: [(Keep, &str); 7] = [
        (|name| !name.contains("2.eh_proj"), "blk.2.nextn.eh_proj.weight"),
        (|name| !name.contains("2.enorm"), "blk.2.nextn.enorm.weight"),
        (|name| !name.contains("2.hnorm"), "blk.2.nextn.hnorm.weight"),
        (|name| !name.contains("2.shared_head.norm"), "blk.2.nextn.shared_head_norm.weight"),
        (|name| !name.contains("2.self_attn.o_proj"), "blk.2.attn_output.weight"),
        (|name| !name.contains("2.mlp.experts.3.up_proj"), "blk.2.ffn_up.3.weight"),
        (|name| !name.contains("layers.2.") || name.contains("2.enorm"), "blk.2.attn_norm.weight"),
    ];
    for (keep, want) in cases {
        let error = folder_where(keep).unwrap_err();
        assert!(matches!(&error, Error::MissingTensor { tensor, .. } if tensor == want), "{want}: {error}");
    }
}

#[test]
fn a_pack_keeps_the_draft_layer() {
    let model = deepseek_fp8();
    import(&model.path, &model.beside("pack"), &ImportOptions::default(), &mut |_| {}).unwrap();
    let (source, pack) = (open(&model.path).unwrap(), open(&model.beside("pack")).unwrap());
    assert_eq!(pack.hyper().n_draft_layers, 1);
    assert_equal(&source, &pack);
}

/// A DeepSeek GGUF file of `block_count` layers, one of them dense, with zeros for weights. Of the last layer those
/// tensors are there whose names `keep` accepts; `drafts` is what `nextn_predict_layers` says.
fn gguf_file(
    block_count: usize,
    drafts: u32,
    keep: impl Fn(&str) -> bool,
) -> (TempDir, Result<Weights, Error>) {
    let mut metadata = MetadataWriter::new();
    metadata.string("general.architecture", "deepseek2");
    let numbers = [
        ("block_count", block_count as u32),
        ("embedding_length", 8),
        ("feed_forward_length", 12),
        ("context_length", 64),
        ("attention.head_count", 2),
        ("attention.kv_lora_rank", 4),
        ("attention.key_length_mla", 6),
        ("attention.value_length_mla", 3),
        ("rope.dimension_count", 2),
        ("expert_count", 2),
        ("expert_used_count", 1),
        ("expert_feed_forward_length", 5),
        ("expert_group_count", 1),
        ("leading_dense_block_count", 1),
        ("nextn_predict_layers", drafts),
    ];
    numbers.iter().for_each(|(key, value)| metadata.u32(&format!("deepseek2.{key}"), *value));
    metadata.f32("deepseek2.attention.layer_norm_rms_epsilon", 1e-6);
    let mut tensors = vec![("token_embd", vec![16, 8]), ("output_norm", vec![8]), ("output", vec![16, 8])]
        .into_iter()
        .map(|(name, shape)| (format!("{name}.weight"), shape))
        .collect::<Vec<_>>();
    for layer in 0..block_count {
        let is_last = layer + 1 == block_count;
        let of_layer = layer_tensors(layer, is_last && drafts > 0);
        tensors.extend(of_layer.into_iter().filter(|(name, _)| !is_last || keep(name)));
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.gguf");
    let tensors: Vec<_> = tensors.into_iter().map(|(name, shape)| (name, DType::F32, shape)).collect();
    let (mut bytes, n_data) = gguf_files::header(metadata, &tensors);
    bytes.resize(bytes.len() + n_data, 0);
    fs::write(&path, bytes).unwrap();
    let opened = open(&path);
    (dir, opened)
}

fn layer_tensors(layer: usize, is_draft: bool) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("attn_norm", vec![8]),
        ("ffn_norm", vec![8]),
        ("attn_q", vec![12, 8]),
        ("attn_kv_a_mqa", vec![6, 8]),
        ("attn_kv_a_norm", vec![4]),
        ("attn_k_b", vec![2, 4, 4]),
        ("attn_v_b", vec![2, 3, 4]),
        ("attn_output", vec![8, 6]),
    ];
    if layer == 0 {
        tensors.extend([("ffn_gate", vec![12, 8]), ("ffn_up", vec![12, 8]), ("ffn_down", vec![8, 12])]);
    } else {
        tensors.extend([("ffn_gate_inp", vec![2, 8]), ("ffn_gate_exps", vec![2, 5, 8])]);
        tensors.extend([("ffn_up_exps", vec![2, 5, 8]), ("ffn_down_exps", vec![2, 8, 5])]);
    }
    if is_draft {
        tensors.extend([("nextn.eh_proj", vec![8, 16]), ("nextn.enorm", vec![8])]);
        tensors.extend([("nextn.hnorm", vec![8]), ("nextn.shared_head_norm", vec![8])]);
    }
    tensors.into_iter().map(|(name, shape)| (format!("blk.{layer}.{name}.weight"), shape)).collect()
}

#[test]
fn the_block_count_of_a_gguf_file_includes_its_draft_layers() {
    let (_dir, weights) = gguf_file(3, 1, |_| true);
    let hyper = weights.unwrap().hyper().clone();
    assert_eq!((hyper.n_layers, hyper.n_draft_layers), (2, 1));
    // The layers of a draft that a separate file has: announced, counted and absent.
    let (_dir, weights) = gguf_file(3, 1, |_| false);
    let hyper = weights.unwrap().hyper().clone();
    assert_eq!((hyper.n_layers, hyper.n_draft_layers), (2, 0));
    let (_dir, weights) = gguf_file(2, 0, |_| true);
    let hyper = weights.unwrap().hyper().clone();
    assert_eq!((hyper.n_layers, hyper.n_draft_layers), (2, 0));
}

#[test]
fn a_gguf_file_with_part_of_a_draft_layer_is_refused() {
    let cases = [("nextn.hnorm", "blk.2.nextn.hnorm.weight"), ("ffn_up_exps", "blk.2.ffn_up.0.weight")];
    for (lacks, want) in cases {
        let (_dir, weights) = gguf_file(3, 1, |name| !name.contains(lacks));
        let error = weights.unwrap_err();
        assert!(matches!(&error, Error::MissingTensor { tensor, .. } if tensor == want), "{lacks}: {error}");
    }
}
