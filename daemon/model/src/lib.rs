//! Models: weights bound to a layer loop.
//!
//! [`Model`] runs a step over a batch of sequence chunks: embedding, layers, head. It owns the weights (mapped), the
//! paged KV cache and the CPU executor; it knows tokens and numbers, never text. [`Forward`] is the border to the
//! engine, which decides what runs when; the engine's simulations implement it too.
//!
//! May depend on `weights`, `kernels` and `tensor`. Start reading at `dense.rs`: the layer loop reads like the paper.

mod dense;
mod error;
mod forward;
mod kv;
mod layers;
mod rope;

pub use dense::{Model, Options};
pub use error::Error;
pub use forward::{Chunk, Forward, Limits, LogitsOf, SeqId};
pub use kernels::Precision;
pub use kv::KvCache;

/// A token: an index into the vocabulary.
pub type TokenId = u32;
