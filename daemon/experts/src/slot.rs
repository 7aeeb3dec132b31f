//! Memory for one expert's record.
#![expect(unsafe_code, reason = "slots share a mapping")]

use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Weak};
use std::thread::Builder;

use memmap2::{Advice, MmapMut, MmapRaw};
use tracing::debug;

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

/// Memory that a thread gets from the system in one piece, in bytes: small enough that slots which are dropped meanwhile are
/// soon gone.
const GET_BYTES: usize = 64 << 20;

/// Gets the memory of `slots` from the system now, in a thread of its own, the last slots first, as they are taken. Else it
/// is the reader of the drive who clears each page when it writes it first: a sixth of its time on a virtual machine, while
/// the drive waits. Nothing waits for this, and what it can't get comes as it is written.
pub(crate) fn get_memory<'a>(slots: impl Iterator<Item = &'a Slot>) {
    let mut mappings: Vec<Weak<MmapRaw>> = Vec::new();
    for Slot { mapping, .. } in slots {
        if mappings.last().is_none_or(|last| last.as_ptr() != Arc::as_ptr(mapping)) {
            mappings.push(Arc::downgrade(mapping));
        }
    }
    let get = move || {
        for mapping in mappings.iter().rev() {
            let len = mapping.upgrade().map_or(0, |mapping| mapping.len());
            for from in (0..len).step_by(GET_BYTES).rev() {
                // Whoever held the slots has dropped them.
                let Some(mapping) = mapping.upgrade() else { break };
                let bytes = GET_BYTES.min(len - from);
                if let Err(error) = mapping.advise_range(Advice::PopulateWrite, from, bytes) {
                    // Linux before 5.14 can't.
                    return debug!(%error, "the slots' memory comes as it is written");
                }
            }
        }
    };
    if let Err(error) = Builder::new().name("experts-memory".to_owned()).spawn(get) {
        debug!(%error, "the slots' memory comes as it is written");
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

    #[test]
    fn memory_that_is_got_meanwhile_keeps_what_is_written() {
        let mut slots = Slot::many(3 << 20, 50).expect("memory");
        slots.extend(Slot::many(5000, 3).expect("memory"));
        get_memory(slots.iter());
        for (i, slot) in slots.iter_mut().enumerate() {
            slot.fill(i as u8 + 1);
        }
        assert!(slots.iter().enumerate().all(|(i, slot)| slot.iter().all(|&byte| byte == i as u8 + 1)));
    }
}
