//! The table of tensors: what each is called and where its bytes lie.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use tensor::{DType, Layout, SCALE_BLOCK};

use crate::ExpertKey;
use crate::expert::parse_stacked;

/// Experts a stacked tensor may hold.
const MAX_EXPERTS: usize = 4096;
/// Tensors of a model, each expert's counted; R1 in FP8 has some 90,000.
const MAX_TENSORS: usize = 1 << 20;

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// GGUF's name.
    pub(crate) name: String,
    /// The name in the source file.
    pub(crate) published: String,
    pub(crate) dtype: DType,
    /// Outermost dimension first.
    pub(crate) shape: Vec<usize>,
    /// Order of the bytes.
    pub(crate) layout: Layout,
    /// Index into the source's files.
    pub(crate) file: usize,
    /// From the start of that file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// Index of the tensor with this one's block scales.
    pub(crate) scale: Option<usize>,
}

/// What can't go into the table.
#[derive(Debug, PartialEq)]
pub(crate) enum Conflict {
    /// The name is taken.
    Duplicate { tensor: String },
    /// FP8 without scales, or with scales of another shape.
    Scale { tensor: String, got: Vec<usize>, want: Vec<usize> },
    /// FP8 scales that are not F32.
    ScaleType { tensor: String, dtype: DType },
    /// A stack of experts beyond any real model.
    Experts { tensor: String, got: usize },
    /// More tensors than any real model has.
    TooMany { tensor: String },
}

/// All tensors of a model, by index and by name.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

impl Catalogue {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.find(name).map(|i| &self.entries[i])
    }

    /// Adds a tensor; a stack of experts `[n_experts, rows, cols]` becomes one tensor per expert.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<(), Conflict> {
        match (parse_stacked(&entry.name), entry.shape.as_slice()) {
            (Some((layer, part)), &[n_experts, rows, cols]) => {
                if n_experts > MAX_EXPERTS {
                    return Err(Conflict::Experts { tensor: entry.published, got: n_experts });
                }
                let bytes = entry.bytes / n_experts as u64;
                (0..n_experts as u32).try_for_each(|expert| {
                    self.add_one(Entry {
                        name: ExpertKey { layer, expert }.tensor_name(part),
                        published: entry.published.clone(),
                        shape: vec![rows, cols],
                        offset: entry.offset + u64::from(expert) * bytes,
                        bytes,
                        ..entry
                    })
                })
            }
            _ => self.add_one(entry),
        }
    }

    fn add_one(&mut self, entry: Entry) -> Result<(), Conflict> {
        if self.entries.len() == MAX_TENSORS {
            return Err(Conflict::TooMany { tensor: entry.name });
        }
        match self.by_name.entry(entry.name.clone()) {
            Slot::Occupied(_) => Err(Conflict::Duplicate { tensor: entry.name }),
            Slot::Vacant(slot) => {
                slot.insert(self.entries.len());
                self.entries.push(entry);
                Ok(())
            }
        }
    }

    /// Ties every FP8 tensor `X.weight` to its scales `X.weight_scale_inv`.
    pub(crate) fn link_scales(&mut self) -> Result<(), Conflict> {
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            if entry.dtype != DType::F8E4M3 {
                continue;
            }
            let want: Vec<usize> = match entry.shape[..] {
                [rows, cols] => vec![rows.div_ceil(SCALE_BLOCK), cols.div_ceil(SCALE_BLOCK)],
                _ => Vec::new(),
            };
            let name = format!("{}_scale_inv", entry.name);
            let scale = self.find(&name);
            let got = scale.map(|s| self.entries[s].shape.clone()).unwrap_or_default();
            match scale {
                Some(s) if self.entries[s].dtype != DType::F32 => {
                    return Err(Conflict::ScaleType { tensor: name, dtype: self.entries[s].dtype });
                }
                Some(_) if got == want => self.entries[i].scale = scale,
                _ => return Err(Conflict::Scale { tensor: name, got, want }),
            }
        }
        Ok(())
    }
}
