//! An opened model: tensors mapped, ready for a layer loop.

use std::path::Path;

use memmap2::Mmap;
use tensor::BlockScale;

use crate::catalogue::Entry;
use crate::generation::Generation;
use crate::source::Source;
use crate::{Error, Hyperparameters, Provenance, Tensor, TokenizerFiles, mapped, pack};

/// Opens a pack folder, a GGUF file (any part of a split one) or a Hugging Face folder.
///
/// Headers are read and checked, tensor data is mapped and touched only when used; routed experts that a pack stores coded
/// are decoded into memory. Tensors that the architecture asks
/// for are known to be there in the right shape afterwards.
///
/// # Errors
/// Whatever is wrong with the files, naming the file and the place.
pub fn open(path: &Path) -> Result<Weights, Error> {
    let source = Source::open(path)?;
    let mut maps = source.files.iter().map(mapped::map).collect::<Result<Vec<_>, _>>()?;
    let shrunk = source.files.iter().zip(&maps).find(|(file, map)| (map.len() as u64) < file.bytes);
    if let Some((file, _)) = shrunk {
        return Err(Error::SourceChanged { path: file.path.clone() });
    }
    if let Some(decoded) = pack::decoded(&source, &maps)? {
        maps.push(decoded);
    }
    Ok(Weights { source, maps })
}

/// One opened model.
#[derive(Debug)]
pub struct Weights {
    source: Source,
    /// One per file of the source, and one of what was decoded.
    maps: Vec<Mmap>,
}

/// A tensor's place in [`Weights`]: looking it up costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorIndex(usize);

impl Weights {
    /// The model's shape.
    pub fn hyper(&self) -> &Hyperparameters {
        &self.source.hyper
    }

    /// Where the model was opened.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// The tensor called `name` (GGUF's names).
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.source.catalogue.find(name).map(|i| self.at(TensorIndex(i)))
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// There is none; the error names the file and the tensor.
    pub fn require(&self, name: &str) -> Result<Tensor<'_>, Error> {
        self.index(name).map(|index| self.at(index))
    }

    /// The place of the tensor called `name`, for [`at`](Self::at).
    ///
    /// # Errors
    /// There is none; the error names the file and the tensor.
    pub fn index(&self, name: &str) -> Result<TensorIndex, Error> {
        let missing = || Error::MissingTensor { path: self.source.path.clone(), tensor: name.into() };
        self.source.catalogue.find(name).map(TensorIndex).ok_or_else(missing)
    }

    /// The tensor at `index`.
    ///
    /// # Panics
    /// The index is of another model: a programmer's error.
    pub fn at(&self, index: TensorIndex) -> Tensor<'_> {
        let entry = &self.source.catalogue.entries()[index.0];
        let scale = entry.scale.map(|scale| &self.source.catalogue.entries()[scale]);
        Tensor {
            name: &entry.name,
            published: &entry.published,
            dtype: entry.dtype,
            shape: &entry.shape,
            layout: entry.layout,
            data: self.bytes_of(entry),
            scale: scale.map(|scale| BlockScale {
                rows: scale.shape[0],
                cols: scale.shape[1],
                data: self.bytes_of(scale),
            }),
        }
    }

    fn bytes_of(&self, entry: &Entry) -> &[u8] {
        let start = entry.offset as usize;
        &self.maps[entry.file][start..start + entry.bytes as usize]
    }

    /// All tensors, FP8 scales among them, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        (0..self.source.catalogue.entries().len()).map(|i| self.at(TensorIndex(i)))
    }

    /// What to build the tokenizer from; `None` where the model brings nothing.
    pub fn tokenizer(&self) -> Option<&TokenizerFiles> {
        self.source.tokenizer.as_ref()
    }

    /// The chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.source.chat_template.as_deref()
    }

    /// Published defaults of generation.
    pub fn generation(&self) -> &Generation {
        &self.source.generation
    }

    /// Where the model came from.
    pub fn source(&self) -> &Provenance {
        &self.source.provenance
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.source.catalogue.entries().iter().map(|entry| entry.bytes).sum()
    }
}
