//! Where a model came from.

use serde::{Deserialize, Serialize};

use crate::files::DataFile;

/// The files behind a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Their format.
    pub kind: SourceKind,
    /// Name of the licence, where the files give it.
    pub licence: Option<String>,
    /// Files with tensors first, then the small ones.
    pub files: Vec<SourceFile>,
}

/// Format of the published files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// llama.cpp's format.
    Gguf,
    /// A Hugging Face folder.
    Safetensors,
}

/// One published file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Name without folder.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in hex: known for what was imported, not for what is opened in place.
    pub sha256: Option<String>,
}

impl Provenance {
    pub(crate) fn of(kind: SourceKind, files: &[DataFile]) -> Self {
        let files =
            files.iter().map(|f| SourceFile { name: f.name(), bytes: f.bytes, sha256: None }).collect();
        Self { kind, licence: None, files }
    }
}
