//! The drive that a file lies on: how far the kernel reads ahead on it, and how much has been read from it.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::stat::{major, minor};

use crate::console;

/// What the kernel counts in, whatever the drive.
const SECTOR_BYTES: u64 = 512;

/// A drive, or the part of it that holds the file system.
#[derive(Debug)]
pub(super) struct Drive {
    /// Its folder below /sys.
    folder: PathBuf,
    /// `queue/read_ahead_kb`.
    read_ahead: PathBuf,
}

/// A read-ahead set for a while: what it was comes back when this is dropped.
#[derive(Debug)]
pub(super) struct ReadAhead<'a> {
    drive: &'a Drive,
    before_kib: u64,
}

impl Drive {
    /// The drive of a file.
    ///
    /// # Errors
    /// The file is on none, but in an overlay, in memory, on the network or on several drives.
    pub(super) fn of(file: &Path) -> Result<Self> {
        let meta = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (major, minor) = (major(meta.st_dev()), minor(meta.st_dev()));
        let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"));
        let folder = folder.with_context(|| {
            format!("{} lies on no single drive (device {major}:{minor})", file.display())
        })?;
        Self::in_folder(folder)
    }

    /// A partition reads ahead as its drive does.
    fn in_folder(folder: PathBuf) -> Result<Self> {
        let whole = folder.parent().unwrap_or(&folder);
        let queues = [folder.join("queue"), whole.join("queue")];
        let queue = queues.iter().find(|queue| queue.is_dir());
        let read_ahead = queue.with_context(|| format!("{} has no queue", folder.display()))?;
        Ok(Self { read_ahead: read_ahead.join("read_ahead_kb"), folder })
    }

    /// In KiB.
    pub(super) fn read_ahead_kib(&self) -> Result<u64> {
        let text = fs::read_to_string(&self.read_ahead);
        let text = text.with_context(|| format!("cannot read {}", self.read_ahead.display()))?;
        text.trim().parse().context("the read-ahead is no number")
    }

    /// Has files that are opened from now on read ahead by so many KiB.
    ///
    /// # Errors
    /// Only root may.
    pub(super) fn set_read_ahead(&self, kib: u64) -> Result<ReadAhead<'_>> {
        let before_kib = self.read_ahead_kib()?;
        self.write(kib)?;
        Ok(ReadAhead { drive: self, before_kib })
    }

    fn write(&self, kib: u64) -> Result<()> {
        let path = &self.read_ahead;
        let write = fs::write(path, kib.to_string());
        write.with_context(|| format!("cannot set {} to {kib}; run as root", path.display()))
    }

    /// Bytes read from it since the machine was started, by everybody.
    pub(super) fn read_bytes(&self) -> Result<u64> {
        let text =
            fs::read_to_string(self.folder.join("stat")).context("cannot read the drive's counters")?;
        let sectors = text.split_whitespace().nth(2).and_then(|sectors| sectors.parse::<u64>().ok());
        Ok(sectors.context("the drive's counters are not as expected")? * SECTOR_BYTES)
    }
}

impl Drop for ReadAhead<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.drive.write(self.before_kib) {
            console::note(format_args!("{error:#}: its read-ahead was {} KiB", self.before_kib));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drive with a partition, as /sys shows them.
    fn sys() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (queue, part) = (folder.path().join("sda/queue"), folder.path().join("sda/sda1"));
        fs::create_dir_all(&queue).unwrap();
        fs::create_dir(&part).unwrap();
        fs::write(queue.join("read_ahead_kb"), "8192\n").unwrap();
        fs::write(part.join("stat"), "    10  2  16  5 0 0 0 0\n").unwrap();
        (folder, part)
    }

    #[test]
    fn the_read_ahead_comes_back() {
        let (_folder, part) = sys();
        let drive = Drive::in_folder(part).unwrap();
        let set = drive.set_read_ahead(128).unwrap();
        assert_eq!(drive.read_ahead_kib().unwrap(), 128);
        drop(set);
        assert_eq!(drive.read_ahead_kib().unwrap(), 8192);
    }

    #[test]
    fn bytes_are_counted_of_the_partition() {
        let (_folder, part) = sys();
        assert_eq!(Drive::in_folder(part).unwrap().read_bytes().unwrap(), 16 * 512);
    }

    #[test]
    fn a_file_in_memory_is_on_no_drive() {
        assert!(Drive::of(Path::new("/proc/self/status")).is_err());
    }
}
