//! Memory mapping: the only unsafe code of the crate.
#![expect(unsafe_code, reason = "memory mapping")]

use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::Error;
use crate::files::DataFile;

/// Maps a whole file read-only.
///
/// Model files are installed once and never written again (packs appear by an atomic rename), which is what makes a
/// shared slice over them sound. A file that is truncated while mapped gives SIGBUS on access, not wrong data.
pub(crate) fn map(file: &DataFile) -> Result<Mmap, Error> {
    // SAFETY: the file is a regular file opened read-only; nothing in this process writes model files in place, and
    // packs are replaced by rename, which leaves the mapped inode untouched.
    let mapped = unsafe { Mmap::map(&file.file) };
    mapped.map_err(Error::io(&file.path, "map"))
}

/// Lets the pages go that lie whole within a range: they are read from the file again when they are touched. A hint.
pub(crate) fn let_go(map: &Mmap, start: usize, bytes: usize) {
    let first = start.next_multiple_of(PAGE_BYTES);
    let end = (start + bytes) / PAGE_BYTES * PAGE_BYTES;
    if first < end {
        // SAFETY: the map is shared and read-only, so that what comes back is what was there: the file's bytes.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, end - first) };
    }
}

/// Brings a range into memory, and into the process's pages: what is read there later costs no fault. False where the system
/// can't (Linux before 5.14) or the file has shrunk.
pub(crate) fn bring_in(map: &Mmap, start: usize, bytes: usize) -> bool {
    map.advise_range(Advice::PopulateRead, start, bytes).is_ok()
}

/// A whole number of pages on every machine we know.
const PAGE_BYTES: usize = 64 << 10;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("models are mapped whole: a 64-bit address space is needed");
