//! What the drive gives at most: reads of one size at random places of the same file, past the page cache.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use serde::Serialize;

/// Offsets, sizes and memory of direct reads are multiples of this.
const PAGE_BYTES: usize = 4096;
/// Reads under way at once, each a thread's.
const DEPTHS: [usize; 4] = [1, 2, 4, 8];
/// For each depth.
const TIME: Duration = Duration::from_millis(900);

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Speed {
    pub(super) bytes_s: f64,
    /// The depth that was the fastest.
    pub(super) depth: usize,
}

/// The best of all depths.
///
/// # Errors
/// The file system knows no direct reads, or the file is smaller than a record.
pub(super) fn best(file: &Path, record_bytes: u64) -> Result<Speed> {
    let n_pages = usize::try_from(record_bytes)?.div_ceil(PAGE_BYTES);
    let mut best = Speed { bytes_s: 0.0, depth: 0 };
    for depth in DEPTHS {
        let bytes_s = measure(file, n_pages * PAGE_BYTES, depth)?;
        if bytes_s > best.bytes_s {
            best = Speed { bytes_s, depth };
        }
    }
    Ok(best)
}

fn measure(file: &Path, bytes: usize, depth: usize) -> Result<f64> {
    let start = Instant::now();
    let deadline = start + TIME;
    let counts: Vec<Result<usize>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..depth).map(|i| scope.spawn(move || read(file, bytes, i, deadline))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a reader does not panic")).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let n_reads: usize = counts.into_iter().sum::<Result<usize>>()?;
    Ok((n_reads * bytes) as f64 / seconds)
}

/// Reads until the deadline, at least once; how often.
fn read(path: &Path, bytes: usize, thread: usize, deadline: Instant) -> Result<usize> {
    let file = open(path)?;
    let n_places = (file.metadata()?.len() / PAGE_BYTES as u64).saturating_sub((bytes / PAGE_BYTES) as u64);
    ensure!(n_places > 0, "{} is smaller than a record", path.display());
    let mut memory = vec![0; bytes + PAGE_BYTES];
    let from = memory.as_ptr().align_offset(PAGE_BYTES);
    let slot = &mut memory[from..from + bytes];
    // Not the same places in every run: the host of a virtual machine may remember them.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut random = now.as_secs() ^ (u64::from(now.subsec_nanos()) << 32) ^ thread as u64;
    let mut n_reads = 0;
    while n_reads == 0 || Instant::now() < deadline {
        let place = next(&mut random) % n_places;
        file.read_exact_at(slot, place * PAGE_BYTES as u64)
            .with_context(|| format!("cannot read {} directly", path.display()))?;
        n_reads += 1;
    }
    Ok(n_reads)
}

fn open(path: &Path) -> Result<File> {
    let file = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(path);
    file.with_context(|| format!("cannot open {} for direct reads", path.display()))
}

/// SplitMix64. Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_records_of_the_file_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let deadline = Instant::now();
        file.as_file().set_len(2 * PAGE_BYTES as u64).unwrap();
        assert!(read(file.path(), 2 * PAGE_BYTES, 0, deadline).is_err());
        file.as_file().set_len(3 * PAGE_BYTES as u64).unwrap();
        // A folder for temporary files may be in memory, which some kernels do not read directly.
        if open(file.path()).is_ok() {
            assert_eq!(read(file.path(), 2 * PAGE_BYTES, 0, deadline).unwrap(), 1);
        }
    }

    #[test]
    fn places_are_spread() {
        let mut state = 1;
        let mut seen: Vec<u64> = (0..1000).map(|_| next(&mut state) % 10).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }
}
