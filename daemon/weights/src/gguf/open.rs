//! Opening a GGUF model, single or split.

use std::path::{Path, PathBuf};

use tensor::Layout;

use super::hyper::{TensorFacts, hyperparameters};
use super::split::{self, PartName};
use super::{Header, Metadata, Problem};
use crate::catalogue::{Catalogue, Entry};
use crate::files::DataFile;
use crate::generation::Generation;
use crate::source::{Source, conflict};
use crate::{BadField, Error, GgufTokenizer, Provenance, SourceKind, TokenizerFiles, requirements};

/// First read of a header; multiplied by four until the header is complete.
const FIRST_READ_BYTES: u64 = 1 << 20;
/// Largest header: real ones have some 6 to 20 MiB, nearly all of it vocabulary.
const MAX_HEADER_BYTES: u64 = 256 << 20;

impl Header {
    /// Reads the header of the file at `path` and nothing else: the tensor data need not be there.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(read(&DataFile::open(path)?)?.0)
    }
}

/// The header and its bytes.
fn read(file: &DataFile) -> Result<(Header, Vec<u8>), Error> {
    let mut n = FIRST_READ_BYTES;
    loop {
        let mut head = file.head(n)?;
        match Header::parse(&head) {
            Ok(header) => {
                head.truncate(usize::try_from(header.data_start).unwrap_or(usize::MAX));
                return Ok((header, head));
            }
            Err(Problem::Truncated { .. }) if n < file.bytes && n < MAX_HEADER_BYTES => n *= 4,
            Err(Problem::Truncated { .. }) if n < file.bytes => {
                let problem = Problem::TooMany {
                    what: "the header's size",
                    at: 0,
                    got: file.bytes,
                    limit: MAX_HEADER_BYTES,
                };
                return Err(Error::Gguf { path: file.path.clone(), problem });
            }
            Err(problem) => return Err(Error::Gguf { path: file.path.clone(), problem }),
        }
    }
}

/// Opens the model that `path` belongs to: any part of a split set brings all of them.
pub(crate) fn open(path: &Path) -> Result<Source, Error> {
    let name = PartName::parse(path);
    let paths = name.as_ref().map_or_else(|| vec![path.to_path_buf()], |name| name.siblings(path));
    let mut parts = Parts::default();
    for part in &paths {
        parts.add(part, path)?;
    }
    parts.into_source(path)
}

/// The parts read so far.
#[derive(Default)]
struct Parts {
    files: Vec<DataFile>,
    catalogue: Catalogue,
    n_tensors: u64,
    /// Metadata of the first part: the others have none worth reading.
    metadata: Option<Metadata>,
}

impl Parts {
    fn add(&mut self, path: &Path, named_by: &Path) -> Result<(), Error> {
        let broken = |problem| Error::Gguf { path: path.into(), problem };
        if path != named_by && !path.exists() {
            return Err(Error::MissingPart { path: path.into(), named_by: named_by.into() });
        }
        let mut file = DataFile::open(path)?;
        let (header, bytes) = read(&file)?;
        file.set_header(&bytes);
        header.check_data(file.bytes).map_err(broken)?;
        split::check(PartName::parse(path).as_ref(), &header.metadata).map_err(broken)?;
        self.n_tensors += header.tensors.len() as u64;
        for info in header.tensors {
            let entry = Entry {
                name: info.name.clone(),
                published: info.name,
                dtype: info.dtype,
                shape: info.shape,
                layout: Layout::Rows,
                file: self.files.len(),
                offset: info.offset,
                bytes: info.bytes,
                scale: None,
            };
            self.catalogue.add(entry).map_err(conflict(path))?;
        }
        self.files.push(file);
        self.metadata.get_or_insert(header.metadata);
        Ok(())
    }

    fn into_source(self, path: &Path) -> Result<Source, Error> {
        let Self { files, catalogue, n_tensors, metadata } = self;
        let metadata = metadata.expect("a model has at least one file");
        let first: PathBuf = files[0].path.clone();
        split::check_sum(&metadata, n_tensors)
            .map_err(|problem| Error::Gguf { path: first.clone(), problem })?;
        let facts = TensorFacts {
            n_vocab: catalogue.get("token_embd.weight").map(|entry| entry.shape[0]),
            has_output: catalogue.find("output.weight").is_some(),
            has_router_bias: catalogue
                .entries()
                .iter()
                .any(|entry| entry.name.ends_with(".exp_probs_b.bias")),
        };
        let mut hyper = hyperparameters(&metadata, facts).map_err(BadField::of(&first))?;
        requirements::drop_absent_drafts(&mut hyper, &catalogue);
        let tokenizer = GgufTokenizer::from_metadata(&metadata).map_err(BadField::of(&first))?;
        let generation = Generation::from_gguf(&metadata).map_err(BadField::of(&first))?;
        let text = |key| metadata.string(key).map_err(|problem| BadField::new(key, problem));
        let chat_template = text("tokenizer.chat_template").map_err(BadField::of(&first))?.map(str::to_owned);
        let licence = text("general.license").map_err(BadField::of(&first))?.map(str::to_owned);
        let mut provenance = Provenance::of(SourceKind::Gguf, &files);
        provenance.licence = licence;
        let source = Source {
            path: path.into(),
            hyper,
            generation,
            tokenizer: tokenizer.map(TokenizerFiles::Gguf),
            chat_template,
            licence_text: None,
            catalogue,
            files,
            provenance,
            records: None,
        };
        source.check()?;
        Ok(source)
    }
}
