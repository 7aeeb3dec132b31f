//! A model whose files have been read and checked, but not yet mapped or copied.

use std::path::{Path, PathBuf};

use crate::catalogue::{Catalogue, Conflict};
use crate::files::DataFile;
use crate::generation::Generation;
use crate::{Error, Hyperparameters, Provenance, TokenizerFiles, gguf, hf, pack, requirements};

/// Everything known about a model from the headers of its files.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) hyper: Hyperparameters,
    pub(crate) generation: Generation,
    pub(crate) tokenizer: Option<TokenizerFiles>,
    pub(crate) chat_template: Option<String>,
    /// The licence's text, where the source has it as a file.
    pub(crate) licence_text: Option<Vec<u8>>,
    pub(crate) catalogue: Catalogue,
    pub(crate) files: Vec<DataFile>,
    pub(crate) provenance: Provenance,
    /// A pack's table of records.
    pub(crate) records: Option<pack::Experts>,
}

impl Source {
    /// Opens a pack folder, a GGUF file or a Hugging Face folder.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let not_a_model = |found| Err(Error::NotAModel { path: path.into(), found });
        match std::fs::metadata(path) {
            Err(cause) => Err(Error::Io { path: path.into(), doing: "open", cause }),
            Ok(meta) if meta.is_file() && path.extension().is_some_and(|end| end == "safetensors") => {
                not_a_model("one safetensors file of a model; the folder it is in is wanted")
            }
            Ok(meta) if meta.is_file() => gguf::open(path),
            Ok(meta) if !meta.is_dir() => not_a_model("neither a file nor a folder"),
            Ok(_) if pack::Pack::is_at(path) => pack::open(path),
            Ok(_) if path.join(hf::CONFIG).exists() => hf::open(path),
            Ok(_) => not_a_model("a folder without pack.json or config.json"),
        }
    }

    /// Checks that the tensors are those the hyperparameters ask for, in the right shapes.
    pub(crate) fn check(&self) -> Result<(), Error> {
        requirements::check(&self.hyper, &self.catalogue, &self.path)
    }
}

/// For `map_err`: names the file that a tensor came from.
pub(crate) fn conflict(path: &Path) -> impl FnOnce(Conflict) -> Error {
    let path = path.to_path_buf();
    move |conflict| match conflict {
        Conflict::Duplicate { tensor } => Error::DuplicateTensor { path, tensor },
        Conflict::Scale { tensor, got, .. } if got.is_empty() => Error::MissingTensor { path, tensor },
        Conflict::Scale { tensor, got, want } => Error::TensorShape { path, tensor, got, want },
        Conflict::ScaleType { tensor, dtype } => {
            Error::UnsupportedDtype { path, tensor, dtype: dtype.name().into() }
        }
        Conflict::TooMany { tensor } => Error::TooManyTensors { path, tensor },
        Conflict::Experts { tensor, got } => {
            Error::TensorShape { path, tensor, got: vec![got], want: Vec::new() }
        }
    }
}
