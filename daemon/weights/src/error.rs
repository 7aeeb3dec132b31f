//! What can go wrong with model files: always the file, the place in it, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::{gguf, pack, safetensors};

/// A model that can't be opened, or an import that can't be finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {doing}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: "open", "read".
        doing: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// The system gives no memory.
    #[error("no memory of {bytes} bytes for the model: {cause}")]
    Memory {
        /// Bytes wanted.
        bytes: u64,
        /// The system's reason.
        cause: io::Error,
    },
    /// The path leads to nothing this crate reads.
    #[error(
        "{}: {found}; give a pack folder (with pack.json), a .gguf file, or a Hugging Face folder (with config.json \
         and model.safetensors or model.safetensors.index.json)",
        path.display()
    )]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// A broken or unsupported GGUF file.
    #[error("{}: {problem}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: gguf::Problem,
    },
    /// A broken or unsupported safetensors file.
    #[error("{}: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: safetensors::Problem,
    },
    /// A broken or unsupported pack.
    #[error("{}: {problem}", path.display())]
    Pack {
        /// The pack's manifest.
        path: PathBuf,
        /// What is wrong with it.
        problem: pack::Problem,
    },
    /// A JSON file that doesn't say what it should.
    #[error("{}: {cause}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        cause: serde_json::Error,
    },
    /// A file larger than any real one of its kind.
    #[error("{}: {bytes} bytes, but such a file has at most {limit}", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A hyperparameter or tokenizer field that is missing, ill-typed, out of range or unsupported.
    #[error("{}: {field}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        field: BadField,
    },
    /// A part of a model in several files is not there.
    #[error("{}: not found, but {} names it; copy all parts of the model into one folder", path.display(), named_by.display())]
    MissingPart {
        /// The file that should be there.
        path: PathBuf,
        /// The file that says so.
        named_by: PathBuf,
    },
    /// A tensor that the architecture needs is not in the files.
    #[error("{}: tensor {tensor} is missing; the files are incomplete or of another architecture", path.display())]
    MissingTensor {
        /// The model's path.
        path: PathBuf,
        /// Canonical name.
        tensor: String,
    },
    /// The same tensor twice.
    #[error("{}: tensor {tensor} occurs more than once", path.display())]
    DuplicateTensor {
        /// The file with the second one.
        path: PathBuf,
        /// Canonical name.
        tensor: String,
    },
    /// More tensors than any real model has.
    #[error("{}: more than 1048576 tensors, counting from {tensor}; the file is damaged or not a model", path.display())]
    TooManyTensors {
        /// The file.
        path: PathBuf,
        /// The first one too many.
        tensor: String,
    },
    /// A tensor's shape is not the one that follows from the hyperparameters.
    #[error("{}: tensor {tensor} has shape {got:?}, the hyperparameters ask for {want:?}", path.display())]
    TensorShape {
        /// The model's path.
        path: PathBuf,
        /// Name in the file.
        tensor: String,
        /// Shape in the file, outermost dimension first.
        got: Vec<usize>,
        /// Shape that was expected.
        want: Vec<usize>,
    },
    /// A tensor that the architecture doesn't have: leaving it out would give wrong answers.
    #[error(
        "{}: tensor {tensor} is not part of the architecture as this program knows it; without it the answers would be wrong",
        path.display()
    )]
    UnmappedTensor {
        /// The file.
        path: PathBuf,
        /// Name in the file.
        tensor: String,
    },
    /// A data type that no kernel decodes, or that is not allowed here.
    #[error("{}: tensor {tensor} has data type {dtype}, which is not supported here", path.display())]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// Name in the file.
        tensor: String,
        /// The type's published name.
        dtype: String,
    },
    /// `matrix()` of a tensor that is none.
    #[error("tensor {tensor} has shape {shape:?}: not a matrix")]
    NotAMatrix {
        /// Canonical name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The importer's target exists.
    #[error("{}: exists already; remove it, choose another name, or ask to replace it", path.display())]
    DestinationExists {
        /// The target.
        path: PathBuf,
    },
    /// The importer's target exists and is no pack: nothing that isn't ours is replaced.
    #[error("{}: exists and is not a pack, so it is not replaced; choose another name", path.display())]
    NotReplaceable {
        /// The target.
        path: PathBuf,
    },
    /// The importer's source is a pack.
    #[error("{}: is a pack already; copy the folder to bring it elsewhere", path.display())]
    AlreadyAPack {
        /// The source.
        path: PathBuf,
    },
    /// Another import writes the same target.
    #[error("{}: another import is writing here; wait for it to finish", path.display())]
    Busy {
        /// The working folder.
        path: PathBuf,
    },
    /// The disk can't hold the pack.
    #[error("{}: the pack needs {need} more bytes, the disk has {free} free; make room and start again", path.display())]
    NoSpace {
        /// The working folder.
        path: PathBuf,
        /// Bytes still to be written.
        need: u64,
        /// Bytes available.
        free: u64,
    },
    /// The disk filled up, or a file size limit was hit, while importing. The working folder was removed.
    #[error("{}: the disk is full ({cause}); the half-written pack was removed; make room and start again", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// A source file changed while it was opened or imported.
    #[error("{}: changed while it was being read; start again when nothing writes to it", path.display())]
    SourceChanged {
        /// The source file.
        path: PathBuf,
    },
}

impl Error {
    /// For `map_err` on system calls: `Error::io(path, "open")`.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |cause| Error::Io { path: path.into(), doing, cause }
    }
}

/// A field of a model's description that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadField {
    /// The published key.
    pub key: String,
    /// What is wrong with it.
    pub problem: ValueProblem,
}

impl BadField {
    pub(crate) fn new(key: impl Into<String>, problem: ValueProblem) -> Self {
        Self { key: key.into(), problem }
    }

    pub(crate) fn range(key: impl Into<String>, got: impl ToString, want: &'static str) -> Self {
        Self::new(key, ValueProblem::Range { got: got.to_string(), want })
    }

    pub(crate) fn unsupported(key: impl Into<String>, got: impl ToString, supported: &'static str) -> Self {
        Self::new(key, ValueProblem::Unsupported { got: got.to_string(), supported })
    }

    pub(crate) fn missing(key: impl Into<String>) -> Self {
        Self::new(key, ValueProblem::Missing)
    }

    /// For `map_err`: names the file.
    pub(crate) fn of(path: &Path) -> impl FnOnce(BadField) -> Error {
        move |field| Error::Field { path: path.into(), field }
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// It isn't there.
    #[error("missing")]
    Missing,
    /// It has another type.
    #[error("not {want}")]
    Type {
        /// What it should be: "an unsigned integer".
        want: &'static str,
    },
    /// Its value makes no sense.
    #[error("{got}, but it must be {want}")]
    Range {
        /// The value.
        got: String,
        /// The rule it breaks.
        want: &'static str,
    },
    /// It asks for something that is not implemented.
    #[error("{got} is not supported; supported: {supported}")]
    Unsupported {
        /// The value.
        got: String,
        /// What would be.
        supported: &'static str,
    },
    /// It describes sparse attention, which is not implemented: attending to everything instead would answer differently
    /// from what was trained.
    #[error(
        "{got}: a model with DeepSeek sparse attention, whose \"lightning indexer\" chooses the tokens each token attends \
         to; this version does not run it. Supported are DeepSeek V2, V3, V3.1 and R1, Kimi K2, Llama, Qwen2 and the \
         R1 distills"
    )]
    SparseAttention {
        /// The value.
        got: String,
    },
}
