//! A model, as far as placement depends on it: what its tensors are and take.

use tensor::DType;
use weights::{Hyperparameters, Tensor, Weights};

use super::name::Name;
use super::{Bits, tensors};

/// A model's hyperparameters and tensors, without its draft layers, which a plan leaves out.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelShape {
    /// Hyperparameters.
    pub hyper: Hyperparameters,
    /// Tensors, one for each matrix of a routed expert.
    pub tensors: Vec<TensorShape>,
    /// What the weights are assumed to be stored in; `None` where files say it.
    pub bits: Option<Bits>,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorShape {
    /// GGUF's name.
    pub name: String,
    /// Bytes it takes.
    pub bytes: u64,
    /// Values that every token which needs it is multiplied with; 0 for vectors and scales.
    pub values: u64,
    /// Its products can be computed in 8-bit integers.
    pub is_block: bool,
}

impl TensorShape {
    /// As it is in another format; vectors stay as they are.
    pub(super) fn converted(&self, format: Option<DType>) -> Self {
        let Some(dtype) = format.filter(|_| self.values > 0) else { return self.clone() };
        let blocks = self.values / dtype.block_values() as u64;
        Self { bytes: blocks * dtype.block_bytes() as u64, is_block: dtype.is_quantised(), ..self.clone() }
    }
}

impl ModelShape {
    /// Of a model whose headers at least were read.
    pub fn of(weights: &Weights) -> Self {
        let hyper = weights.hyper().clone();
        let is_draft = |name| Name::of(name).layer.is_some_and(|layer| layer as usize >= hyper.n_layers);
        let tensors = weights.tensors().filter(|tensor| !is_draft(tensor.name));
        let tensors = tensors.map(|tensor| TensorShape {
            name: tensor.name.to_owned(),
            bytes: weights.bytes_of(tensor.name),
            values: multiplied(&tensor),
            is_block: tensor.dtype.is_quantised(),
        });
        let tensors = tensors.collect();
        Self { hyper, tensors, bits: None }
    }

    /// Of a model that isn't here, stored in `bits`.
    pub fn assumed(hyper: Hyperparameters, bits: Bits) -> Self {
        let mut tensors = Vec::new();
        let n_layers = hyper.n_layers;
        tensors::each(&hyper, |name, shape, layer| {
            let bytes = bits.bytes(&name, &shape, layer.map(|layer| (layer, n_layers)));
            let is_matrix = shape.len() > 1;
            let values = if is_matrix { shape.iter().map(|&n| n as u64).product() } else { 0 };
            let is_block = is_matrix && !name.ends_with("ffn_gate_inp.weight");
            tensors.push(TensorShape { name, bytes, values, is_block });
        });
        Self { hyper, tensors, bits: Some(bits) }
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }
}

/// Values of a matrix; nothing is multiplied with vectors and scales that would count.
fn multiplied(tensor: &Tensor<'_>) -> u64 {
    let is_matrix = tensor.shape.len() > 1 && tensor.name.ends_with(".weight");
    if is_matrix { tensor.len() as u64 } else { 0 }
}

#[cfg(test)]
pub(super) mod tests {
    use weights::{Architecture, Gating, Mla, Moe, Rope, RopePairs};

    use super::*;

    /// R1. Source: arXiv:2412.19437 and the publisher's config.json.
    pub(in crate::placement) fn r1(bits: Bits) -> ModelShape {
        let mla = Mla { q_lora_rank: Some(1536), kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128 };
        let moe = Moe {
            n_experts: 256,
            top_k: 8,
            d_expert: 2048,
            n_shared: 1,
            n_dense_layers: 3,
            n_groups: 8,
            top_k_groups: 4,
            gating: Gating::Sigmoid,
            normalise: true,
            scale: 2.5,
        };
        let hyper = Hyperparameters {
            architecture: Architecture::DeepSeek2,
            n_layers: 61,
            d_model: 7168,
            n_heads: 128,
            n_kv_heads: 128,
            head_dim: 192,
            d_ff: 18432,
            n_vocab: 129_280,
            mla: Some(mla),
            moe: Some(moe),
            ..qwen_7b().hyper
        };
        ModelShape::assumed(hyper, bits)
    }

    /// R1-Distill-Qwen-7B. Source: the publisher's config.json.
    pub(in crate::placement) fn qwen_7b() -> ModelShape {
        let rope = Rope { theta: 1e4, dim: 128, pairs: RopePairs::Halves, scaling: None };
        let hyper = Hyperparameters {
            architecture: Architecture::Qwen2,
            name: None,
            n_layers: 28,
            d_model: 3584,
            n_heads: 28,
            n_kv_heads: 4,
            head_dim: 128,
            d_ff: 18_944,
            n_vocab: 152_064,
            context: 131_072,
            rms_eps: 1e-6,
            rope,
            tied: false,
            mla: None,
            moe: None,
            n_draft_layers: 0,
        };
        ModelShape::assumed(hyper, Bits::Q4KM)
    }

    /// Published sizes, with vocabulary and metadata: 4,683,075,271 bytes of deepseek-r1:7b in Q4_K_M (Ollama's tags), 671 G
    /// parameters of R1, of which a token takes 37 G.
    #[test]
    fn sizes_are_those_of_published_files() {
        let seven = qwen_7b().bytes() as f64;
        assert!((seven / 4_683_075_271.0 - 1.0).abs() < 0.01, "{seven}");
        let r1 = r1(Bits::Of(8.0));
        let values: u64 = r1.tensors.iter().map(|tensor| tensor.values).sum();
        assert!((values as f64 / 671e9 - 1.0).abs() < 0.01, "{values}");
    }

    #[test]
    fn a_model_that_is_here_takes_what_its_files_take() {
        for fixture in ["tiny-deepseek-v2-lite", "tiny-llama"] {
            let model = fixtures::folder(fixture);
            let weights = weights::open_headers(&model.path).expect("a fixture");
            assert_eq!(ModelShape::of(&weights).bytes(), weights.bytes(), "{fixture}");
        }
    }
}
