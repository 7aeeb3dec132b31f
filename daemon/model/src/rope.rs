//! Inverse frequencies of rotary position embedding, from hyperparameters and file.

use tensor::reference;
use weights::{Rope, RopeScaling, Weights};

use crate::Error;

/// Inverse frequencies [dim / 2] and the factor on cos and sin.
pub(crate) fn inverse_frequencies(rope: &Rope, weights: &Weights) -> Result<(Vec<f32>, f32), Error> {
    let mut freqs = reference::rope_frequencies(rope.theta, rope.dim);
    let mut scale = 1.0;
    match rope.scaling {
        None => {}
        Some(RopeScaling::Linear { factor }) => freqs.iter_mut().for_each(|f| *f /= factor),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
            reference::llama3_scale(&mut freqs, factor, low_freq_factor, high_freq_factor, original_context);
        }
        Some(RopeScaling::Yarn {
            factor,
            original_context,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
        }) => {
            let dim = rope.dim;
            freqs =
                reference::yarn_frequencies(rope.theta, dim, factor, original_context, beta_fast, beta_slow);
            scale = reference::yarn_mscale(factor, mscale) / reference::yarn_mscale(factor, mscale_all_dim);
        }
    }
    if let Some(divisors) = weights.tensor("rope_freqs.weight") {
        let divisors = divisors.to_f32();
        if divisors.len() != freqs.len() {
            return Err(Error::TensorShape {
                name: "rope_freqs.weight".into(),
                got: vec![divisors.len()],
                want: vec![freqs.len()],
            });
        }
        freqs.iter_mut().zip(&divisors).for_each(|(freq, divisor)| *freq /= divisor);
    }
    Ok((freqs, scale))
}
