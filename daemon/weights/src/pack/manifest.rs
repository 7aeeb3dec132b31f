//! `pack.json`.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tensor::{DType, Layout};
use xxhash_rust::xxh3::xxh3_64;

use super::coding::Coding;
use crate::generation::Generation;
use crate::hf::{TOKENIZER, TOKENIZER_CONFIG};
use crate::{Hyperparameters, Provenance};

pub(crate) const MANIFEST: &str = "pack.json";
pub(crate) const DENSE: &str = "dense.bin";
pub(crate) const EXPERTS: &str = "experts.bin";
pub(crate) const GGUF_TOKENIZER: &str = "tokenizer.gguf";
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";
pub(crate) const LICENCE: &str = "LICENSE";
/// The names a pack's small files may have.
pub(crate) const SIDE_FILES: [&str; 5] =
    [TOKENIZER, TOKENIZER_CONFIG, GGUF_TOKENIZER, CHAT_TEMPLATE, LICENCE];

/// `format` of every manifest.
pub(crate) const FORMAT: &str = "wels-pack";
/// The version written.
pub(crate) const VERSION: u32 = 3;
/// The oldest version read: every tensor lies row after row.
pub(crate) const VERSION_OF_ROWS: u32 = 1;
/// The first version whose records may be coded.
pub(crate) const VERSION_OF_CODINGS: u32 = 3;
/// Dense tensors and records start on multiples of this.
pub const PAGE_BYTES: u64 = 4096;
/// Parts of a record start on multiples of this.
pub const PART_ALIGN: u64 = 64;

/// Everything `pack.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `wels-pack`.
    pub format: String,
    /// Of the format.
    pub version: u32,
    /// The model's shape.
    pub hyperparameters: Hyperparameters,
    /// Published defaults of generation.
    pub generation: Generation,
    /// The files it was made from.
    pub provenance: Provenance,
    /// `dense.bin`.
    pub dense: Dense,
    /// `experts.bin`.
    pub experts: Option<Experts>,
    /// The small files.
    pub files: Vec<SideFile>,
}

/// What `dense.bin` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    /// Size of the file.
    pub bytes: u64,
    /// In file order.
    pub tensors: Vec<DenseTensor>,
}

/// A tensor in `dense.bin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseTensor {
    /// GGUF's name.
    pub name: String,
    /// The name in the source file.
    pub published: String,
    /// How the values are stored.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Order of the bytes.
    pub layout: Layout,
    /// From the start of the file.
    pub offset: u64,
    /// Size.
    pub bytes: u64,
    /// Of the bytes.
    pub xxh3: Hash,
}

/// What `experts.bin` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experts {
    /// Size of the file.
    pub bytes: u64,
    /// In file order.
    pub layers: Vec<RecordLayer>,
}

/// The records of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordLayer {
    /// Layer, from 0.
    pub layer: u32,
    /// Of expert 0's record, from the start of the file.
    pub offset: u64,
    /// Of a record in memory, in whole pages; where no part is coded also from one record to the next in the file.
    pub stride: u64,
    /// Of a record in memory, without the zeros behind it.
    pub record_bytes: u64,
    /// In record order.
    pub parts: Vec<RecordPart>,
    /// Of every record as it is stored, by expert, without the zeros behind it; empty where no part is coded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<u64>,
    /// Of every record as it is stored, by expert.
    pub xxh3: Vec<Hash>,
}

/// A part of every record of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordPart {
    /// GGUF's name, `*` for the expert: `blk.3.ffn_gate.*.weight`.
    pub name: String,
    /// The name in the source file, `*` for the expert where it occurs.
    pub published: String,
    /// How the values are stored.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Order of the bytes.
    pub layout: Layout,
    /// How the bytes are stored.
    #[serde(default)]
    pub coding: Coding,
    /// From the start of the record in memory.
    pub offset: u64,
    /// Size in memory.
    pub bytes: u64,
}

impl Experts {
    /// Layers whose records are coded.
    pub fn coded_layers(&self) -> impl Iterator<Item = &RecordLayer> {
        self.layers.iter().filter(|layer| layer.is_coded())
    }

    /// Memory that the records of those layers take: [`stride`](RecordLayer::stride) bytes each.
    pub fn decoded_bytes(&self) -> u64 {
        let layers = self.coded_layers().map(|layer| layer.stride.saturating_mul(layer.xxh3.len() as u64));
        layers.fold(0, u64::saturating_add)
    }
}

impl RecordLayer {
    /// Whether records have to be decoded.
    pub fn is_coded(&self) -> bool {
        self.parts.iter().any(|part| part.coding != Coding::Raw)
    }

    /// Where expert `expert`'s record starts in the file. Records that are coded are counted off, one by one.
    ///
    /// # Panics
    /// There is no such expert: a programmer's error.
    pub fn record_offset(&self, expert: u32) -> u64 {
        if self.stored.is_empty() {
            return self.offset + u64::from(expert) * self.stride;
        }
        let before = self.stored[..expert as usize].iter();
        self.offset + before.map(|bytes| bytes.next_multiple_of(PAGE_BYTES)).sum::<u64>()
    }

    /// Bytes of expert `expert`'s record as it is stored, without the zeros behind it.
    ///
    /// # Panics
    /// There is no such expert: a programmer's error.
    pub fn stored_bytes(&self, expert: u32) -> u64 {
        if self.stored.is_empty() { self.record_bytes } else { self.stored[expert as usize] }
    }

    /// Whose hashes the hash of expert `expert`'s record is made of, from the start of the record as it is stored: its
    /// parts, or all of a coded record.
    ///
    /// # Panics
    /// There is no such expert: a programmer's error.
    pub fn hashed(&self, expert: u32) -> Vec<Range<u64>> {
        if self.is_coded() {
            let whole = 0..self.stored_bytes(expert);
            return vec![whole];
        }
        self.parts.iter().map(|part| part.offset..part.offset + part.bytes).collect()
    }
}

/// A small file beside the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideFile {
    /// Its name.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Of the bytes.
    pub xxh3: Hash,
}

/// XXH3-64, in JSON as 16 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(pub u64);

impl Hash {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_64(bytes))
    }

    /// Of a record, from its parts'.
    pub fn of_parts(parts: &[Hash]) -> Self {
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.0.to_le_bytes()).collect();
        Self::of(&joined)
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match u64::from_str_radix(&text, 16) {
            Ok(hash) if text.len() == 16 => Ok(Self(hash)),
            _ => Err(format!("{text:?} is not a hash of 16 hex digits")),
        }
    }
}
