//! What every token needs, read into memory of its own; routed experts stay where they are.
//!
//! A mapped file takes part in the system's page cache: it may be dropped when memory is short, and a file that is cut
//! while mapped kills the process. Memory of its own has neither surprise.

use std::os::unix::fs::FileExt;

use memmap2::{Advice, Mmap, MmapMut};

use crate::expert::ExpertKey;
use crate::files::DataFile;
use crate::source::Source;
use crate::{Error, Progress, Stage};

/// Tensors start on multiples of this: a cache line.
const TENSOR_ALIGN: usize = 64;
/// Bytes read at once.
const CHUNK_BYTES: usize = 8 << 20;

/// Copies of the tensors that are not of routed experts.
#[derive(Debug)]
pub(crate) struct Resident {
    memory: Mmap,
    /// Of each tensor, where it starts in the memory; `None` for routed experts.
    starts: Vec<Option<usize>>,
}

impl Resident {
    /// Reads them.
    pub(crate) fn load(source: &Source, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Self, Error> {
        let entries = source.catalogue.entries();
        let (mut starts, mut total) = (Vec::with_capacity(entries.len()), 0);
        for entry in entries {
            let routed = ExpertKey::parse(&entry.name).is_some();
            starts.push((!routed).then_some(total));
            if !routed {
                total += (entry.bytes as usize).next_multiple_of(TENSOR_ALIGN);
            }
        }
        let no_memory = |cause| Error::Memory { bytes: total as u64, cause };
        let mut memory = MmapMut::map_anon(total.max(1)).map_err(no_memory)?;
        // A hint: small pages are right, too.
        let _ = memory.advise(Advice::HugePage);
        let (mut bytes_done, bytes_total) = (0, total as u64);
        for (entry, start) in entries.iter().zip(&starts) {
            let Some(start) = *start else { continue };
            let target = &mut memory[start..start + entry.bytes as usize];
            read(&source.files[entry.file], entry.offset, target)?;
            bytes_done += entry.bytes;
            progress(Progress { stage: Stage::Load, bytes_done, bytes_total, item: &entry.name });
        }
        source.files.iter().for_each(|file| file.let_go(0, 0));
        let memory = memory.make_read_only().map_err(no_memory)?;
        Ok(Self { memory, starts })
    }

    /// The bytes of the tensor at `index`; empty for a routed expert's.
    pub(crate) fn bytes(&self, index: usize, bytes: usize) -> &[u8] {
        self.starts[index].map_or(&[], |start| &self.memory[start..start + bytes])
    }
}

/// Reads a tensor and tells the system that the file's pages are not wanted any more.
fn read(file: &DataFile, offset: u64, target: &mut [u8]) -> Result<(), Error> {
    for (i, chunk) in target.chunks_mut(CHUNK_BYTES).enumerate() {
        let at = offset + (i * CHUNK_BYTES) as u64;
        file.file.read_exact_at(chunk, at).map_err(Error::io(&file.path, "read"))?;
        file.let_go(at, chunk.len());
    }
    Ok(())
}
