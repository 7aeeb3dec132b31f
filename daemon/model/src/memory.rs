//! What a step takes in memory, known before it runs.

use weights::Hyperparameters;

use crate::layers::FFN_TOKENS;
use crate::moe::GROUP_ROWS;

/// Tokens up to which latent attention may take its absorbed form, whose queries are wider: R1's limit is 171.
const ABSORBED_TOKENS: usize = 256;

/// Bytes of activations of a step over `n_tokens`, with logits for one token of each of `n_logits` sequences: an upper
/// bound of what the layers' buffers grow to.
pub fn activation_bytes(hyper: &Hyperparameters, n_tokens: usize, n_logits: usize) -> u64 {
    let d = hyper.d_model;
    // The residual stream, normed, and the layers' input and output; activations in 8 bits beside them.
    let stream = 5 * d;
    let attention = match &hyper.mla {
        Some(mla) => {
            let rank = mla.q_lora_rank.unwrap_or(0);
            let heads = hyper.n_heads * (mla.nope_dim + mla.rope_dim + mla.v_dim);
            2 * rank + heads + 2 * (mla.kv_lora_rank + mla.rope_dim)
        }
        None => (2 * hyper.n_heads + 2 * hyper.n_kv_heads) * hyper.head_dim,
    };
    let absorbed = hyper.mla.as_ref().map_or(0, |mla| {
        n_tokens.min(ABSORBED_TOKENS) * hyper.n_heads * (2 * mla.kv_lora_rank + mla.rope_dim)
    });
    let shared = hyper.moe.as_ref().map_or(0, |moe| moe.n_shared * moe.d_expert);
    let dense = n_tokens.min(FFN_TOKENS) * 3 * hyper.d_ff.max(shared);
    let (mixture, groups) = hyper.moe.as_ref().map_or((0, 0), |moe| {
        let rows = GROUP_ROWS.max(n_tokens);
        (moe.top_k * d + moe.n_experts + 4 * moe.top_k, 4 * rows * moe.d_expert)
    });
    let values =
        n_tokens * (stream + attention + mixture) + dense + absorbed + groups + n_logits * hyper.n_vocab;
    (values * size_of::<f32>()) as u64
}
