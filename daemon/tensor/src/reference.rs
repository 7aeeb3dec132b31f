//! The scalar truth of every stage: plain loops that read like the equations, f32 in and out, sums in f64.
//!
//! Nothing here is fast. Kernels and shaders of the same names are compared with these functions.
//!
//! | file | stages |
//! | --- | --- |
//! | `linear.rs` | [`dot`], [`mat_vec`], [`mat_vec_transposed`], [`embedding`] |
//! | `quantised.rs` | [`quantise_activations`], [`dot_quantised`]: what integer kernels compute |
//! | `elementwise.rs` | [`rms_norm`], [`silu`], [`swiglu`] |
//! | `layer.rs` | [`linear`], [`expert_linear`], [`sort_choices`], [`combine`], [`add`], [`kv_write`], [`attention_combine`]: as graphics cards take them |
//! | `rope.rs` | [`rope`] and its frequencies: plain, Llama 3, YaRN |
//! | `attention.rs` | [`softmax`], [`attention`], [`latent_attention`] |
//! | `router.rs` | [`route`]: experts of a token |
//! | `logits.rs` | [`argmax`], [`log_softmax`] |

mod attention;
mod elementwise;
mod layer;
mod linear;
mod logits;
mod quantised;
mod rope;
mod router;

pub use attention::{attention, latent_attention, softmax};
pub use elementwise::{rms_norm, silu, swiglu};
pub use layer::{add, attention_combine, combine, expert_linear, kv_write, linear, sort_choices};
pub use linear::{dot, embedding, mat_vec, mat_vec_transposed};
pub use logits::{argmax, log_softmax};
pub use quantised::{ACTIVATION_BLOCK, dot_quantised, quantise_activations};
pub use rope::{RopePairs, llama3_scale, rope, rope_frequencies, yarn_frequencies, yarn_mscale};
pub use router::{Choice, Gating, Router, route};
