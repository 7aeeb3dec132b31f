//! Published tensor names and GGUF's: one table.

/// Tensors outside the layers: `(Hugging Face, GGUF)`.
const GLOBAL: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Tensors of a layer: `model.layers.N.` + left, `blk.N.` + right.
const LAYER: [(&str, &str); 25] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    // Grouped-query attention.
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    // Latent attention.
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("self_attn.kv_b_proj", "attn_kv_b"),
    // Dense feed-forward.
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    // Mixture of experts; the routed experts themselves are in EXPERT.
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
    // Draft layer (multi-token prediction).
    ("embed_tokens", "nextn.embed_tokens"),
    ("enorm", "nextn.enorm"),
    ("hnorm", "nextn.hnorm"),
    ("eh_proj", "nextn.eh_proj"),
    ("shared_head.norm", "nextn.shared_head_norm"),
    ("shared_head.head", "nextn.shared_head_head"),
];

/// Matrices of a routed expert: `model.layers.N.mlp.experts.E.` + left, `blk.N.` + right + `.E`.
const EXPERT: [(&str, &str); 3] =
    [("gate_proj", "ffn_gate"), ("up_proj", "ffn_up"), ("down_proj", "ffn_down")];

/// What stays behind the stem.
const KINDS: [&str; 3] = ["weight", "bias", "weight_scale_inv"];

/// The router's correction bias has a name of its own on both sides.
const ROUTER_BIAS: (&str, &str) = ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias");

/// Buffers that old checkpoints carry and no computation reads.
const IGNORED: [&str; 1] = ["self_attn.rotary_emb.inv_freq"];

/// What a published name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mapped {
    /// GGUF's name.
    Name(String),
    /// A buffer without meaning.
    Ignored,
    /// Nothing this project knows.
    Unknown,
}

/// Looks a Hugging Face tensor name up.
pub(super) fn map(published: &str) -> Mapped {
    let Some((layer, rest)) = layer(published) else {
        return name(global(published));
    };
    if IGNORED.contains(&rest) {
        return Mapped::Ignored;
    }
    if rest == ROUTER_BIAS.0 {
        return Mapped::Name(format!("blk.{layer}.{}", ROUTER_BIAS.1));
    }
    name(expert(layer, rest).or_else(|| in_layer(layer, rest)))
}

fn name(found: Option<String>) -> Mapped {
    found.map_or(Mapped::Unknown, Mapped::Name)
}

/// Splits `model.layers.N.rest`.
fn layer(published: &str) -> Option<(u32, &str)> {
    let (layer, rest) = published.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// Splits `stem.kind` where the kind is one of [`KINDS`].
fn stem_and_kind(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.').filter(|(_, kind)| KINDS.contains(kind))
}

fn look_up(table: &[(&str, &'static str)], stem: &str) -> Option<&'static str> {
    table.iter().find(|(published, _)| *published == stem).map(|(_, canonical)| *canonical)
}

fn global(published: &str) -> Option<String> {
    let (stem, kind) = stem_and_kind(published)?;
    Some(format!("{}.{kind}", look_up(&GLOBAL, stem)?))
}

fn in_layer(layer: u32, rest: &str) -> Option<String> {
    let (stem, kind) = stem_and_kind(rest)?;
    Some(format!("blk.{layer}.{}.{kind}", look_up(&LAYER, stem)?))
}

fn expert(layer: u32, rest: &str) -> Option<String> {
    let (stem, kind) = stem_and_kind(rest)?;
    let (expert, part) = stem.strip_prefix("mlp.experts.")?.split_once('.')?;
    let expert: u32 = expert.parse().ok()?;
    Some(format!("blk.{layer}.{}.{expert}.{kind}", look_up(&EXPERT, part)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_published_names() {
        let cases = [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.27.self_attn.q_proj.bias", "blk.27.attn_q.bias"),
            ("model.layers.3.mlp.experts.255.down_proj.weight", "blk.3.ffn_down.255.weight"),
            ("model.layers.3.mlp.experts.7.up_proj.weight_scale_inv", "blk.3.ffn_up.7.weight_scale_inv"),
            ("model.layers.3.mlp.gate.weight", "blk.3.ffn_gate_inp.weight"),
            ("model.layers.3.mlp.gate.e_score_correction_bias", "blk.3.exp_probs_b.bias"),
            ("model.layers.61.eh_proj.weight", "blk.61.nextn.eh_proj.weight"),
            ("model.layers.61.shared_head.head.weight", "blk.61.nextn.shared_head_head.weight"),
        ];
        for (published, canonical) in cases {
            assert_eq!(map(published), Mapped::Name(canonical.into()), "{published}");
        }
    }

    #[test]
    fn knows_what_it_does_not_know() {
        assert_eq!(map("model.layers.0.self_attn.rotary_emb.inv_freq"), Mapped::Ignored);
        for odd in [
            "model.layers.0.self_attn.indexer.wk.weight",
            "model.layers.x.input_layernorm.weight",
            "lm_head.zp",
            "",
        ] {
            assert_eq!(map(odd), Mapped::Unknown, "{odd}");
        }
    }

    #[test]
    fn no_published_name_occurs_twice() {
        for (i, (published, _)) in LAYER.iter().enumerate() {
            assert!(!LAYER[i + 1..].iter().any(|(other, _)| other == published), "{published}");
        }
    }
}
