//! Checks of a manifest: it is as untrusted as any file.

use std::collections::HashSet;

use tensor::{DType, Layout};

use super::coding::Coding;
use super::layout::layout_of;
use super::manifest::{
    Experts, FORMAT, Hash, Manifest, PAGE_BYTES, PART_ALIGN, RecordLayer, RecordPart, SIDE_FILES, VERSION,
    VERSION_OF_CODINGS, VERSION_OF_ROWS,
};
use crate::BadField;

/// Tensors in `dense.bin`.
const MAX_TENSORS: usize = 1 << 20;
/// Layers with experts.
const MAX_LAYERS: usize = 1024;
/// Records in all layers; Kimi K2 has 23,040.
const MAX_RECORDS: usize = 1 << 17;
/// Parts of a record: gate, up, down, and their scales.
const MAX_PARTS: usize = 6;
/// Dimensions of a tensor.
const MAX_DIMS: usize = 8;

/// What can be wrong with a pack.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The manifest isn't the JSON it should be.
    #[error("{cause}; the pack is damaged: import the model again")]
    Json {
        /// Where and why.
        cause: String,
    },
    /// Some other JSON file.
    #[error("format {got:?} is not {FORMAT:?}")]
    Format {
        /// What the file says it is.
        got: String,
    },
    /// A version of another time.
    #[error(
        "pack version {got} is not supported (this program reads {VERSION_OF_ROWS} to {VERSION}); import the model again"
    )]
    Version {
        /// Of the pack.
        got: u32,
    },
    /// Hyperparameters out of range.
    #[error("hyperparameters: {0}; the pack is damaged: import the model again")]
    Hyperparameters(BadField),
    /// A tensor whose entry contradicts itself or the file.
    #[error("tensor {tensor:?}: {what}; the pack is damaged: import the model again")]
    Tensor {
        /// Its name.
        tensor: String,
        /// The rule it breaks.
        what: &'static str,
    },
    /// Records that contradict themselves or the file.
    #[error("experts of layer {layer}: {what}; the pack is damaged: import the model again")]
    Records {
        /// The layer.
        layer: u32,
        /// The rule they break.
        what: &'static str,
    },
    /// A record whose stored bytes are none, though they are those that were written.
    #[error("record {layer}.{expert}, byte {at}: {what}; the pack is damaged: import the model again")]
    Record {
        /// The layer.
        layer: u32,
        /// The expert.
        expert: u32,
        /// Of the chunk that is wrong, from the start of the stored record.
        at: usize,
        /// The rule it breaks.
        what: &'static str,
    },
    /// A record that is not the one that was written.
    #[error(
        "record {layer}.{expert}: checksum {got}, want {want}; the pack is damaged: import the model again"
    )]
    Checksum {
        /// The layer.
        layer: u32,
        /// The expert.
        expert: u32,
        /// Of the bytes on the disk.
        got: Hash,
        /// Of the bytes that were written.
        want: Hash,
    },
    /// More of something than any real model has.
    #[error("{got} {what}, but at most {limit} are accepted; the pack is damaged: import the model again")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The count.
        got: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// A side file that no pack has.
    #[error("the side file {name:?} is unknown or listed twice; the pack is damaged: import the model again")]
    SideFile {
        /// Its name.
        name: String,
    },
    /// A file of another size than the manifest says.
    #[error("{file} has {got} bytes, the manifest says {want}; the pack is damaged: import the model again")]
    FileSize {
        /// File name.
        file: &'static str,
        /// Its size.
        got: u64,
        /// Size by the manifest.
        want: u64,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(json: &[u8]) -> Result<Self, Problem> {
        let manifest: Self =
            serde_json::from_slice(json).map_err(|e| Problem::Json { cause: e.to_string() })?;
        if manifest.format != FORMAT {
            return Err(Problem::Format { got: manifest.format });
        }
        if !(VERSION_OF_ROWS..=VERSION).contains(&manifest.version) {
            return Err(Problem::Version { got: manifest.version });
        }
        manifest.hyperparameters.check().map_err(Problem::Hyperparameters)?;
        manifest.check_dense()?;
        manifest.experts.as_ref().map_or(Ok(()), check_experts)?;
        manifest.check_layouts()?;
        manifest.check_codings()?;
        manifest.check_side_files()?;
        Ok(manifest)
    }

    /// The manifest's JSON, indented: people read it too.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("strings, numbers and lists only");
        json.push(b'\n');
        json
    }

    fn check_dense(&self) -> Result<(), Problem> {
        limit("tensors", self.dense.tensors.len(), MAX_TENSORS)?;
        let mut end = 0;
        for t in &self.dense.tensors {
            let fail = |what| Err(Problem::Tensor { tensor: t.name.clone(), what });
            if size(t.dtype, &t.shape) != Some(t.bytes) {
                return fail("its size is not that of its shape");
            }
            if !t.offset.is_multiple_of(PAGE_BYTES) || t.offset < end {
                return fail("it does not start on a page of its own");
            }
            end = t.offset.saturating_add(t.bytes);
            if end > self.dense.bytes {
                return fail("it reaches beyond dense.bin");
            }
        }
        Ok(())
    }

    fn check_layouts(&self) -> Result<(), Problem> {
        let dense = self.dense.tensors.iter().map(|t| (&t.name, t.layout, t.dtype, &t.shape));
        let layers = self.experts.iter().flat_map(|experts| &experts.layers);
        let parts = layers.flat_map(|layer| &layer.parts).map(|p| (&p.name, p.layout, p.dtype, &p.shape));
        let odd = dense.chain(parts).find(|&(name, layout, dtype, shape)| {
            let is_allowed = self.version > VERSION_OF_ROWS && layout == layout_of(name, dtype, shape);
            layout != Layout::Rows && !is_allowed
        });
        let what =
            "its rows are said to be interleaved, but its name, type, shape or pack's version forbids it";
        odd.map_or(Ok(()), |(name, ..)| Err(Problem::Tensor { tensor: name.clone(), what }))
    }

    fn check_codings(&self) -> Result<(), Problem> {
        let parts = self.experts.iter().flat_map(|experts| &experts.layers).flat_map(|layer| &layer.parts);
        let forbids = |part: &&RecordPart| {
            !part.coding.fits(part.dtype) || (part.coding != Coding::Raw && self.version < VERSION_OF_CODINGS)
        };
        let what = "it is said to be coded, but its type or the pack's version forbids it";
        let odd = parts.into_iter().find(forbids);
        odd.map_or(Ok(()), |part| Err(Problem::Tensor { tensor: part.name.clone(), what }))
    }

    fn check_side_files(&self) -> Result<(), Problem> {
        let mut seen = HashSet::new();
        let odd = self
            .files
            .iter()
            .find(|f| !SIDE_FILES.contains(&f.name.as_str()) || !seen.insert(f.name.as_str()));
        odd.map_or(Ok(()), |file| Err(Problem::SideFile { name: file.name.clone() }))
    }
}

fn check_experts(experts: &Experts) -> Result<(), Problem> {
    limit("layers of experts", experts.layers.len(), MAX_LAYERS)?;
    limit("records", experts.layers.iter().map(|layer| layer.xxh3.len()).sum(), MAX_RECORDS)?;
    let mut end = 0;
    for layer in &experts.layers {
        let fail = |what| Err(Problem::Records { layer: layer.layer, what });
        check_record(layer)?;
        if layer.xxh3.is_empty() {
            return fail("there are none");
        }
        let aligned = layer.offset.is_multiple_of(PAGE_BYTES) && layer.stride.is_multiple_of(PAGE_BYTES);
        if !aligned || layer.offset < end || layer.stride < layer.record_bytes {
            return fail("records do not start on pages of their own");
        }
        check_stored(layer)?;
        end = layer.offset.saturating_add(span(layer));
        if end > experts.bytes {
            return fail("records reach beyond experts.bin");
        }
    }
    Ok(())
}

/// Bytes from the start of a layer's first record to the end of its last one's last page.
fn span(layer: &RecordLayer) -> u64 {
    if layer.stored.is_empty() {
        return layer.stride.saturating_mul(layer.xxh3.len() as u64);
    }
    let pages =
        layer.stored.iter().map(|bytes| bytes.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX));
    pages.fold(0, u64::saturating_add)
}

/// A coded record takes at least half of what it takes in memory: whoever makes room for a layer's records is not misled
/// further than twice the file's size.
fn check_stored(layer: &RecordLayer) -> Result<(), Problem> {
    let fail = |what| Err(Problem::Records { layer: layer.layer, what });
    if !layer.is_coded() {
        return if layer.stored.is_empty() { Ok(()) } else { fail("stored sizes without a coded part") };
    }
    if layer.stored.len() != layer.xxh3.len() {
        return fail("not every record has a stored size");
    }
    let gaps = layer.stride - layer.parts.iter().map(|part| part.bytes).sum::<u64>();
    if gaps >= PAGE_BYTES + PART_ALIGN * MAX_PARTS as u64 {
        return fail("records in memory have holes");
    }
    let bounds = layer.parts.iter().map(|part| part.coding.bounds(part.dtype, part.bytes));
    let (least, most) = bounds.fold((0, 0u64), |(a, b), (least, most)| (a + least, b.saturating_add(most)));
    if layer.stored.iter().all(|bytes| (least..=most).contains(bytes)) {
        return Ok(());
    }
    fail("a record's stored size can't be that of its parts")
}

fn check_record(layer: &RecordLayer) -> Result<(), Problem> {
    let fail = |what| Err(Problem::Records { layer: layer.layer, what });
    limit("parts in a record", layer.parts.len(), MAX_PARTS)?;
    let mut end = 0;
    for part in &layer.parts {
        if size(part.dtype, &part.shape) != Some(part.bytes) {
            return fail("a part's size is not that of its shape");
        }
        if !part.offset.is_multiple_of(PART_ALIGN) || part.offset < end {
            return fail("parts overlap");
        }
        end = part.offset.saturating_add(part.bytes);
    }
    if end != layer.record_bytes {
        return fail("a record does not end with its last part");
    }
    Ok(())
}

/// Bytes of a tensor; `None` where dimensions are none, zero, too many or too large.
fn size(dtype: DType, shape: &[usize]) -> Option<u64> {
    let cols = shape.last()?;
    if shape.len() > MAX_DIMS || shape.contains(&0) || !cols.is_multiple_of(dtype.block_values()) {
        return None;
    }
    let n = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
    dtype.bytes_for(n).map(|bytes| bytes as u64)
}

fn limit(what: &'static str, got: usize, limit: usize) -> Result<(), Problem> {
    if got <= limit { Ok(()) } else { Err(Problem::TooMany { what, got, limit }) }
}
