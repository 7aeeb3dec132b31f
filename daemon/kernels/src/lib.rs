//! The CPU's share of the arithmetic: every stage of a layer, on vectors and several threads.
//!
//! [`Cpu`] is the executor a model calls, one method a stage; the stages and their names are those of
//! `tensor::reference`, which the tests compare them with. Below it:
//!
//! ```text
//! Cpu (cpu.rs)            checks shapes, splits the work; linear and attention have a stage.rs of their own
//!  ├ linear.rs            y = W x: quantised weights on integer dots, everything else on f32
//!  ├ attention.rs, kv.rs  causal attention over the paged KV cache
//!  ├ heads.rs             weights that each head has its own of
//!  ├ elementwise.rs, rope.rs
//!  ├ latent.rs, mixture.rs  what DeepSeek's layers have besides
//!  ├ pool.rs              worker threads that meet for microseconds
//!  ├ probe.rs             what the machine can do at most
//!  └ level.rs, simd.rs    instruction sets: detected once, proven by tokens
//! ```
//!
//! May depend on `tensor` only. Unsafe code is welcome here, and nowhere else: behind tokens that prove the
//! instructions exist, each kernel with a scalar twin in `tensor::reference`. Start reading at [`Cpu`].

#![expect(clippy::needless_range_loop, reason = "arrays of registers are indexed in step")]

mod attention;
mod cpu;
mod elementwise;
mod error;
mod fit;
mod heads;
mod kv;
mod latent;
mod level;
mod linear;
mod mixture;
mod pool;
mod probe;
mod rope;
mod simd;

pub use attention::latent::{LatentShape, LatentWeights};
pub use attention::{AttentionSeq, AttentionShape};
pub use cpu::{Cpu, CpuOptions, Precision};
pub use error::Error;
pub use fit::Fit;
pub use heads::HeadWeights;
pub use kv::{BLOCK_TOKENS, KvElements, KvElementsMut, KvLayer, KvLayerMut};
pub use level::Level;
pub use linear::{EXACT_ROWS, Linear, Tokens};
pub use pool::{Pool, THREADS_MAX};
pub use rope::RopeTable;
pub use tensor::reference::{Choice, RopePairs, Router};
