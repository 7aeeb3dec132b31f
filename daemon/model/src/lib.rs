//! Models: weights bound to a layer loop.
//!
//! [`Model`] runs a step over a batch of sequence chunks: embedding, layers, head. It owns the weights (mapped), the
//! paged KV cache and the CPU executor; it knows tokens and numbers, never text. [`Forward`] is the border to the
//! engine, which decides what runs when; the engine's simulations implement it too.
//!
//! ```text
//! model.rs      a step: embedding, layers, head; the draft beside it
//!  ├ dense.rs       Llama and Qwen2
//!  ├ deepseek.rs    DeepSeek: mla.rs (attention) and moe.rs (experts)
//!  ├ draft.rs       DeepSeek's draft layer
//!  ├ batch.rs, pass.rs, kv.rs   the tokens, what layers work with, what is remembered
//!  ├ card.rs        the same layers on a graphics card
//!  └ trace.rs       what happened inside
//! placement.rs  which device computes with what, where it lies, and how fast that will be
//! ```
//! May depend on `weights`, `experts`, `kernels`, `gpu`, `shaders` and `tensor`. Start reading at `deepseek.rs`: the layer loop reads like the
//! paper.

mod batch;
mod card;
mod deepseek;
mod dense;
mod draft;
mod error;
mod forward;
mod kv;
mod layers;
mod memory;
mod mla;
mod model;
mod moe;
mod pass;
pub mod placement;
mod rope;
mod skip;
mod trace;

pub use card::{CardOptions, CardPlan, CardShape, PromptExperts, StepCost, Tensors, options_of};
pub use error::Error;
pub use experts::{Origin, Stats as Streamed, Streaming};
pub use forward::{Chunk, Failure, Forward, Limits, LogitsOf, Notice, SeqId};
pub use kernels::{EXACT_ROWS, Precision};
pub use kv::{KvCache, KvShape};
pub use memory::activation_bytes;
pub use mla::LatentForm;
pub use model::{Model, Options};
pub use trace::Trace;

/// A token: an index into the vocabulary.
pub type TokenId = u32;
