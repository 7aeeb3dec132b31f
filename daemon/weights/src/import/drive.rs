//! A short look at the drive: how fast a file of it is read, past the system's cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use nix::libc::O_DIRECT;

/// Bytes of a read: large drives' rates do not grow beyond.
const READ_BYTES: u64 = 4 << 20;
/// Reads under way at once.
const DEPTH: u64 = 4;
/// The measurement ends here if it has not read the whole file before.
const TIME: Duration = Duration::from_millis(700);

/// Bytes a second that direct reads of `path`, spread over all of it, bring. `None` where the file is too short to say, or
/// its file system has no direct reads.
///
/// # Errors
/// A read fails.
pub(super) fn read_rate(path: &Path) -> io::Result<Option<f64>> {
    let opened = OpenOptions::new().read(true).custom_flags(O_DIRECT).open(path);
    let file = match opened {
        Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        other => other?,
    };
    let n_reads = file.metadata()?.len() / READ_BYTES;
    if n_reads < 2 * DEPTH {
        return Ok(None);
    }
    let (next, start) = (AtomicU64::new(0), Instant::now());
    let read = || read_some(&file, &next, n_reads, start);
    let bytes = thread::scope(|scope| {
        let threads: Vec<_> = (0..DEPTH).map(|_| scope.spawn(read)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("reading does not panic"))
            .sum::<io::Result<u64>>()
    })?;
    Ok(Some(bytes as f64 / start.elapsed().as_secs_f64()))
}

/// Takes reads until the time is up or there are none; returns the bytes read.
fn read_some(file: &File, next: &AtomicU64, n_reads: u64, start: Instant) -> io::Result<u64> {
    // A map is page-aligned, as direct reads ask.
    let mut buffer = MmapMut::map_anon(READ_BYTES as usize)?;
    let mut bytes = 0;
    while start.elapsed() < TIME {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i >= n_reads {
            break;
        }
        // Even ones forwards, odd ones from the end: the file's parts may lie apart.
        let i = if i.is_multiple_of(2) { i / 2 } else { n_reads - 1 - i / 2 };
        file.read_exact_at(&mut buffer, i * READ_BYTES)?;
        bytes += READ_BYTES;
    }
    Ok(bytes)
}
