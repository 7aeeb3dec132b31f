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
//! coded record | gate, coded | its scales | up, coded | ...         each part behind the one before, of its own size;
//!              `coding` draws a part. In memory the record is the one above. Such records follow each other by pages:
//!              | record 0.0 | zeros | record 0.1 | zeros | ...
//!              offset     + stored[0], rounded up
//!
//! a tensor           row after row, or 16 rows interleaved: see `layout_of`; `tensor::interleave` draws the bytes
//! xxh3 of a tensor   XXH3-64 of its bytes as they lie here
//! xxh3 of a record   XXH3-64 of the parts' XXH3-64s, 8 bytes each, little-endian, in record order: parts can be
//!                    hashed as they arrive, and one read of the record is enough to check it. A coded record counts as
//!                    one part, hashed as it is stored: what comes off the drive is checked before it is decoded, and
//!                    the decoder meets only what the importer wrote and has decoded once already
//! ```
//!
//! Every expert of a layer has the same parts, so the table says once per layer what a record looks like; record
//! `(layer, expert)` lies at `offset + expert * stride`, a coded one behind those before it. Routed experts alone are
//! coded: they are what is read again and again. The importer decides by measuring, see `import::decide`.
//!
//! | version | since then |
//! | --- | --- |
//! | 1 | |
//! | 2 | tensors may be interleaved |
//! | 3 | records may be coded: `coding` of a part, `stored` of a layer |
//!
//! All of them open.
//!
//! Start reading at [`Manifest`], then [`Pack`].

mod check;
mod coding;
mod decode;
mod layout;
mod manifest;
mod open;
mod verify;

pub use check::Problem;
pub use coding::Coding;
pub use decode::{decode_record, encode_record};
pub use manifest::{
    Dense, DenseTensor, Experts, Hash, Manifest, PAGE_BYTES, PART_ALIGN, RecordLayer, RecordPart, SideFile,
};
pub use open::Pack;
pub use tensor::Layout;
pub use verify::Finding;

pub(crate) use coding::{Decoder, Encoder};
pub(crate) use layout::{group_bytes, layout_of};
pub(crate) use manifest::{
    CHAT_TEMPLATE, DENSE, EXPERTS, FORMAT, GGUF_TOKENIZER, LICENCE, MANIFEST, SIDE_FILES, VERSION,
};
pub(crate) use open::{EXPERTS_FILE, decoded, open};
