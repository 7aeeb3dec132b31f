//! The manifest: what a bundle installs, chunk by chunk. Its exact bytes are what a release key signs.
//!
//! ```text
//! { "format": 1, "kind": "model", "name": "r1-distill-7b", "title": "R1 distill 7B", "version": 3,
//!   "created": "2026-11-26", "requires": { "memory_bytes": 6442450944 },
//!   "files": [ { "path": "dense.bin", "bytes": 20971520, "sha256": "…",
//!                "chunks": [ { "bytes": 8388608, "sha256": "…" },                                    as it is
//!                            { "bytes": 8388608, "sha256": "…",
//!                              "stored": { "coding": "zstd", "bytes": 7340032, "sha256": "…" } },    compressed
//!                            { "bytes": 4194304, "sha256": "…",
//!                              "stored": { "coding": "patch", "bytes": 4096, "sha256": "…" } } ],    against the base
//!                "base": { "bytes": 20971520, "sha256": "…" } } ] }
//! ```
//!
//! A chunk is known by the hash of its plain bytes: chunks with one hash are one *blob*, carried once however often they
//! occur. What is stored is hashed too, so that nothing unsigned ever reaches a decoder. Blobs are numbered in the order of
//! their first chunk.
//!
//! Everything is checked before a [`Manifest`] exists: names, limits, sums. So later code adds sizes without fear.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::Sha256;
use crate::plain_path::{self, PathProblem};

/// The version of the format that this code reads and writes.
pub const FORMAT: u32 = 1;
/// A manifest's bytes: enough for 2 TiB in chunks of 8 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// A chunk's bytes, plain or stored: what one read may bring into memory.
pub const CHUNK_BYTES_MAX: u32 = 8 << 20;
/// Files of a bundle.
pub const FILES_MAX: usize = 4096;
/// Chunks of all files together.
pub const CHUNKS_MAX: usize = 1 << 18;
/// A file that others are patched from is held in memory.
pub const BASE_BYTES_MAX: u64 = 1 << 30;
/// Characters of a title.
const TITLE_CHARS_MAX: usize = 120;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 64;
/// Characters of a date.
const CREATED_CHARS_MAX: usize = 40;

/// What a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A pack that the daemon serves.
    Model,
    /// A version of the box's system: root image, verity hashes, kernel image.
    System,
}

/// What a machine needs. Shown in the preview; memory is checked where the model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Memory that it wants at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The oldest system that can use it, by its counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_version: Option<u64>,
}

/// How a chunk's bytes are stored where that is shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// One zstd frame.
    Zstd,
    /// One zstd frame that refers to the whole base file as its prefix (`zstd --patch-from`).
    Patch,
}

/// A chunk's bytes as the bundle carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// How.
    pub coding: Coding,
    /// How many.
    pub bytes: u32,
    /// Their hash, checked before they are decoded.
    pub sha256: Sha256,
}

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Plain bytes.
    pub bytes: u32,
    /// Their hash: the chunk's name.
    pub sha256: Sha256,
    /// Where it isn't stored as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
}

impl Chunk {
    /// Bytes that the bundle carries for it.
    pub fn stored_bytes(&self) -> u32 {
        self.stored.map_or(self.bytes, |stored| stored.bytes)
    }

    /// The hash of those bytes.
    pub fn stored_sha256(&self) -> Sha256 {
        self.stored.map_or(self.sha256, |stored| stored.sha256)
    }

    /// Whether it is decoded with the help of the base file.
    pub fn is_patch(&self) -> bool {
        self.stored.is_some_and(|stored| stored.coding == Coding::Patch)
    }
}

/// A whole file by size and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Sha256,
}

/// A file of the pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it goes, below the pack: `dense.bin`, or one folder down.
    pub path: String,
    /// Its size: the sum of its chunks.
    pub bytes: u64,
    /// The hash of all of it.
    pub sha256: Sha256,
    /// Its bytes in order.
    pub chunks: Vec<Chunk>,
    /// The file that its patches refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

/// What a bundle installs, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// What it is for.
    pub kind: Kind,
    /// What it is called: versions of one name replace each other.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// A counter that only goes up: an older version is refused unless an administrator wants it.
    pub version: u64,
    /// When it was made, as its maker says: shown, never trusted.
    #[serde(default)]
    pub created: String,
    /// What a machine needs.
    #[serde(default)]
    pub requires: Requires,
    /// The files, in the order they are copied.
    pub files: Vec<FileEntry>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Longer than any real one.
    #[error("the manifest has {bytes} bytes, the limit is {MANIFEST_BYTES_MAX}")]
    TooLarge {
        /// Bytes.
        bytes: u64,
    },
    /// Not what the format asks for.
    #[error("the manifest is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// A newer format.
    #[error("the bundle has format {format}, this version reads {FORMAT}; update the box's system first")]
    Format {
        /// Its format.
        format: u32,
    },
    /// A name, title or date that can't be shown or stored.
    #[error("the manifest's {field} is not allowed: {value:?}")]
    Text {
        /// Which.
        field: &'static str,
        /// What it says, cut short.
        value: String,
    },
    /// More than any real bundle has.
    #[error("the manifest has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many may be.
        limit: usize,
    },
    /// A file that would land where it must not.
    #[error("the manifest names a file {path:?}: {problem}")]
    Path {
        /// Its path, cut short.
        path: String,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// Sizes that contradict each other or exceed a limit.
    #[error("the manifest's sizes are wrong: {path}: {what}")]
    Size {
        /// The file.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// `{"format": 1}` of any format, to tell a newer one from a broken one.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`Problem`]: whatever is wrong; nothing larger than the bytes themselves is allocated to find out.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(Problem::TooLarge { bytes: bytes.len() as u64 });
        }
        let FormatOnly { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(Problem::Format { format });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// As it is written and signed.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// Sizes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The chunks of all files in order, each with its file's number and its offset in it.
    pub fn chunks(&self) -> impl Iterator<Item = Place<'_>> {
        self.files.iter().enumerate().flat_map(|(file, entry)| {
            let mut end = 0;
            entry.chunks.iter().map(move |chunk| {
                let offset = end;
                end += u64::from(chunk.bytes);
                Place { file, offset, chunk }
            })
        })
    }

    /// The first chunk of every blob, in order of their numbers.
    pub fn blobs(&self) -> Vec<Place<'_>> {
        let mut seen = HashSet::new();
        self.chunks().filter(|place| seen.insert(place.chunk.sha256)).collect()
    }

    fn check(&self) -> Result<(), Problem> {
        check_name(&self.name)?;
        check_text("title", &self.title, TITLE_CHARS_MAX)?;
        check_text("created", &self.created, CREATED_CHARS_MAX)?;
        if self.title.trim().is_empty() {
            return Err(Problem::Text { field: "title", value: String::new() });
        }
        if self.version == 0 {
            return Err(Problem::Text { field: "version", value: "0".into() });
        }
        if self.files.is_empty() {
            return Err(Problem::Text { field: "list of files", value: String::new() });
        }
        if self.files.len() > FILES_MAX {
            return Err(Problem::TooMany { what: "files", limit: FILES_MAX });
        }
        let n_chunks: usize = self.files.iter().map(|file| file.chunks.len()).sum();
        if n_chunks > CHUNKS_MAX {
            return Err(Problem::TooMany { what: "chunks", limit: CHUNKS_MAX });
        }
        let paths = self.files.iter().map(|file| file.path.as_str());
        plain_path::check(paths).map_err(|(path, problem)| Problem::Path { path: cut(path), problem })?;
        self.files.iter().try_for_each(FileEntry::check)?;
        self.check_blobs()
    }

    /// Chunks with one hash are one blob, so they must be stored alike; and a patch needs its file's base.
    fn check_blobs(&self) -> Result<(), Problem> {
        let mut blobs: HashMap<Sha256, (&Chunk, Option<Base>)> = HashMap::new();
        for Place { file, chunk, .. } in self.chunks() {
            let base = self.files[file].base.filter(|_| chunk.is_patch());
            let (first, first_base) = blobs.entry(chunk.sha256).or_insert((chunk, base));
            if *first != chunk || *first_base != base {
                let path = self.files[file].path.clone();
                return Err(Problem::Size { path, what: "one chunk is described in two ways" });
            }
        }
        Ok(())
    }
}

impl FileEntry {
    fn check(&self) -> Result<(), Problem> {
        let wrong = |what| Err(Problem::Size { path: self.path.clone(), what });
        if self.base.is_some_and(|base| base.bytes > BASE_BYTES_MAX) {
            return wrong("the base file is too large to be patched from");
        }
        for chunk in &self.chunks {
            if chunk.bytes == 0 || chunk.bytes > CHUNK_BYTES_MAX {
                return wrong("a chunk is empty or too large");
            }
            if chunk.stored.is_some_and(|stored| stored.bytes == 0 || stored.bytes >= chunk.bytes) {
                return wrong("a chunk is stored in more bytes than it has, or in none");
            }
            if chunk.is_patch() && self.base.is_none() {
                return wrong("a chunk is a patch, but of no file");
            }
        }
        // At most 2^18 chunks of 2^23 bytes: no overflow.
        let sum: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        if sum != self.bytes { wrong("its chunks don't add up to it") } else { Ok(()) }
    }
}

/// A chunk and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Number of the file.
    pub file: usize,
    /// Where in it.
    pub offset: u64,
    /// What.
    pub chunk: &'a Chunk,
}

/// Lower-case letters, digits, dots and hyphens: a folder's name on any file system, and no path.
pub(crate) fn check_name(name: &str) -> Result<(), Problem> {
    let is_allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.len() <= NAME_CHARS_MAX && name.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(Problem::Text { field: "name", value: cut(name) })
}

/// Text that people are shown: nothing that moves the cursor or turns the line around.
fn check_text(field: &'static str, text: &str, chars_max: usize) -> Result<(), Problem> {
    let is_format = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let is_allowed = text.chars().all(|c| !c.is_control() && !is_format(c));
    if is_allowed && text.chars().count() <= chars_max {
        return Ok(());
    }
    Err(Problem::Text { field, value: cut(text) })
}

/// What of a stranger's text goes into an error.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
