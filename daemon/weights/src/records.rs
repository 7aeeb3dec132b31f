//! Where a routed expert's bytes lie, for those who read it themselves.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tensor::Matrix;

use crate::catalogue::Entry;
use crate::pack::{EXPERTS_FILE, Hash, PAGE_BYTES, Problem, RecordLayer, decode_record};
use crate::weights::TensorIndex;
use crate::{Error, ExpertKey, ExpertPart, Weights};

/// A contiguous piece of a file, and where it goes in a record's memory.
///
/// `offset`, `at` and `bytes` are whole pages, so that the read can be direct; the file may end within the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Index of the file, in the order of [`Weights::files`].
    pub file: usize,
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// From the start of the memory, in bytes.
    pub at: usize,
    /// Bytes to ask for: whole pages.
    pub bytes: usize,
    /// Bytes that have to come: fewer only where the file ends within the last page.
    pub needed: usize,
}

/// One routed expert: the reads that bring it, and where its matrices lie then.
///
/// ```text
/// pack:   one extent       | gate | up | down |                       a record, page aligned
/// GGUF:   three extents    ..| gate |..   ..| up |..   ..| down |..   whole pages around each
/// ```
#[derive(Clone, Debug)]
pub struct Record {
    /// Which expert.
    pub key: ExpertKey,
    /// What to read.
    pub extents: Arc<[Extent]>,
    /// Memory that what is read takes: whole pages.
    pub read_bytes: usize,
    /// Memory the record takes: whole pages.
    pub bytes: usize,
    /// Bytes of its tensors, without what lies around them.
    pub data_bytes: u64,
    /// What is read has to be decoded by [`Weights::decode`] before it is the record.
    pub is_coded: bool,
    /// Of what is read: of the XXH3-64s of `hashed`, see [`crate::pack`]; `None` where the files have no checksums.
    pub hash: Option<Hash>,
    /// What the hash is made of, in what is read.
    pub hashed: Arc<[Range<usize>]>,
    /// Of each tensor, FP8 scales among them, where it lies in the memory, in record order.
    pub parts: Vec<Range<usize>>,
    matrices: [Placed; 3],
}

/// A matrix of the record.
#[derive(Clone, Debug)]
struct Placed {
    index: TensorIndex,
    at: Range<usize>,
    scale: Option<Range<usize>>,
}

impl Weights {
    /// The files that extents point into.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.headers().files.iter().map(|file| file.path.as_path())
    }

    /// Where a routed expert lies.
    ///
    /// # Errors
    /// The model has no such expert.
    pub fn record(&self, key: ExpertKey) -> Result<Record, Error> {
        let mut indices = Vec::new();
        for part in ExpertPart::ALL {
            let index = self.index(&key.tensor_name(part))?;
            indices.push((index, self.scale_of(index)));
        }
        let flat = indices.iter().flat_map(|&(index, scale)| [Some(index), scale]).flatten();
        let order: Vec<TensorIndex> = flat.collect();
        let entries: Vec<&Entry> = order.iter().map(|&index| self.entry(index)).collect();
        let (extents, parts) = lay_out(&entries);
        let bytes = extents.iter().map(|extent| extent.bytes).sum();
        let layer = self.record_layer(key.layer);
        let (extents, hashed) = match layer.filter(|layer| layer.is_coded()) {
            Some(layer) => stored(layer, key.expert),
            None => (extents, parts.clone()),
        };
        let place = |index: TensorIndex| {
            let nth = order.iter().position(|&other| other == index).expect("made from these");
            parts[nth].clone()
        };
        let matrices = [0, 1, 2].map(|i| {
            let (index, scale): (TensorIndex, Option<TensorIndex>) = indices[i];
            Placed { index, at: place(index), scale: scale.map(place) }
        });
        Ok(Record {
            key,
            read_bytes: extents.iter().map(|extent| extent.bytes).sum(),
            bytes,
            data_bytes: entries.iter().map(|entry| entry.bytes).sum(),
            is_coded: layer.is_some_and(RecordLayer::is_coded),
            hash: layer.and_then(|layer| layer.xxh3.get(key.expert as usize)).copied(),
            hashed: hashed.into(),
            extents: extents.into(),
            parts,
            matrices,
        })
    }

    /// Bytes of all routed experts.
    pub fn record_bytes(&self) -> u64 {
        let entries = self.headers().catalogue.entries().iter();
        entries.filter(|entry| ExpertKey::parse(&entry.name).is_some()).map(|entry| entry.bytes).sum()
    }

    /// Gate, up and down of an expert whose record was read into `memory`.
    ///
    /// # Panics
    /// The memory is smaller than the record, or the record is of another model: a programmer's error.
    pub fn matrices<'a>(&'a self, record: &Record, memory: &'a [u8]) -> [Matrix<'a>; 3] {
        record.matrices.each_ref().map(|placed| {
            let scale = placed.scale.clone().map(|scale| &memory[scale]);
            let tensor = self.tensor_in(placed.index, &memory[placed.at.clone()], scale);
            tensor.matrix().expect("the shape was checked when the model was opened")
        })
    }

    /// Decodes what was read of a coded record into `memory`.
    ///
    /// # Errors
    /// It is not what the pack's table says: nothing that has the record's hash.
    ///
    /// # Panics
    /// The record is not of a pack, or the memory is smaller than the record: a programmer's error.
    pub fn decode(&self, record: &Record, read: &[u8], memory: &mut [u8]) -> Result<(), Problem> {
        let layer = self.record_layer(record.key.layer).expect("packs alone have coded records");
        let stored = &read[..layer.stored_bytes(record.key.expert) as usize];
        decode_record(layer, record.key.expert, stored, memory)
    }

    fn record_layer(&self, layer: u32) -> Option<&RecordLayer> {
        self.headers().records.as_ref()?.layers.iter().find(|records| records.layer == layer)
    }
}

/// The read that brings a coded record, and what its hash is made of.
fn stored(layer: &RecordLayer, expert: u32) -> (Vec<Extent>, Vec<Range<usize>>) {
    let (offset, needed) = (layer.record_offset(expert), layer.stored_bytes(expert) as usize);
    let bytes = needed.next_multiple_of(PAGE_BYTES as usize);
    let hashed = layer.hashed(expert).into_iter().map(|range| range.start as usize..range.end as usize);
    (vec![Extent { file: EXPERTS_FILE, offset, at: 0, bytes, needed }], hashed.collect())
}

/// Whole pages around the tensors, those that touch as one, and where each tensor lies in the memory they are read to.
fn lay_out(entries: &[&Entry]) -> (Vec<Extent>, Vec<Range<usize>>) {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&i| (entries[i].file, entries[i].offset));
    let mut extents: Vec<Extent> = Vec::new();
    let mut parts = vec![0..0; entries.len()];
    for i in order {
        let (file, offset, bytes) = (entries[i].file, entries[i].offset, entries[i].bytes);
        let end = offset + bytes;
        let start = offset - offset % PAGE_BYTES;
        let touches =
            |extent: &&mut Extent| extent.file == file && start <= extent.offset + extent.bytes as u64;
        let extent = match extents.last_mut().filter(touches) {
            Some(extent) => extent,
            None => {
                let at = extents.last().map_or(0, |extent| extent.at + extent.bytes);
                extents.push(Extent { file, offset: start, at, bytes: 0, needed: 0 });
                extents.last_mut().expect("just put there")
            }
        };
        extent.needed = (end - extent.offset) as usize;
        extent.bytes = extent.needed.next_multiple_of(PAGE_BYTES as usize);
        let at = extent.at + (offset - extent.offset) as usize;
        parts[i] = at..at + bytes as usize;
    }
    (extents, parts)
}
