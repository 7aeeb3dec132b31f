//! Memory for one expert's record.
#![expect(unsafe_code, reason = "slots share a mapping")]

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use memmap2::{Advice, MmapMut, MmapRaw};

use crate::Error;

/// Alignment of addresses, offsets and lengths that every drive accepts for direct reads, in bytes.
pub const PAGE_BYTES: usize = 4096;

/// Page-aligned memory of its own. Whoever holds it may write it: a read takes it along and brings it back.
#[derive(Debug)]
pub struct Slot {
    mapping: Arc<MmapRaw>,
    /// Of the mapping, what no other slot has.
    place: Range<usize>,
    /// Its memory is the cache's only between long steps.
    is_lent: bool,
}

impl Slot {
    /// At least `bytes`, in whole pages. The system gives pages as they are written.
    ///
    /// # Errors
    /// The system has no address space left.
    pub fn new(bytes: usize) -> Result<Self, Error> {
        Ok(Self::many(bytes, 1)?.pop().expect("one was asked for"))
    }

    /// The same `n` times, one next to the other, on huge pages where the system has some to give: those reach over the
    /// slots' borders. A drive fills a record of 5 MB in three pieces then; in small pages, which lie anywhere, it has 1280,
    /// and a virtual drive gave a third of its speed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn many(bytes: usize, n: usize) -> Result<Vec<Self>, Error> {
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES);
        if n == 0 {
            return Ok(Vec::new());
        }
        let mapping =
            MmapMut::map_anon(bytes * n).map_err(|cause| Error::Memory { bytes: bytes * n, cause })?;
        // A hint: small pages are right, too.
        let _ = mapping.advise(Advice::HugePage);
        let mapping = Arc::new(MmapRaw::from(mapping));
        let slot =
            |i| Self { mapping: Arc::clone(&mapping), place: i * bytes..(i + 1) * bytes, is_lent: false };
        Ok((0..n).map(slot).collect())
    }

    /// The same, on loan. They have a mapping of their own, which goes with the last of them.
    pub(crate) fn many_lent(bytes: usize, n: usize) -> Result<Vec<Self>, Error> {
        let slots = Self::many(bytes, n)?;
        Ok(slots.into_iter().map(|slot| Self { is_lent: true, ..slot }).collect())
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.is_lent
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the place lies in the mapping, which lives as long as the slot, and no other slot has it: whoever borrows
        // this slot borrows the place.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().add(self.place.start), self.place.len()) }
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe {
            std::slice::from_raw_parts_mut(self.mapping.as_mut_ptr().add(self.place.start), self.place.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_whole_pages_that_no_other_has() {
        let mut slots = Slot::many(5000, 3).expect("memory");
        for (i, slot) in slots.iter_mut().enumerate() {
            assert_eq!((slot.len(), slot.as_ptr().align_offset(PAGE_BYTES)), (2 * PAGE_BYTES, 0));
            slot.fill(i as u8 + 1);
        }
        let last = slots.pop().expect("three slots");
        drop(slots);
        assert!(last.iter().all(|&byte| byte == 3), "memory stays as long as one of the slots");
        assert!(Slot::many(5000, 0).expect("no memory").is_empty());
    }
}
