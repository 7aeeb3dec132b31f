//! The drive that models lie on: what it is, and how fast it reads at which depth.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use experts::disk::{Load, Method, measure};
use nix::sys::stat::{major, minor};
use serde::Serialize;

use crate::block;
use crate::tree::{entries, number, words};

/// Longest measurement.
const BUDGET: Duration = Duration::from_secs(4);
/// A read: some megabytes are what an expert of a large model has.
const READ_BYTES: usize = 4 << 20;
/// A smaller file says nothing of a drive.
const FILE_BYTES_MIN: u64 = 4 << 20;
/// The system counts in these, whatever the drive's own are.
const SECTOR_BYTES: i64 = 512;

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Drive {
    /// The system's name of it: `nvme0n1`.
    pub(super) device: Option<String>,
    pub(super) model: Option<String>,
    pub(super) bytes: Option<i64>,
    #[serde(skip)]
    pub(super) folder: Option<PathBuf>,
}

impl Drive {
    /// The drive that `path` is on. Nothing is known of it where the file system has no device of its own.
    pub(super) fn of(root: &Path, path: &Path) -> Self {
        let device = fs::metadata(path).map(|metadata| metadata.dev());
        device.map_or_else(|_| Self::default(), |device| Self::of_device(root, major(device), minor(device)))
    }

    fn of_device(root: &Path, major: u64, minor: u64) -> Self {
        let Some(folder) = block::drive(root, major, minor) else { return Self::default() };
        Self {
            device: folder.file_name().map(|name| name.to_string_lossy().into_owned()),
            model: words(&folder.join("device/model")),
            bytes: number(&folder.join("size")).and_then(|sectors| sectors.checked_mul(SECTOR_BYTES)),
            folder: Some(folder),
        }
    }
}

/// How fast reads of a file are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Reads {
    /// Bytes of a read.
    pub(super) read_bytes: usize,
    /// By reads at once.
    pub(super) depths: Vec<Depth>,
    /// The best of them.
    pub(super) bytes_s: f64,
}

/// How fast with so many reads at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Depth {
    pub(super) depth: usize,
    /// `pread` or `uring`, whichever was faster.
    pub(super) method: &'static str,
    pub(super) bytes_s: f64,
}

/// Measures with the largest file of a model; in words why not.
pub(super) fn reads(pack: &Path) -> Result<Reads, String> {
    let (file, bytes) = largest(pack).ok_or_else(|| format!("{} has no file to read", pack.display()))?;
    if bytes < FILE_BYTES_MIN {
        return Err("the model is too small to say anything of the drive".into());
    }
    let load = Load { record_bytes: READ_BYTES, is_checked: false };
    let measured = measure(&file, load, BUDGET).map_err(|error| error.to_string())?;
    let mut depths: Vec<Depth> = Vec::new();
    for speed in &measured.speeds {
        let method = if speed.choice.method == Method::Uring { "uring" } else { "pread" };
        let this = Depth { depth: speed.choice.depth, method, bytes_s: speed.bytes_per_s };
        match depths.iter_mut().find(|depth| depth.depth == this.depth) {
            Some(other) if other.bytes_s < this.bytes_s => *other = this,
            Some(_) => {}
            None => depths.push(this),
        }
    }
    Ok(Reads { read_bytes: READ_BYTES, depths, bytes_s: measured.bytes_per_s() })
}

/// The largest file of a model, and its size.
fn largest(pack: &Path) -> Option<(PathBuf, u64)> {
    let files = if pack.is_file() { vec![pack.to_owned()] } else { entries(pack, |_| true) };
    let sized = files.into_iter().filter_map(|file| {
        let metadata = fs::metadata(&file).ok().filter(fs::Metadata::is_file)?;
        Some((file, metadata.len()))
    });
    sized.max_by_key(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::sensors::tests::plant;
    use super::*;

    #[test]
    fn a_partition_behind_encryption_is_on_its_drive() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        plant(
            root,
            &[
                ("sys/devices/pci0/nvme0/model", "Fast Drive 2TB   \n"),
                ("sys/devices/pci0/nvme0/nvme0n1/size", "4000797360\n"),
                ("sys/devices/pci0/nvme0/nvme0n1/nvme0n1p5/partition", "5\n"),
                ("sys/devices/virtual/block/dm-0/size", "100\n"),
            ],
        );
        let drive = root.join("sys/devices/pci0/nvme0/nvme0n1");
        symlink("..", drive.join("device")).unwrap();
        let mapped = root.join("sys/devices/virtual/block/dm-0");
        fs::create_dir_all(mapped.join("slaves")).unwrap();
        symlink(drive.join("nvme0n1p5"), mapped.join("slaves/nvme0n1p5")).unwrap();
        fs::create_dir_all(root.join("sys/dev/block")).unwrap();
        symlink(&mapped, root.join("sys/dev/block/253:0")).unwrap();
        symlink(&drive, root.join("sys/dev/block/259:0")).unwrap();
        for (major, minor) in [(253, 0), (259, 0)] {
            let found = Drive::of_device(root, major, minor);
            assert_eq!(found.device.as_deref(), Some("nvme0n1"));
            assert_eq!(found.model.as_deref(), Some("Fast Drive 2TB"));
            assert_eq!(found.bytes, Some(2_048_408_248_320));
        }
        assert_eq!(Drive::of_device(root, 0, 31), Drive::default());
    }

    #[test]
    fn each_depth_is_measured_once_with_the_faster_way() {
        let dir = tempfile::tempdir().unwrap();
        assert!(reads(dir.path()).unwrap_err().contains("no file"));
        fs::write(dir.path().join("pack.json"), "{}").unwrap();
        assert!(reads(dir.path()).unwrap_err().contains("too small"));
        fs::write(dir.path().join("dense.bin"), vec![7; 9 << 20]).unwrap();
        let reads = reads(dir.path()).unwrap();
        let depths: Vec<_> = reads.depths.iter().map(|depth| depth.depth).collect();
        assert_eq!(depths, [1, 2, 4, 8, 16]);
        assert!(reads.bytes_s > 0.0 && reads.depths.iter().all(|depth| depth.bytes_s > 0.0));
    }
}
