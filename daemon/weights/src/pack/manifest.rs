//! `pack.json`.

use serde::{Deserialize, Serialize};
use tensor::{DType, Layout};
use xxhash_rust::xxh3::xxh3_64;

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
pub(crate) const VERSION: u32 = 2;
/// The oldest version read: every tensor lies row after row.
pub(crate) const VERSION_OF_ROWS: u32 = 1;
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
    /// From one record to the next.
    pub stride: u64,
    /// Of a record, without the zeros behind it.
    pub record_bytes: u64,
    /// In record order.
    pub parts: Vec<RecordPart>,
    /// Of every record, by expert.
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
    /// From the start of the record.
    pub offset: u64,
    /// Size.
    pub bytes: u64,
}

impl RecordLayer {
    /// Where expert `expert`'s record starts.
    pub fn record_offset(&self, expert: u32) -> u64 {
        self.offset + u64::from(expert) * self.stride
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
