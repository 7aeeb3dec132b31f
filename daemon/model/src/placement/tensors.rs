//! The tensors of a model that isn't here: names and shapes from hyperparameters alone, as published files have them.

use weights::{Architecture, ExpertKey, ExpertPart, Gating, Hyperparameters, Mla, Moe};

/// Calls `each(name, shape, layer)` for every tensor that a step reads, the outermost dimension first.
pub(super) fn each(hyper: &Hyperparameters, mut each: impl FnMut(String, Vec<usize>, Option<usize>)) {
    let (d, vocab) = (hyper.d_model, hyper.n_vocab);
    each("token_embd.weight".into(), vec![vocab, d], None);
    each("output_norm.weight".into(), vec![d], None);
    if !hyper.tied {
        each("output.weight".into(), vec![vocab, d], None);
    }
    for i in 0..hyper.n_layers {
        let mut layer =
            |name: &str, shape: &[usize]| each(format!("blk.{i}.{name}"), shape.to_vec(), Some(i));
        layer("attn_norm.weight", &[d]);
        layer("ffn_norm.weight", &[d]);
        match &hyper.mla {
            Some(mla) => latent_attention(hyper, mla, &mut layer),
            None => attention(hyper, &mut layer),
        }
        match &hyper.moe {
            Some(moe) if i >= moe.n_dense_layers => {
                mixture(d, moe, &mut layer);
                experts(i, d, moe, &mut each);
            }
            _ => feed_forward(d, hyper.d_ff, "", &mut layer),
        }
    }
}

fn attention(hyper: &Hyperparameters, layer: &mut impl FnMut(&str, &[usize])) {
    let d = hyper.d_model;
    let (q, kv) = (hyper.n_heads * hyper.head_dim, hyper.n_kv_heads * hyper.head_dim);
    for (name, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
        layer(&format!("{name}.weight"), &[rows, d]);
        if hyper.architecture == Architecture::Qwen2 {
            layer(&format!("{name}.bias"), &[rows]);
        }
    }
    layer("attn_output.weight", &[d, q]);
}

fn latent_attention(hyper: &Hyperparameters, mla: &Mla, layer: &mut impl FnMut(&str, &[usize])) {
    let (d, heads, rank) = (hyper.d_model, hyper.n_heads, mla.kv_lora_rank);
    let key = mla.nope_dim + mla.rope_dim;
    match mla.q_lora_rank {
        None => layer("attn_q.weight", &[heads * key, d]),
        Some(q_rank) => {
            layer("attn_q_a.weight", &[q_rank, d]);
            layer("attn_q_a_norm.weight", &[q_rank]);
            layer("attn_q_b.weight", &[heads * key, q_rank]);
        }
    }
    layer("attn_kv_a_mqa.weight", &[rank + mla.rope_dim, d]);
    layer("attn_kv_a_norm.weight", &[rank]);
    layer("attn_kv_b.weight", &[heads * (mla.nope_dim + mla.v_dim), rank]);
    layer("attn_output.weight", &[d, heads * mla.v_dim]);
}

/// Router and shared expert.
fn mixture(d: usize, moe: &Moe, layer: &mut impl FnMut(&str, &[usize])) {
    layer("ffn_gate_inp.weight", &[moe.n_experts, d]);
    if moe.gating == Gating::Sigmoid {
        layer("exp_probs_b.bias", &[moe.n_experts]);
    }
    if moe.n_shared > 0 {
        feed_forward(d, moe.n_shared * moe.d_expert, "_shexp", layer);
    }
}

fn experts(i: usize, d: usize, moe: &Moe, each: &mut impl FnMut(String, Vec<usize>, Option<usize>)) {
    for expert in 0..moe.n_experts as u32 {
        let key = ExpertKey { layer: i as u32, expert };
        each(key.tensor_name(ExpertPart::Gate), vec![moe.d_expert, d], Some(i));
        each(key.tensor_name(ExpertPart::Up), vec![moe.d_expert, d], Some(i));
        each(key.tensor_name(ExpertPart::Down), vec![d, moe.d_expert], Some(i));
    }
}

fn feed_forward(d: usize, width: usize, suffix: &str, layer: &mut impl FnMut(&str, &[usize])) {
    layer(&format!("ffn_gate{suffix}.weight"), &[width, d]);
    layer(&format!("ffn_up{suffix}.weight"), &[width, d]);
    layer(&format!("ffn_down{suffix}.weight"), &[d, width]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Hugging Face's published layout: what the enumeration claims to be.
    #[test]
    fn the_tensors_are_those_of_published_files() {
        for fixture in
            ["tiny-llama", "tiny-qwen2", "tiny-deepseek-v2", "tiny-deepseek-v2-lite", "tiny-deepseek-v3"]
        {
            let model = fixtures::folder(fixture);
            let weights = weights::open_headers(&model.path).expect("a fixture");
            let hyper = weights.hyper();
            let draft = format!("blk.{}.", hyper.n_layers);
            let tensors = weights.tensors().filter(|tensor| !tensor.name.starts_with(&draft));
            let want: BTreeMap<_, _> =
                tensors.map(|tensor| (tensor.name.to_owned(), tensor.shape.to_vec())).collect();
            let mut got = BTreeMap::new();
            each(hyper, |name, shape, _| assert!(got.insert(name, shape).is_none(), "each once"));
            assert_eq!(got, want, "{fixture}");
        }
    }
}
