//! Safetensors: one file's header, a view over its bytes, and a writer.
//!
//! ```text
//! | n u64 | n bytes of JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...} | tensor data ... |
//!                                                   offsets count from here ^
//! ```
//!
//! Source: <https://github.com/huggingface/safetensors#format>. A whole model in such files is read by [`crate::hf`].
//!
//! Start reading at [`Header::parse`].

mod header;
mod json;
mod view;
mod writer;

pub use header::{Header, Problem, TensorInfo};
pub use view::{TensorView, View};
pub use writer::Writer;
