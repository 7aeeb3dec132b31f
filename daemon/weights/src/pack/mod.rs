//! Packs: our own directory, written once by [`crate::import`], never changed afterwards.
//!
//! ```text
//! NAME/
//!   pack.json             the manifest: hyperparameters, tensor table, record table, provenance
//!   dense.bin             every tensor that is not a routed expert, mapped
//!   experts.bin           one record per (layer, expert); absent in dense models
//!   tokenizer.json        or tokenizer.gguf: GGUF metadata alone, tokenizer.ggml.* as published
//!   tokenizer_config.json
//!   chat_template.jinja
//!   LICENSE               where the source has one
//!
//! dense.bin    | tensor | zeros | tensor | zeros | ...              each tensor starts on a 4 KiB page
//!              0                4096 k
//!
//! experts.bin  | record 0.0 | zeros | record 0.1 | zeros | ...      layer by layer, expert by expert
//!              offset               offset + stride
//!
//! record       | gate | up | down |                                 each part starts on 64 bytes;
//!              FP8: | gate | its scales | up | its scales | down | its scales |
//!
//! a tensor           row after row, or 16 rows interleaved: see `layout_of`; `tensor::interleave` draws the bytes
//! xxh3 of a tensor   XXH3-64 of its bytes as they lie here
//! xxh3 of a record   XXH3-64 of the parts' XXH3-64s, 8 bytes each, little-endian, in record order: parts can be
//!                    hashed as they arrive, and one read of the record is enough to check it
//! ```
//!
//! Every expert of a layer has the same parts, so the table says once per layer what a record looks like; record
//! `(layer, expert)` lies at `offset + expert * stride`.
//!
//! Start reading at [`Manifest`], then [`Pack`].

mod check;
mod layout;
mod manifest;
mod open;
mod verify;

pub use check::Problem;
pub use manifest::{
    Dense, DenseTensor, Experts, Hash, Manifest, PAGE_BYTES, PART_ALIGN, RecordLayer, RecordPart, SideFile,
};
pub use open::Pack;
pub use tensor::Layout;
pub use verify::Finding;

pub(crate) use layout::{group_bytes, layout_of};
pub(crate) use manifest::{
    CHAT_TEMPLATE, DENSE, EXPERTS, FORMAT, GGUF_TOKENIZER, LICENCE, MANIFEST, SIDE_FILES, VERSION,
};
pub(crate) use open::open;
