//! GGUF, versions 2 and 3, little-endian.
//!
//! ```text
//! | "GGUF" | version u32 | n_tensors u64 | n_metadata u64 |
//! | n_metadata x ( key: string, type u32, value )          |   string: length u64, bytes
//! | n_tensors  x ( name: string, n_dims u32,               |   array:  type u32, count u64, values
//! |                dims u64 x n_dims (innermost first),    |
//! |                type u32, offset u64 )                  |   offset: from the start of the data
//! | zeros up to general.alignment | tensor data ...        |
//! ```
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! Start reading at [`Header::parse`].

mod cursor;
mod experts;
mod header;
mod hyper;
mod keys;
mod metadata;
mod open;
mod problem;
mod split;
mod tokenizer;
mod writer;

pub use header::{Header, TensorInfo};
pub use hyper::{TensorFacts, hyperparameters};
pub use metadata::{Metadata, Value};
pub use problem::{Problem, ValueType};
pub use writer::MetadataWriter;

pub(crate) use open::open;
