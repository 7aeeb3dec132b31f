//! Weights: model files in, our pack format in and out, a streaming importer between them.
//!
//! ```text
//! pack folder ──┐                        ┌──> Weights: tensors mapped or in memory, ready for a layer loop
//! *.gguf ───────┼─> Source: headers read ┤
//! HF folder ────┘   and checked, nothing └──> import: copied into a pack, streaming and resumable
//!                   mapped yet
//! ```
//!
//! Everything read here is untrusted: counts, lengths and offsets are checked against what the file holds and against
//! named limits before anything is allocated or indexed. Every parser takes a `&[u8]`, so that it can be fuzzed.
//!
//! Tensors carry GGUF's names (`blk.0.attn_q.weight`) whatever their source; routed experts are one tensor each
//! (`blk.3.ffn_gate.17.weight`), whether a file stacks them or not.
//!
//! May depend on `tensor` only. Start reading at [`open`] and [`Weights`], then `source.rs`, then [`import`].

mod catalogue;
mod error;
mod expert;
mod family;
mod files;
mod generation;
pub mod gguf;
pub mod hf;
mod hyper;
mod hyper_check;
mod import;
mod mapped;
pub mod pack;
mod provenance;
mod records;
mod requirements;
mod resident;
pub mod safetensors;
mod source;
mod tensor_view;
mod tokenizer;
mod weights;

pub use error::{BadField, Error, ValueProblem};
pub use expert::{ExpertKey, ExpertPart};
pub use generation::Generation;
pub use hyper::{Architecture, Hyperparameters, Mla, Moe, Rope, RopeScaling};
pub use import::{Choice, Compress, ImportOptions, ImportReport, Progress, Reason, Sample, Stage, import};
pub use provenance::{Provenance, SourceFile, SourceKind};
pub use records::{Extent, Record};
pub use tensor::reference::{Gating, RopePairs};
pub use tensor_view::Tensor;
pub use tokenizer::{GgufTokenizer, TokenizerFiles};
pub use weights::{TensorIndex, Weights, open, open_headers, open_resident};
