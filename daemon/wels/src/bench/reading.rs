//! What a step reads and multiplies: the weights. (The KV cache is little at the depths measured here.)

use weights::{Tensor, Weights};

/// Bytes and values of the weights, by how often they are used.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Bytes that every step reads.
    shared_bytes: u64,
    /// Values that every token is multiplied with, the head's apart.
    layer_values: u64,
    head_values: u64,
    /// Experts of each layer that has some, in order.
    mixtures: Vec<Experts>,
    /// Experts a token uses.
    top_k: usize,
}

/// The routed experts of one layer.
#[derive(Clone, Copy, Debug, Default)]
struct Experts {
    n: u64,
    bytes: u64,
    values: u64,
}

impl Experts {
    /// What `n_used` of them take, on average: they are alike.
    fn share(&self, of: u64, n_used: usize) -> u64 {
        of * n_used as u64 / self.n.max(1)
    }
}

impl Reading {
    pub(super) fn of(weights: &Weights) -> Self {
        let hyper = weights.hyper();
        let (n_dense, n_experts, top_k) =
            hyper.moe.map_or((0, 0, 0), |moe| (moe.n_dense_layers, moe.n_experts, moe.top_k));
        let n_mixtures = if n_experts > 0 { hyper.n_layers - n_dense } else { 0 };
        let experts = Experts { n: n_experts as u64, ..Experts::default() };
        let mut reading = Self { mixtures: vec![experts; n_mixtures], top_k, ..Self::default() };
        for tensor in weights.tensors() {
            let place = Place::of(tensor.name);
            if place.layer.is_none_or(|layer| layer < hyper.n_layers) {
                let mixture = place.layer.filter(|_| place.is_expert).map(|layer| layer - n_dense);
                reading.add(&tensor, mixture, hyper.tied);
            }
        }
        reading
    }

    fn add(&mut self, tensor: &Tensor<'_>, mixture: Option<usize>, tied: bool) {
        let (bytes, values) = (tensor.data.len() as u64, multiplied(tensor));
        match (mixture, tensor.name) {
            (Some(mixture), _) => {
                self.mixtures[mixture].bytes += bytes;
                self.mixtures[mixture].values += values;
            }
            // Of the embedding a step reads single rows, unless it is the head too.
            (None, "token_embd.weight") if !tied => {}
            (None, "token_embd.weight" | "output.weight") => {
                self.shared_bytes += bytes;
                self.head_values += values;
            }
            (None, _) => {
                self.shared_bytes += bytes;
                self.layer_values += values;
            }
        }
    }

    /// Bytes that a step of one token reads.
    pub(super) fn token_bytes(&self) -> u64 {
        self.step_bytes(&vec![self.top_k; self.mixtures.len()])
    }

    /// Bytes that a step reads which uses so many different experts of each layer that has some.
    pub(super) fn step_bytes(&self, n_used: &[usize]) -> u64 {
        let experts = self.mixtures.iter().zip(n_used).map(|(layer, n)| layer.share(layer.bytes, *n));
        self.shared_bytes + experts.sum::<u64>()
    }

    /// Operations on weights for a prompt of `n` tokens whose last alone wants logits, two for each multiply-add.
    pub(super) fn prefill_ops(&self, n: usize) -> f64 {
        let experts: u64 = self.mixtures.iter().map(|layer| layer.share(layer.values, self.top_k)).sum();
        2.0 * (n as f64 * (self.layer_values + experts) as f64 + self.head_values as f64)
    }
}

/// Values of a matrix; nothing is multiplied with vectors and scales that would count.
fn multiplied(tensor: &Tensor<'_>) -> u64 {
    let is_matrix = tensor.shape.len() > 1 && tensor.name.ends_with(".weight");
    if is_matrix { tensor.len() as u64 } else { 0 }
}

/// Where a tensor belongs, by its name: `blk.3.attn_q.weight`, `blk.3.ffn_gate.17.weight`, `output.weight`.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    layer: Option<usize>,
    is_expert: bool,
}

impl Place {
    fn of(name: &str) -> Self {
        let parts: Vec<&str> = name.split('.').collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse::<usize>().ok());
        let layer = number(1).filter(|_| parts[0] == "blk");
        Self { layer, is_expert: layer.is_some() && number(3).is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(fixture: &str) -> (Weights, Reading) {
        let model =
            if fixture.ends_with(".gguf") { fixtures::gguf(fixture) } else { fixtures::folder(fixture) };
        let weights = weights::open(&model.path).unwrap();
        let reading = Reading::of(&weights);
        (weights, reading)
    }

    fn bytes_of(weights: &Weights, wanted: impl Fn(&str) -> bool) -> u64 {
        weights.tensors().filter(|tensor| wanted(tensor.name)).map(|tensor| tensor.data.len() as u64).sum()
    }

    #[test]
    fn names_say_where_a_tensor_belongs() {
        let place = |layer, is_expert| Place { layer, is_expert };
        assert_eq!(Place::of("output.weight"), place(None, false));
        assert_eq!(Place::of("blk.12.attn_q.weight"), place(Some(12), false));
        assert_eq!(Place::of("blk.3.ffn_gate.17.weight"), place(Some(3), true));
        assert_eq!(Place::of("blk.3.ffn_gate.17.weight_scale_inv"), place(Some(3), true));
    }

    #[test]
    fn a_dense_model_is_read_whole_but_for_its_embedding() {
        let (weights, reading) = reading("tiny-qwen2.q8_0.gguf");
        let tied = weights.hyper().tied;
        assert_eq!(reading.token_bytes(), bytes_of(&weights, |name| tied || name != "token_embd.weight"));
    }

    #[test]
    fn of_a_mixture_only_the_chosen_experts_are_read() {
        let (weights, reading) = reading("tiny-deepseek-v3");
        let moe = weights.hyper().moe.unwrap();
        let last = format!("blk.{}.", weights.hyper().n_layers);
        let shared = bytes_of(&weights, |name| {
            !Place::of(name).is_expert && name != "token_embd.weight" && !name.starts_with(&last)
        });
        let experts = bytes_of(&weights, |name| Place::of(name).is_expert && !name.starts_with(&last));
        assert_eq!(reading.token_bytes(), shared + experts * moe.top_k as u64 / moe.n_experts as u64);
        let all = vec![moe.n_experts; reading.mixtures.len()];
        assert_eq!(reading.step_bytes(&all), shared + experts);
    }

    #[test]
    fn a_prompt_is_multiplied_with_every_weight_but_once_with_the_head() {
        let (weights, reading) = reading("tiny-qwen2.q8_0.gguf");
        let hyper = weights.hyper();
        let one = reading.prefill_ops(1);
        let head = (2 * hyper.n_vocab * hyper.d_model) as f64;
        assert_eq!(reading.prefill_ops(10), 10.0 * (one - head) + head);
    }
}
