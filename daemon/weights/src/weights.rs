//! An opened model: tensors mapped, ready for a layer loop.

use std::path::Path;

use memmap2::Mmap;
use tensor::BlockScale;

use crate::catalogue::Entry;
use crate::expert::ExpertKey;
use crate::generation::Generation;
use crate::resident::Resident;
use crate::source::Source;
use crate::{Error, Hyperparameters, Progress, Provenance, Tensor, TokenizerFiles, mapped, pack};

/// Opens a pack folder, a GGUF file (any part of a split one) or a Hugging Face folder, mapped: [`open_headers`], then
/// [`Weights::mapped`].
///
/// # Errors
/// Whatever is wrong with the files, naming the file and the place.
pub fn open(path: &Path) -> Result<Weights, Error> {
    open_headers(path)?.mapped()
}

/// Opens a model whose routed experts are read by somebody else: [`open_headers`], then [`Weights::resident`].
///
/// # Errors
/// As [`open`]; a file can't be read; memory lacks.
pub fn open_resident(path: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Weights, Error> {
    open_headers(path)?.resident(progress)
}

/// Reads and checks a model's headers alone: tensors have no bytes yet. Those that the architecture asks for are known to be
/// there in the right shape afterwards.
///
/// # Errors
/// As [`open`].
pub fn open_headers(path: &Path) -> Result<Weights, Error> {
    Ok(Weights { source: Source::open(path)?, home: Home::Nowhere })
}

/// One opened model.
#[derive(Debug)]
pub struct Weights {
    source: Source,
    home: Home,
}

/// Where the bytes are.
#[derive(Debug)]
enum Home {
    /// Headers alone were read.
    Nowhere,
    /// In maps, one per file of the source, and one of what was decoded.
    Mapped(Vec<Mmap>),
    /// In memory, all but routed experts.
    Resident(Resident),
    /// In maps, all but routed experts.
    Dense(Vec<Mmap>),
}

/// What is brought in at a time.
const PIECE_BYTES: usize = 64 << 20;

/// A tensor's place in [`Weights`]: looking it up costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorIndex(usize);

impl Weights {
    /// The model with all tensors mapped and touched only when used; routed experts that a pack stores coded are decoded into
    /// memory.
    ///
    /// # Errors
    /// A file can't be mapped or has shrunk; coded experts are broken, or memory for them lacks.
    pub fn mapped(self) -> Result<Self, Error> {
        let source = self.source;
        let mut maps = map_all(&source)?;
        if let Some(decoded) = pack::decoded(&source, &maps)? {
            maps.push(decoded);
        }
        Ok(Self { source, home: Home::Mapped(maps) })
    }

    /// The model with all tensors read into memory but those of routed experts, which have no bytes: they are read by somebody
    /// else, from where [`record`](Self::record) says.
    ///
    /// # Errors
    /// A file can't be read; memory lacks.
    pub fn resident(self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Self, Error> {
        let home = Home::Resident(Resident::load(&self.source, progress)?);
        Ok(Self { source: self.source, home })
    }

    /// The same with maps instead of memory: where most tensors are needed once, to be written to a graphics card.
    ///
    /// # Errors
    /// A file can't be mapped or has shrunk.
    pub fn dense_mapped(self) -> Result<Self, Error> {
        let maps = map_all(&self.source)?;
        Ok(Self { source: self.source, home: Home::Dense(maps) })
    }

    /// Brings the `piece`-th 64 MiB into memory where all tensors are mapped, in the order of the files, which is mostly that
    /// of the layers: the first prompt would otherwise stop at each page. False where there are no more.
    pub fn bring_in(&self, piece: usize) -> bool {
        let Home::Mapped(maps) = &self.home else { return false };
        let mut first = 0;
        for map in maps {
            let n_pieces = map.len().div_ceil(PIECE_BYTES);
            if piece < first + n_pieces {
                let start = (piece - first) * PIECE_BYTES;
                return mapped::bring_in(map, start, PIECE_BYTES.min(map.len() - start));
            }
            first += n_pieces;
        }
        false
    }

    /// Lets memory go that holds the tensor called `name` where it is mapped: it is read from the file again when it is wanted.
    pub fn let_go(&self, name: &str) {
        let (Home::Mapped(maps) | Home::Dense(maps)) = &self.home else { return };
        let Some(idx) = self.source.catalogue.find(name) else { return };
        let entry = self.entry(TensorIndex(idx));
        // What was decoded lies in memory that no file stands behind.
        let Some(file) = self.source.files.get(entry.file) else { return };
        mapped::let_go(&maps[entry.file], entry.offset as usize, entry.bytes as usize);
        file.let_go(entry.offset, entry.bytes as usize);
    }

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
        let scale = self.scale_of(index).map(|scale| self.bytes_at(scale));
        self.tensor_in(index, self.bytes_at(index), scale)
    }

    /// The tensor at `index`, with these bytes.
    pub(crate) fn tensor_in<'a>(
        &'a self,
        index: TensorIndex,
        data: &'a [u8],
        scale: Option<&'a [u8]>,
    ) -> Tensor<'a> {
        let entry = self.entry(index);
        let shape_of_scale = self.scale_of(index).map(|scale| self.entry(scale).shape.as_slice());
        Tensor {
            name: &entry.name,
            published: &entry.published,
            dtype: entry.dtype,
            shape: &entry.shape,
            layout: entry.layout,
            data,
            scale: shape_of_scale.zip(scale).map(|(shape, data)| BlockScale {
                rows: shape[0],
                cols: shape[1],
                data,
            }),
        }
    }

    /// The tensor with the block scales of the one at `index`.
    pub(crate) fn scale_of(&self, index: TensorIndex) -> Option<TensorIndex> {
        self.entry(index).scale.map(TensorIndex)
    }

    pub(crate) fn entry(&self, index: TensorIndex) -> &Entry {
        &self.source.catalogue.entries()[index.0]
    }

    fn bytes_at(&self, index: TensorIndex) -> &[u8] {
        let entry = self.entry(index);
        let start = entry.offset as usize;
        match &self.home {
            Home::Nowhere => &[],
            Home::Mapped(maps) => &maps[entry.file][start..start + entry.bytes as usize],
            Home::Dense(_) if ExpertKey::parse(&entry.name).is_some() => &[],
            Home::Dense(maps) => &maps[entry.file][start..start + entry.bytes as usize],
            Home::Resident(resident) => resident.bytes(index.0, entry.bytes as usize),
        }
    }

    /// Whether routed experts are left to [`record`](Self::record).
    pub fn is_resident(&self) -> bool {
        matches!(self.home, Home::Resident(_) | Home::Dense(_))
    }

    /// Bytes of tensors that were opened for a card that shares this memory, and will take their place there.
    pub fn awaited_bytes(&self) -> u64 {
        let entries = self.source.catalogue.entries().iter();
        let dense = entries.filter(|entry| ExpertKey::parse(&entry.name).is_none());
        if matches!(self.home, Home::Dense(_)) { dense.map(|entry| entry.bytes).sum() } else { 0 }
    }

    /// Bytes of the tensor called `name`, wherever they are; 0 where there is none.
    pub fn bytes_of(&self, name: &str) -> u64 {
        self.source.catalogue.get(name).map_or(0, |entry| entry.bytes)
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

    pub(crate) fn headers(&self) -> &Source {
        &self.source
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.source.catalogue.entries().iter().map(|entry| entry.bytes).sum()
    }
}

/// Maps every file of a source.
fn map_all(source: &Source) -> Result<Vec<Mmap>, Error> {
    let maps = source.files.iter().map(mapped::map).collect::<Result<Vec<_>, _>>()?;
    match source.files.iter().zip(&maps).find(|(file, map)| (map.len() as u64) < file.bytes) {
        Some((file, _)) => Err(Error::SourceChanged { path: file.path.clone() }),
        None => Ok(maps),
    }
}
