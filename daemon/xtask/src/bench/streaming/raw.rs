//! What the drive gives at most: reads of one size at random places of the same file, past the page cache, into huge pages
//! where the system has some. Into small ones a virtual drive was seen to give less than half: each is a request's segment.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memmap2::{Advice, MmapMut};
use nix::fcntl::OFlag;
use serde::Serialize;

use crate::bench::table::median;

/// Offsets, sizes and memory of direct reads are multiples of this.
const PAGE_BYTES: usize = 4096;
/// What is read to: as whoever keeps records, not always the same few lines of the processor's cache.
const MEMORY_BYTES: usize = 256 << 20;
/// Reads under way at once, each a thread's.
const DEPTHS: [usize; 4] = [1, 2, 4, 8];
/// Rounds over all depths, and the time of a depth in each: what else goes on in the machine falls on all alike.
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_millis(300);

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Speed {
    pub(super) bytes_s: f64,
    /// The depth that was the fastest.
    pub(super) depth: usize,
}

/// The best of all depths, each the median of its rounds.
///
/// # Errors
/// The file system knows no direct reads, or the file is smaller than a record.
pub(super) fn best(file: &Path, record_bytes: u64) -> Result<Speed> {
    let bytes = usize::try_from(record_bytes)?.next_multiple_of(PAGE_BYTES);
    let mut memory = MmapMut::map_anon(MEMORY_BYTES.max(DEPTHS[DEPTHS.len() - 1] * bytes))
        .context("no memory to read into")?;
    // A hint: small pages are right, too.
    let _ = memory.advise(Advice::HugePage);
    // The system gives pages as they are written: not while the clock runs.
    memory.fill(0);
    let mut speeds = [const { Vec::new() }; DEPTHS.len()];
    for _ in 0..ROUNDS {
        for (depth, speeds) in DEPTHS.into_iter().zip(&mut speeds) {
            speeds.push(measure(file, &mut memory, bytes, depth)?);
        }
    }
    let speed = |(depth, speeds): (usize, Vec<f64>)| Speed { bytes_s: median(speeds.into_iter()), depth };
    let speeds = DEPTHS.into_iter().zip(speeds).map(speed);
    Ok(speeds.max_by(|a, b| a.bytes_s.total_cmp(&b.bytes_s)).expect("some depths"))
}

fn measure(file: &Path, memory: &mut [u8], bytes: usize, depth: usize) -> Result<f64> {
    let start = Instant::now();
    let deadline = start + TIME;
    let counts: Vec<Result<usize>> = thread::scope(|scope| {
        let own = memory.chunks_exact_mut(memory.len() / bytes / depth * bytes).take(depth);
        let threads: Vec<_> = own.map(|own| scope.spawn(move || read(file, own, bytes, deadline))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a reader does not panic")).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let n_reads: usize = counts.into_iter().sum::<Result<usize>>()?;
    Ok((n_reads * bytes) as f64 / seconds)
}

/// Reads until the deadline, at least once, into one part of the memory after the other; how often.
fn read(path: &Path, memory: &mut [u8], bytes: usize, deadline: Instant) -> Result<usize> {
    let file = open(path)?;
    let n_places = (file.metadata()?.len() / PAGE_BYTES as u64).saturating_sub((bytes / PAGE_BYTES) as u64);
    ensure!(n_places > 0, "{} is smaller than a record", path.display());
    // Not the same places in every run: the host of a virtual machine may remember them.
    let mut random = RandomState::new().hash_one(path);
    let mut n_reads = 0;
    while n_reads == 0 || Instant::now() < deadline {
        let place = next(&mut random) % n_places;
        let slot = n_reads % (memory.len() / bytes) * bytes;
        file.read_exact_at(&mut memory[slot..slot + bytes], place * PAGE_BYTES as u64)
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
        let mut memory = MmapMut::map_anon(6 * PAGE_BYTES).unwrap();
        assert!(read(file.path(), &mut memory, 2 * PAGE_BYTES, deadline).is_err());
        file.as_file().set_len(3 * PAGE_BYTES as u64).unwrap();
        // A folder for temporary files may be in memory, which some kernels do not read directly.
        if open(file.path()).is_ok() {
            assert_eq!(read(file.path(), &mut memory, 2 * PAGE_BYTES, deadline).unwrap(), 1);
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
