//! Memory for one expert's record.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

use crate::Error;

/// Alignment of addresses, offsets and lengths that every drive accepts for direct reads, in bytes.
pub const PAGE_BYTES: usize = 4096;

/// Page-aligned memory of its own, on huge pages where the system has some to give. Whoever holds it may write it: a read
/// takes it along and brings it back.
#[derive(Debug)]
pub struct Slot {
    memory: MmapMut,
}

impl Slot {
    /// At least `bytes`, in whole pages. The system gives pages as they are written.
    ///
    /// # Errors
    /// The system has no address space left.
    pub fn new(bytes: usize) -> Result<Self, Error> {
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES);
        let memory = MmapMut::map_anon(bytes).map_err(|cause| Error::Memory { bytes, cause })?;
        // A hint: small pages are right, too.
        let _ = memory.advise(Advice::HugePage);
        Ok(Self { memory })
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}
