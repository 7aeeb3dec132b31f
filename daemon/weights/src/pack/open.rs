//! Opening a pack.

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::check::Problem;
use super::decode::decode_all;
use super::manifest::{CHAT_TEMPLATE, DENSE, EXPERTS, Experts, GGUF_TOKENIZER, LICENCE, MANIFEST, Manifest};
use crate::catalogue::{Catalogue, Entry};
use crate::files::{DataFile, read_small};
use crate::hf::{MAX_TOKENIZER_BYTES, TOKENIZER, TOKENIZER_CONFIG};
use crate::source::{Source, conflict};
use crate::{BadField, Error, GgufTokenizer, TokenizerFiles, gguf};

/// Largest manifest; R1's has some 1.5 MB.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Indices of a pack's files in its source.
const DENSE_FILE: usize = 0;
pub(crate) const EXPERTS_FILE: usize = 1;
/// Stands for the memory that coded records are decoded to.
const DECODED: usize = 2;

/// A pack's folder and manifest: for those who look after packs. To run one, see [`crate::open`].
#[derive(Debug)]
pub struct Pack {
    pub(super) dir: PathBuf,
    pub(super) manifest: Manifest,
}

impl Pack {
    /// Whether `dir` says it is a pack.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(MANIFEST).is_file()
    }

    /// Reads and checks the manifest; the other files are not touched.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        let found = "a folder without pack.json";
        let json = read_small(&path, MAX_MANIFEST_BYTES)?;
        let json = json.ok_or(Error::NotAModel { path: dir.into(), found })?;
        let manifest = Manifest::parse(&json).map_err(|problem| Error::Pack { path, problem })?;
        Ok(Self { dir: dir.into(), manifest })
    }

    /// What the pack says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// `experts.bin`.
    pub fn experts_path(&self) -> PathBuf {
        self.dir.join(EXPERTS)
    }

    /// `dense.bin`, then `experts.bin` where there is one, their sizes checked.
    pub(super) fn data_files(&self) -> Result<Vec<DataFile>, Error> {
        let experts = self.manifest.experts.as_ref().map(|experts| (EXPERTS, experts.bytes));
        [(DENSE, self.manifest.dense.bytes)]
            .into_iter()
            .chain(experts)
            .map(|file| self.data_file(file))
            .collect()
    }

    fn data_file(&self, (name, want): (&'static str, u64)) -> Result<DataFile, Error> {
        let path = self.dir.join(name);
        if !path.exists() {
            return Err(Error::MissingPart { path, named_by: self.dir.join(MANIFEST) });
        }
        let file = DataFile::open(&path)?;
        if file.bytes != want {
            let problem = Problem::FileSize { file: name, got: file.bytes, want };
            return Err(Error::Pack { path: self.dir.join(MANIFEST), problem });
        }
        Ok(file)
    }
}

/// Opens the pack in `dir` as a model.
pub(crate) fn open(dir: &Path) -> Result<Source, Error> {
    let pack = Pack::open(dir)?;
    let files = pack.data_files()?;
    let manifest_path = dir.join(MANIFEST);
    let mut catalogue = Catalogue::default();
    add_dense(&mut catalogue, &pack.manifest, &manifest_path)?;
    if let Some(experts) = &pack.manifest.experts {
        add_experts(&mut catalogue, experts, &manifest_path)?;
    }
    catalogue.link_scales().map_err(conflict(&manifest_path))?;
    let template = read_small(&dir.join(CHAT_TEMPLATE), MAX_TOKENIZER_BYTES)?;
    let source = Source {
        path: dir.into(),
        hyper: pack.manifest.hyperparameters,
        generation: pack.manifest.generation,
        tokenizer: tokenizer(dir)?,
        chat_template: template.map(|text| String::from_utf8_lossy(&text).into_owned()),
        licence_text: read_small(&dir.join(LICENCE), MAX_TOKENIZER_BYTES)?,
        catalogue,
        files,
        provenance: pack.manifest.provenance,
        records: pack.manifest.experts,
    };
    source.check()?;
    Ok(source)
}

/// The memory that coded records are decoded to, where a model has some; `maps` are of its files.
pub(crate) fn decoded(source: &Source, maps: &[Mmap]) -> Result<Option<Mmap>, Error> {
    let coded = source.records.as_ref().filter(|experts| experts.coded_layers().next().is_some());
    let decode = |experts| decode_all(experts, &maps[EXPERTS_FILE], &source.path.join(MANIFEST));
    coded.map(decode).transpose()
}

fn add_dense(catalogue: &mut Catalogue, manifest: &Manifest, path: &Path) -> Result<(), Error> {
    for t in &manifest.dense.tensors {
        let entry = Entry {
            name: t.name.clone(),
            published: t.published.clone(),
            dtype: t.dtype,
            shape: t.shape.clone(),
            layout: t.layout,
            file: DENSE_FILE,
            offset: t.offset,
            bytes: t.bytes,
            scale: None,
        };
        catalogue.add(entry).map_err(conflict(path))?;
    }
    Ok(())
}

fn add_experts(catalogue: &mut Catalogue, experts: &Experts, path: &Path) -> Result<(), Error> {
    let mut decoded = 0;
    for layer in &experts.layers {
        for expert in 0..layer.xxh3.len() as u32 {
            let (file, start) = if layer.is_coded() {
                (DECODED, decoded)
            } else {
                (EXPERTS_FILE, layer.record_offset(expert))
            };
            decoded += if layer.is_coded() { layer.stride } else { 0 };
            for part in &layer.parts {
                let entry = Entry {
                    name: part.name.replace('*', &expert.to_string()),
                    published: part.published.replace('*', &expert.to_string()),
                    dtype: part.dtype,
                    shape: part.shape.clone(),
                    layout: part.layout,
                    file,
                    offset: start + part.offset,
                    bytes: part.bytes,
                    scale: None,
                };
                catalogue.add(entry).map_err(conflict(path))?;
            }
        }
    }
    Ok(())
}

fn tokenizer(dir: &Path) -> Result<Option<TokenizerFiles>, Error> {
    if let Some(tokenizer_json) = read_small(&dir.join(TOKENIZER), MAX_TOKENIZER_BYTES)? {
        let config = read_small(&dir.join(TOKENIZER_CONFIG), MAX_TOKENIZER_BYTES)?;
        return Ok(Some(TokenizerFiles::Json { tokenizer_json, config }));
    }
    let path = dir.join(GGUF_TOKENIZER);
    let Some(bytes) = read_small(&path, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
    let header =
        gguf::Header::parse(&bytes).map_err(|problem| Error::Gguf { path: path.clone(), problem })?;
    let tokenizer = GgufTokenizer::from_metadata(&header.metadata).map_err(BadField::of(&path))?;
    Ok(tokenizer.map(TokenizerFiles::Gguf))
}
