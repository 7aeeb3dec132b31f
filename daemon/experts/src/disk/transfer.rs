//! What is the same for every disk: how an extent comes piece by piece, and how a read ends.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::{Done, Extent, Read, ReadError, Unpack};
use crate::PAGE_BYTES;

/// An extent on its way.
///
/// A read may bring less than was asked for, at the end of the file or anywhere else. What is missing is asked for again
/// from the last whole page on, as direct reads start on pages; a read that brings nothing new is the file's end.
#[derive(Debug)]
pub(super) struct Transfer {
    extent: Extent,
    /// Bytes that came.
    got: usize,
}

impl Transfer {
    pub(super) fn new(extent: Extent) -> Self {
        Self { extent, got: 0 }
    }

    pub(super) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// What to ask for next: an offset in the file, a place in the slot.
    pub(super) fn wanted(&self) -> (u64, Range<usize>) {
        let Extent { offset, at, bytes, .. } = self.extent;
        let have = self.whole_pages();
        (offset + have as u64, at + have..at + bytes)
    }

    /// Notes that `n` of the wanted bytes came; true if that was all.
    ///
    /// # Errors
    /// The file has ended.
    pub(super) fn came(&mut self, n: usize) -> Result<bool, ReadError> {
        let Extent { file, offset, needed, .. } = self.extent;
        let got = self.whole_pages() + n;
        let is_more = got > self.got;
        self.got = self.got.max(got);
        match got >= needed {
            true => Ok(true),
            false if is_more => Ok(false),
            false => Err(ReadError::Short { file, offset, got: self.got, needed }),
        }
    }

    fn whole_pages(&self) -> usize {
        self.got - self.got % PAGE_BYTES
    }
}

impl Read {
    /// Reads all extents one after the other by `read_at(file, offset, into)`, which gives the number of bytes that came,
    /// and ends the read.
    pub(super) fn carry_out(
        mut self,
        n_files: usize,
        mut read_at: impl FnMut(usize, u64, &mut [u8]) -> io::Result<usize>,
    ) -> Done {
        let came = self.check_shape(n_files).and_then(|()| {
            let (extents, slot) = (&self.extents, &mut self.slot);
            extents.iter().try_for_each(|&extent| fill(extent, slot, &mut read_at))
        });
        self.end(came, Instant::now())
    }

    /// Whether every extent and every part lies in the slot, and in a file that there is.
    ///
    /// # Errors
    /// One does not.
    pub(super) fn check_shape(&self, n_files: usize) -> Result<(), ReadError> {
        let slot_bytes = self.slot.len();
        let bad_extents = self.extents.iter().filter_map(|extent| bad_extent(extent, slot_bytes, n_files));
        let parts = self.check.iter().flat_map(|check| check.parts.iter());
        let is_bad = |part: &&Range<usize>| part.start > part.end || part.end > slot_bytes;
        let bad_parts = parts.filter(is_bad).map(|_| "a part of it ends outside the slot");
        bad_extents.chain(bad_parts).next().map_or(Ok(()), |what| Err(ReadError::Malformed { what }))
    }

    /// Ends the read: what came from the drive, at `ended`, is checked, unless something was wrong already.
    pub(super) fn end(self, came: Result<(), ReadError>, ended: Instant) -> Done {
        let Self { tag, slot, check, unpack, .. } = self;
        let checked = came.and_then(|()| check.map_or(Ok(()), |check| check.run(&slot)));
        let (slot, read, result) = match unpack {
            None => (slot, None, checked),
            Some(Unpack { mut into, decode }) => {
                let decoded = checked.and_then(|()| decode(&slot, &mut into).map_err(ReadError::Coding));
                (into, Some(slot), decoded)
            }
        };
        Done { tag, slot, read, result, ended }
    }
}

fn fill(
    extent: Extent,
    slot: &mut [u8],
    read_at: &mut impl FnMut(usize, u64, &mut [u8]) -> io::Result<usize>,
) -> Result<(), ReadError> {
    let mut transfer = Transfer::new(extent);
    loop {
        let (offset, into) = transfer.wanted();
        match read_at(extent.file, offset, &mut slot[into]) {
            Ok(n) if transfer.came(n)? => return Ok(()),
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause.into()),
        }
    }
}

fn bad_extent(extent: &Extent, slot_bytes: usize, n_files: usize) -> Option<&'static str> {
    let &Extent { file, offset, at, bytes, needed } = extent;
    let is_whole = |n: u64| n.is_multiple_of(PAGE_BYTES as u64);
    if file >= n_files {
        Some("its file was not opened")
    } else if ![offset, at as u64, bytes as u64].into_iter().all(is_whole) {
        Some("an extent is not of whole pages")
    } else if at.checked_add(bytes).is_none_or(|end| end > slot_bytes) {
        Some("an extent ends outside the slot")
    } else if bytes == 0 || needed > bytes {
        Some("an extent needs more than it asks for")
    } else if offset.checked_add(bytes as u64).is_none_or(|end| end > i64::MAX as u64) {
        Some("an extent ends beyond any file")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use weights::pack::Hash;

    use super::*;
    use crate::Slot;
    use crate::disk::Check;

    const EXTENT: Extent = Extent { file: 0, offset: 8192, at: 4096, bytes: 12288, needed: 9000 };

    #[test]
    fn what_is_missing_is_asked_for_from_the_last_whole_page() {
        let mut transfer = Transfer::new(EXTENT);
        assert_eq!(transfer.wanted(), (8192, 4096..16384));
        assert!(!transfer.came(5000).expect("more may come"));
        assert_eq!(transfer.wanted(), (12288, 8192..16384));
        assert!(transfer.came(4904).expect("9000 bytes"));
    }

    #[test]
    fn nothing_new_is_the_end_of_the_file() {
        let mut transfer = Transfer::new(EXTENT);
        assert!(!transfer.came(5000).expect("more may come"));
        let error = transfer.came(904).expect_err("the same page again");
        assert!(
            matches!(error, ReadError::Short { file: 0, offset: 8192, got: 5000, needed: 9000 }),
            "{error}"
        );
        let error = Transfer::new(EXTENT).came(0).expect_err("nothing");
        assert!(matches!(error, ReadError::Short { got: 0, .. }), "{error}");
    }

    #[test]
    fn reads_that_do_not_fit_are_refused() {
        let read = |extents: &[Extent], parts: Vec<Range<usize>>| {
            let slot = Slot::new(16384).expect("memory");
            let check = Some(Check { parts: parts.into(), want: Hash(0) });
            Read { tag: 0, extents: extents.into(), slot, check, unpack: None }.check_shape(1)
        };
        read(&[EXTENT], vec![0..16384, 16384..16384]).expect("fits exactly");
        for extent in [
            Extent { file: 1, ..EXTENT },
            Extent { offset: 1, ..EXTENT },
            Extent { at: 8192, ..EXTENT },
            Extent { at: usize::MAX - 4095, ..EXTENT },
            Extent { bytes: 12289, ..EXTENT },
            Extent { needed: 12289, ..EXTENT },
            Extent { bytes: 0, needed: 0, ..EXTENT },
            Extent { offset: u64::MAX - 4095, ..EXTENT },
        ] {
            let error = read(&[EXTENT, extent], vec![]).expect_err("does not fit");
            assert!(matches!(error, ReadError::Malformed { .. }), "{extent:?}: {error}");
        }
        for part in [0..16385, Range { start: 2, end: 1 }] {
            read(&[EXTENT], vec![part]).expect_err("a part outside");
        }
    }
}
