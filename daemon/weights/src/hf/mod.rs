//! Hugging Face folders: `config.json`, `model*.safetensors`, tokenizer and template.
//!
//! Start reading at `folder.rs`; `config.rs` turns `config.json` into hyperparameters, `names.rs` is the table of tensor
//! names.

mod config;
mod folder;
mod names;
mod rope;
mod side_files;

pub use config::hyperparameters;

pub(crate) use folder::{CONFIG, open};
pub(crate) use side_files::{MAX_TOKENIZER_BYTES, TOKENIZER, TOKENIZER_CONFIG};
