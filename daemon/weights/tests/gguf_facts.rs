//! What published DeepSeek files say, and what follows where they are silent.
#![allow(clippy::unwrap_used, reason = "test code")]

use weights::gguf::{Header, MetadataWriter, TensorFacts, hyperparameters};
use weights::{BadField, Gating, Hyperparameters, RopeScaling};

/// The keys of one file, on top of those that all have; `None` leaves a key out.
#[derive(Clone, Copy)]
struct File {
    name: &'static str,
    layers: u32,
    d_model: u32,
    experts: (u32, u32),
    gating: Option<u32>,
    normalise: Option<bool>,
    groups: Option<(u32, u32)>,
    scale: f32,
    /// Factor, multiplier, betas.
    yarn: (f32, Option<f32>, Option<(f32, f32)>),
    bias: bool,
}

/// DeepSeek-V2 as converted in 2024.
const V2: File = File {
    name: "V2",
    layers: 60,
    d_model: 5120,
    experts: (160, 6),
    gating: None,
    normalise: None,
    groups: None,
    scale: 16.0,
    yarn: (40.0, Some(0.1), None),
    bias: false,
};
const V2_LITE: File = File {
    name: "V2-Lite",
    layers: 27,
    d_model: 2048,
    experts: (64, 6),
    scale: 1.0,
    yarn: (40.0, Some(0.0707), None),
    ..V2
};
/// V3 and R1 as converted in the first half of 2025.
const V3: File = File {
    name: "V3",
    layers: 61,
    d_model: 7168,
    experts: (256, 8),
    gating: Some(2),
    normalise: Some(true),
    scale: 2.5,
    bias: true,
    ..V2
};
const K2: File = File { name: "K2", experts: (384, 8), scale: 2.827, yarn: (32.0, Some(0.1), None), ..V3 };
const MOONLIGHT: File =
    File { name: "Moonlight", layers: 27, d_model: 2048, experts: (64, 6), scale: 2.446, ..V3 };

impl File {
    fn read(&self) -> Result<Hyperparameters, BadField> {
        let mut out = MetadataWriter::new();
        out.string("general.architecture", "deepseek2");
        let (n_experts, top_k) = self.experts;
        let numbers = [
            ("block_count", self.layers),
            ("embedding_length", self.d_model),
            ("feed_forward_length", 18432),
            ("context_length", 163_840),
            ("attention.head_count", 128),
            ("attention.kv_lora_rank", 512),
            ("attention.key_length_mla", 192),
            ("attention.value_length_mla", 128),
            ("rope.dimension_count", 64),
            ("rope.scaling.original_context_length", 4096),
            ("expert_count", n_experts),
            ("expert_used_count", top_k),
            ("expert_feed_forward_length", 2048),
            ("expert_shared_count", 1),
            ("leading_dense_block_count", 1),
        ];
        let groups =
            self.groups.map(|(n, used)| [("expert_group_count", n), ("expert_group_used_count", used)]);
        let gating = self.gating.map(|gating| ("expert_gating_func", gating));
        for (key, value) in numbers.into_iter().chain(groups.into_iter().flatten()).chain(gating) {
            out.u32(&format!("deepseek2.{key}"), value);
        }
        let (factor, multiplier, betas) = self.yarn;
        out.f32("deepseek2.attention.layer_norm_rms_epsilon", 1e-6);
        out.f32("deepseek2.expert_weights_scale", self.scale);
        out.string("deepseek2.rope.scaling.type", "yarn");
        out.f32("deepseek2.rope.scaling.factor", factor);
        multiplier.iter().for_each(|&v| out.f32("deepseek2.rope.scaling.yarn_log_multiplier", v));
        if let Some((fast, slow)) = betas {
            out.f32("deepseek2.rope.scaling.yarn_beta_fast", fast);
            out.f32("deepseek2.rope.scaling.yarn_beta_slow", slow);
        }
        self.normalise.iter().for_each(|&v| out.bool("deepseek2.expert_weights_norm", v));
        let facts = TensorFacts { n_vocab: Some(512), has_output: true, has_router_bias: self.bias };
        hyperparameters(&Header::parse(&out.finish()).unwrap().metadata, facts)
    }
}

#[test]
fn the_router_of_every_published_file_is_the_publishers() {
    use Gating::{Sigmoid, Softmax};
    let new = |file: File, groups| File { groups: Some(groups), ..file };
    let cases = [
        (V2, Softmax, (8, 3), false),
        (File { gating: Some(1), normalise: Some(false), ..V2 }, Softmax, (8, 3), false),
        (new(V2, (8, 3)), Softmax, (8, 3), false),
        (V2_LITE, Softmax, (1, 1), false),
        (new(V2_LITE, (1, 1)), Softmax, (1, 1), false),
        (V3, Sigmoid, (8, 4), true),
        (new(V3, (8, 4)), Sigmoid, (8, 4), true),
        (File { gating: None, normalise: None, ..V3 }, Sigmoid, (8, 4), true),
        (File { gating: Some(0), ..V3 }, Sigmoid, (8, 4), true),
        (K2, Sigmoid, (1, 1), true),
        (new(K2, (1, 1)), Sigmoid, (1, 1), true),
        (MOONLIGHT, Sigmoid, (1, 1), true),
        // Cut out of V3: fewer layers, the same router.
        (File { layers: 3, ..V3 }, Sigmoid, (8, 4), true),
        // Nobody's shape, but it says all there is to say.
        (File { experts: (160, 8), groups: Some((8, 4)), ..V3 }, Sigmoid, (8, 4), true),
        (File { experts: (128, 4), d_model: 7168, groups: Some((0, 0)), ..V2 }, Softmax, (1, 1), false),
    ];
    for (file, gating, groups, normalise) in cases {
        let moe = file.read().unwrap().moe.unwrap();
        let got = (moe.gating, (moe.n_groups, moe.top_k_groups), moe.normalise, moe.scale);
        assert_eq!(got, (gating, groups, normalise, file.scale), "{} {:?}", file.name, file.groups);
    }
}

#[test]
fn what_no_published_model_answers_is_an_error() {
    let pruned = File { experts: (160, 8), ..V3 };
    let grouped = File { groups: Some((8, 4)), ..pruned };
    let cases = [
        (pruned, "deepseek2.expert_group_count: missing"),
        (File { d_model: 4096, ..V3 }, "deepseek2.expert_group_count: missing"),
        (File { normalise: None, ..grouped }, "deepseek2.expert_weights_norm: missing"),
        (File { gating: Some(3), ..V3 }, "expert_gating_func: 3 is not supported"),
        (File { groups: Some((7, 4)), ..V3 }, "a multiple of moe.n_groups"),
        (File { groups: Some((8, 9)), ..V3 }, "moe.top_k_groups: 9"),
    ];
    for (file, want) in cases {
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains(want), "{want}: {error}");
    }
}

#[test]
fn yarn_is_the_publishers() {
    let multiplier = |file: File, multiplier| File { yarn: (file.yarn.0, multiplier, None), ..file };
    let cases = [
        (V2, (1.0, 1.0), (32.0, 1.0)),
        (V2_LITE, (0.707, 0.707), (32.0, 1.0)),
        (multiplier(V2, Some(0.0707)), (0.707, 0.707), (32.0, 1.0)),
        (V3, (1.0, 1.0), (32.0, 1.0)),
        (K2, (1.0, 1.0), (1.0, 1.0)),
        (File { yarn: (64.0, Some(0.1), Some((32.0, 1.0))), ..K2 }, (1.0, 1.0), (32.0, 1.0)),
        // No mscale at all: cos and sin are scaled by 0.1 ln(factor) + 1, the softmax is not.
        (multiplier(V3, None), (1.0, 0.0), (32.0, 1.0)),
        (multiplier(V3, Some(0.0)), (1.0, 0.0), (32.0, 1.0)),
    ];
    for (file, want_mscale, want_betas) in cases {
        let Some(RopeScaling::Yarn { factor, beta_fast, beta_slow, mscale, mscale_all_dim, .. }) =
            file.read().unwrap().rope.scaling
        else {
            panic!("{}: no YaRN", file.name)
        };
        let close = (mscale - want_mscale.0).abs() + (mscale_all_dim - want_mscale.1).abs() < 1e-6;
        assert!(close, "{}: {mscale} {mscale_all_dim}", file.name);
        assert_eq!((factor, (beta_fast, beta_slow)), (file.yarn.0, want_betas), "{}", file.name);
    }
}

#[test]
fn sparse_attention_is_named() {
    let read = |architecture: &str, indexer: Option<&str>| {
        let mut out = MetadataWriter::new();
        out.string("general.architecture", architecture);
        indexer.iter().for_each(|key| out.u32(key, 2048));
        let facts = TensorFacts { n_vocab: Some(512), has_output: true, has_router_bias: true };
        hyperparameters(&Header::parse(&out.finish()).unwrap().metadata, facts).unwrap_err().to_string()
    };
    let cases = [
        (
            "deepseek32",
            None,
            "general.architecture: deepseek32 (DeepSeek V3.2): a model with DeepSeek sparse",
        ),
        ("glm-dsa", None, "general.architecture: glm-dsa (GLM-5): a model with DeepSeek sparse attention"),
        (
            "deepseek2",
            Some("deepseek2.attention.indexer.top_k"),
            "deepseek2.attention.indexer.top_k: 2048: a model with DeepSeek sparse attention",
        ),
        (
            "qwen3moe",
            None,
            "general.architecture: qwen3moe is not supported; supported: llama, qwen2, deepseek2",
        ),
        ("deepseek4", None, "general.architecture: deepseek4 is not supported"),
    ];
    for (architecture, indexer, want) in cases {
        let error = read(architecture, indexer);
        assert!(error.contains(want), "{architecture}: {error}");
    }
}
