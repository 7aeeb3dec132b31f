//! Files, reads of them, and what has to come.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use experts::disk::{Check, Disk, Done, Extent, PreadPool, Read, Uring};
use experts::{Error, PAGE_BYTES, Slot};
use weights::pack::Hash;

/// Bytes that are different everywhere, another file for each `seed`.
pub(crate) fn content(seed: u64, n_bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut bytes: Vec<u8> =
        std::iter::repeat_with(|| word().to_le_bytes()).take(n_bytes.div_ceil(4)).flatten().collect();
    bytes.truncate(n_bytes);
    bytes
}

/// A folder on the drive, not in memory as /tmp may be: reads are direct.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("writes");
    path
}

/// Every method there is, by name. Where io_uring is missing, that is said, and has to be for a reason we know.
pub(crate) fn disks(paths: &[PathBuf], depth: usize) -> Vec<(&'static str, Box<dyn Disk>)> {
    let mut disks: Vec<(_, Box<dyn Disk>)> =
        vec![("pread", Box::new(PreadPool::open(paths, depth).expect("opens")))];
    disks.extend(uring(paths, depth).map(|disk| ("io_uring", Box::new(disk) as Box<dyn Disk>)));
    disks
}

pub(crate) fn uring(paths: &[PathBuf], depth: usize) -> Option<Uring> {
    let (eperm, enosys) = (1, 38);
    match Uring::open(paths, depth) {
        Ok(uring) => Some(uring),
        Err(Error::NoUring { cause }) => {
            let errno = cause.raw_os_error();
            assert!(
                [Some(eperm), Some(enosys)].contains(&errno),
                "another reason than the documented ones: {cause}"
            );
            // Past the runner, which hides what passing tests print.
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                let note = format!("NOT TESTED: io_uring is not available here: {cause}\n");
                std::io::stderr().write_all(note.as_bytes()).expect("stderr");
            });
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// `n_bytes` from `offset` on, of a file of `file_bytes`, to the slot's start.
pub(crate) fn extent(file: usize, offset: u64, n_bytes: usize, file_bytes: usize) -> Extent {
    let bytes = n_bytes.next_multiple_of(PAGE_BYTES);
    Extent { file, offset, at: 0, bytes, needed: bytes.min(file_bytes - offset as usize) }
}

pub(crate) fn read(tag: u64, extents: &[Extent], check: Option<Check>) -> Read {
    let bytes = extents.iter().map(|extent| extent.at + extent.bytes).max().unwrap_or(0);
    Read { tag, extents: Arc::from(extents), slot: Slot::new(bytes).expect("memory"), check, unpack: None }
}

/// The checksum of the record whose parts lie there in these bytes.
pub(crate) fn check(bytes: &[u8], parts: &[Range<usize>]) -> Check {
    let hashes: Vec<_> = parts.iter().map(|part| Hash::of(&bytes[part.clone()])).collect();
    Check { parts: Arc::from(parts), want: Hash::of_parts(&hashes) }
}

/// Everything that is under way.
pub(crate) fn drain(disk: &mut dyn Disk) -> Vec<Done> {
    std::iter::from_fn(|| disk.next(true)).collect()
}
