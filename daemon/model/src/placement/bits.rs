//! How many bits a weight takes in a file that isn't here.

use tensor::DType;

/// What a model's weights are assumed to be stored in. Vectors and routers are always f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bits {
    /// llama.cpp's mixture of that name, the usual one: Q4_K, with Q6_K where it matters most.
    Q4KM,
    /// So many bits for every weight of a matrix, scales included.
    Of(f64),
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Q4KM => f.write_str("Q4_K_M"),
            Self::Of(bits) => write!(f, "{bits} bits a weight"),
        }
    }
}

impl Bits {
    /// Bytes of a tensor of this shape in layer `layer` of `n_layers`.
    pub(super) fn bytes(self, name: &str, shape: &[usize], layer: Option<(usize, usize)>) -> u64 {
        let values: u64 = shape.iter().map(|&n| n as u64).product();
        match self {
            _ if is_plain(name, shape) => values * size_of::<f32>() as u64,
            Self::Of(bits) => (values as f64 * bits / 8.0) as u64,
            Self::Q4KM => {
                let dtype = q4_k_m(name, shape, layer);
                values / dtype.block_values() as u64 * dtype.block_bytes() as u64
            }
        }
    }
}

/// F32 for vectors and routers, Q6_K for the head, and for the values and the feed-forward's way down in half of the layers; Q4_K for all else. Rows that
/// are not whole blocks of 256 get the next larger type with blocks of 32.
///
/// Source: llama.cpp, `llama_tensor_get_type` for `LLAMA_FTYPE_MOSTLY_Q4_K_M`.
pub(super) fn q4_k_m(name: &str, shape: &[usize], layer: Option<(usize, usize)>) -> DType {
    if is_plain(name, shape) {
        return DType::F32;
    }
    let cols = shape[shape.len() - 1];
    let is_wide = layer.is_some_and(|(layer, n_layers)| has_more_bits(layer, n_layers))
        && ["attn_v.", "ffn_down"].iter().any(|part| name.contains(part));
    match (name == "output.weight" || is_wide, cols.is_multiple_of(DType::Q4K.block_values())) {
        (true, true) => DType::Q6K,
        (true, false) => DType::Q8_0,
        (false, true) => DType::Q4K,
        (false, false) => DType::Q5_0,
    }
}

/// Vectors and routers.
fn is_plain(name: &str, shape: &[usize]) -> bool {
    shape.len() == 1 || name.ends_with("ffn_gate_inp.weight")
}

/// The first and last eighth of the layers and every third between.
fn has_more_bits(layer: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_layers_have_more_bits() {
        for n_layers in [26, 28, 61, 80] {
            let wide = (0..n_layers).filter(|&layer| has_more_bits(layer, n_layers)).count();
            assert!((0.4..0.6).contains(&(wide as f64 / n_layers as f64)), "{wide} of {n_layers}");
        }
    }

    #[test]
    fn bytes_follow_the_kind_of_tensor() {
        let bytes = |bits: Bits, name: &str, shape: &[usize]| bits.bytes(name, shape, Some((10, 61)));
        assert_eq!(bytes(Bits::Of(4.5), "blk.10.attn_norm.weight", &[7168]), 7168 * 4);
        assert_eq!(bytes(Bits::Of(8.0), "blk.10.ffn_gate_inp.weight", &[256, 7168]), 256 * 7168 * 4);
        assert_eq!(bytes(Bits::Of(4.5), "blk.10.attn_q_a.weight", &[1536, 7168]), 1536 * 7168 * 9 / 16);
        assert_eq!(bytes(Bits::Q4KM, "blk.10.attn_q_a.weight", &[1536, 7168]), 1536 * 28 * 144);
        assert_eq!(bytes(Bits::Q4KM, "output.weight", &[1000, 512]), 1000 * 2 * 210);
        assert_eq!(bytes(Bits::Q4KM, "blk.10.attn_q.weight", &[10, 160]), 10 * 5 * 22);
    }
}
