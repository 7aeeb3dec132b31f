//! What goes where: the pack's tables, still without hashes, and the list of copies that fills its files.

use std::collections::BTreeMap;

use tensor::{DType, Layout};
use xxhash_rust::xxh3::xxh3_128;

use super::Compress;
use crate::catalogue::Entry;
use crate::expert::ExpertKey;
use crate::hf::{TOKENIZER, TOKENIZER_CONFIG};
use crate::pack::{
    CHAT_TEMPLATE, Coding, Dense, DenseTensor, Experts, FORMAT, GGUF_TOKENIZER, Hash, LICENCE, Manifest,
    PAGE_BYTES, PART_ALIGN, RecordLayer, RecordPart, VERSION, group_bytes, layout_of,
};
use crate::source::Source;
use crate::{Error, ExpertPart, TokenizerFiles};

/// One copy: a tensor, or one expert's part of it.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Canonical tensor name.
    pub(super) name: String,
    /// Index into the source's files.
    pub(super) file: usize,
    /// In that file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// What of it is permuted on the way.
    pub(super) group: Option<Group>,
    /// Where it goes.
    pub(super) slot: Slot,
    /// In `dense.bin` or `experts.bin`.
    pub(super) to: u64,
}

impl Piece {
    /// Bytes to read at once with `limit` of memory: whole groups, with as much room for their interleaved copy. At least
    /// one group, whatever the limit.
    pub(super) fn chunk_bytes(&self, limit: usize) -> usize {
        match self.group {
            None => limit.max(1),
            Some(Group { bytes, .. }) => (limit / 2 / bytes).max(1) * bytes,
        }
    }
}

/// Rows that are interleaved together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) dtype: DType,
    pub(super) bytes: usize,
}

impl Group {
    /// Of the tensor `entry` if it is interleaved.
    fn of(entry: &Entry, layout: Layout) -> Option<Self> {
        let (dtype, cols) = (entry.dtype, *entry.shape.last()?);
        let bytes = (layout == Layout::Rows16).then(|| group_bytes(dtype, cols))??;
        Some(Self { dtype, bytes })
    }
}

/// A place in the manifest's tables; indices into them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Dense { tensor: usize },
    Record { layer: usize, expert: usize, part: usize },
}

/// A whole import.
#[derive(Debug)]
pub(super) struct Plan {
    /// Complete but for hashes and codings.
    pub(super) manifest: Manifest,
    /// In source order: by file, then by offset.
    pub(super) pieces: Vec<Piece>,
    /// Name and content.
    pub(super) side_files: Vec<(&'static str, Vec<u8>)>,
    /// Changes if anything does: source files, tables, format, what is asked about coding.
    pub(super) fingerprint: String,
}

impl Plan {
    pub(super) fn new(source: &Source, compress: Compress) -> Result<Self, Error> {
        let entries = source.catalogue.entries();
        let is_expert = |entry: &&Entry| ExpertKey::parse(&entry.name).is_some();
        let (experts, mut dense): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(is_expert);
        dense.sort_by_key(|entry| (entry.file, entry.offset));
        let mut pieces = Vec::with_capacity(entries.len());
        let manifest = Manifest {
            format: FORMAT.into(),
            version: VERSION,
            hyperparameters: source.hyper.clone(),
            generation: source.generation.clone(),
            provenance: source.provenance.clone(),
            dense: lay_out_dense(&dense, &mut pieces),
            experts: lay_out_experts(source, &experts, &mut pieces)?,
            files: Vec::new(),
        };
        pieces.sort_by_key(|piece| (piece.file, piece.offset));
        let fingerprint = fingerprint(source, &manifest, compress);
        Ok(Self { manifest, pieces, side_files: side_files(source), fingerprint })
    }

    /// Memory that copying takes with `limit` of it: more only where two groups of rows need more.
    pub(super) fn buffer_bytes(&self, limit: usize) -> usize {
        let groups = self.pieces.iter().filter_map(|piece| piece.group);
        groups.map(|group| 2 * group.bytes).max().unwrap_or(1).max(limit)
    }

    /// Layers with routed experts.
    pub(super) fn layers(&self) -> &[RecordLayer] {
        self.manifest.experts.as_ref().map_or(&[], |experts| &experts.layers)
    }

    /// All records in file order: indices of their layers, and their experts.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, u32)> {
        let layers = self.layers().iter().enumerate();
        layers.flat_map(|(i, layer)| (0..layer.xxh3.len() as u32).map(move |expert| (i, expert)))
    }

    /// Sizes of `dense.bin` and `experts.bin`, as they are before anything is coded.
    pub(super) fn file_sizes(&self) -> (u64, Option<u64>) {
        (self.manifest.dense.bytes, self.manifest.experts.as_ref().map(|experts| experts.bytes))
    }
}

fn lay_out_dense(entries: &[&Entry], pieces: &mut Vec<Piece>) -> Dense {
    let mut dense = Dense { bytes: 0, tensors: Vec::with_capacity(entries.len()) };
    for (tensor, entry) in entries.iter().enumerate() {
        let offset = dense.bytes;
        let layout = layout_of(&entry.name, entry.dtype, &entry.shape);
        pieces.push(piece(entry, layout, Slot::Dense { tensor }, offset));
        dense.tensors.push(DenseTensor {
            name: entry.name.clone(),
            published: entry.published.clone(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            layout,
            offset,
            bytes: entry.bytes,
            xxh3: Hash::default(),
        });
        dense.bytes = (offset + entry.bytes).next_multiple_of(PAGE_BYTES);
    }
    dense
}

fn piece(entry: &Entry, layout: Layout, slot: Slot, to: u64) -> Piece {
    let Entry { name, file, offset, bytes, .. } = entry;
    let group = Group::of(entry, layout);
    Piece { name: name.clone(), file: *file, offset: *offset, bytes: *bytes, group, slot, to }
}

/// Parts of one expert in record order: weight before scales.
type Parts<'a> = BTreeMap<(ExpertPart, &'a str), &'a Entry>;

fn lay_out_experts(
    source: &Source,
    entries: &[&Entry],
    pieces: &mut Vec<Piece>,
) -> Result<Option<Experts>, Error> {
    let mut layers: BTreeMap<u32, BTreeMap<u32, Parts<'_>>> = BTreeMap::new();
    for entry in entries {
        let (key, part, kind) = ExpertKey::parse(&entry.name).expect("partitioned by this");
        layers.entry(key.layer).or_default().entry(key.expert).or_default().insert((part, kind), entry);
    }
    if layers.is_empty() {
        return Ok(None);
    }
    let mut experts = Experts { bytes: 0, layers: Vec::with_capacity(layers.len()) };
    for (number, by_expert) in &layers {
        let first = &by_expert[by_expert.keys().next().expect("a layer is there because of an expert")];
        let layer = record_layer(*number, experts.bytes, by_expert.len(), first);
        for (expert, (&key, parts)) in by_expert.iter().enumerate() {
            check_uniform(source, (*number, expert), key, parts, first)?;
            for (part, (entry, at)) in parts.values().zip(&layer.parts).enumerate() {
                let slot = Slot::Record { layer: experts.layers.len(), expert, part };
                pieces.push(piece(entry, at.layout, slot, layer.record_offset(key) + at.offset));
            }
        }
        experts.bytes = layer.record_offset(by_expert.len() as u32);
        experts.layers.push(layer);
    }
    Ok(Some(experts))
}

fn record_layer(layer: u32, offset: u64, n_experts: usize, first: &Parts<'_>) -> RecordLayer {
    let mut parts = Vec::with_capacity(first.len());
    let mut end = 0u64;
    for (&(part, kind), entry) in first {
        let offset = end.next_multiple_of(PART_ALIGN);
        let name = format!("blk.{layer}.{}.*.{kind}", part.stem());
        let layout = layout_of(&name, entry.dtype, &entry.shape);
        parts.push(RecordPart {
            name,
            published: entry.published.replace(".experts.0.", ".experts.*."),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            layout,
            coding: Coding::Raw,
            offset,
            bytes: entry.bytes,
        });
        end = offset + entry.bytes;
    }
    let stride = end.next_multiple_of(PAGE_BYTES);
    let xxh3 = vec![Hash::default(); n_experts];
    RecordLayer { layer, offset, stride, record_bytes: end, parts, stored: Vec::new(), xxh3 }
}

/// Every expert of a layer must have the same parts as the first, and none may be missing.
fn check_uniform(
    source: &Source,
    (layer, expert): (u32, usize),
    key: u32,
    parts: &Parts<'_>,
    first: &Parts<'_>,
) -> Result<(), Error> {
    let missing = |tensor| Error::MissingTensor { path: source.path.clone(), tensor };
    if key as usize != expert {
        let absent = ExpertKey { layer, expert: expert as u32 };
        return Err(missing(absent.tensor_name(ExpertPart::Gate)));
    }
    if let Some((part, kind)) = first.keys().find(|part| !parts.contains_key(part)) {
        return Err(missing(format!("blk.{layer}.{}.{key}.{kind}", part.stem())));
    }
    for (part, entry) in parts {
        let want =
            first.get(part).ok_or_else(|| missing(format!("blk.{layer}.{}.0.{}", part.0.stem(), part.1)))?;
        let path = || source.path.clone();
        if entry.shape != want.shape {
            let (tensor, got, want) = (entry.published.clone(), entry.shape.clone(), want.shape.clone());
            return Err(Error::TensorShape { path: path(), tensor, got, want });
        }
        if entry.dtype != want.dtype {
            let (tensor, dtype) = (entry.published.clone(), entry.dtype.name().into());
            return Err(Error::UnsupportedDtype { path: path(), tensor, dtype });
        }
    }
    Ok(())
}

fn side_files(source: &Source) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = Vec::new();
    match &source.tokenizer {
        Some(TokenizerFiles::Json { tokenizer_json, config }) => {
            files.push((TOKENIZER, tokenizer_json.clone()));
            files.extend(config.iter().map(|config| (TOKENIZER_CONFIG, config.clone())));
        }
        Some(TokenizerFiles::Gguf(tokenizer)) => files.push((GGUF_TOKENIZER, tokenizer.to_gguf())),
        None => {}
    }
    files.extend(source.chat_template.iter().map(|text| (CHAT_TEMPLATE, text.clone().into_bytes())));
    files.extend(source.licence_text.iter().map(|text| (LICENCE, text.clone())));
    files
}

fn fingerprint(source: &Source, manifest: &Manifest, compress: Compress) -> String {
    let mut identity = manifest.to_json();
    identity.extend(format!("compress {compress:?}\n").into_bytes());
    for file in &source.files {
        let line = format!(
            "{} {} {} {:016x}\n",
            file.path.display(),
            file.bytes,
            file.modified_ns,
            file.header_xxh3
        );
        identity.extend(line.into_bytes());
    }
    format!("{:032x}", xxh3_128(&identity))
}
