//! The drive that the box started from: found by what runs, not by a name that a stick could have, too.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::stat::{major, minor};

use crate::{block, stick};

/// Name of the boot partition.
const BOOT: &str = "wels-esp";

/// The drive, its boot partition mounted where no path leads.
pub(super) struct Drive {
    disk: PathBuf,
    mounted: OwnedFd,
    boot: PathBuf,
}

impl Drive {
    /// From the root file system down to the drive: `/` -> dm-verity -> partition -> drive -> its boot partition.
    pub(super) fn find() -> Result<Self> {
        let root = fs::metadata("/").context("cannot look at /")?.dev();
        let disk = block::drive(Path::new("/"), major(root), minor(root)).context("/ is on no drive")?;
        let boot = boot_partition(&disk)?;
        let mounted = stick::mount(&boot, "vfat", stick::Access::Write)
            .with_context(|| format!("cannot mount the boot partition {}", boot.display()))?;
        let boot = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
        Ok(Self { disk: node(&disk)?, mounted, boot })
    }

    pub(super) fn disk(&self) -> &Path {
        &self.disk
    }

    /// The root of the boot partition.
    pub(super) fn boot(&self) -> &Path {
        &self.boot
    }

    /// All is on the drive.
    pub(super) fn leave(self) -> Result<()> {
        rustix::fs::syncfs(&self.mounted).context("cannot write the boot partition")
    }
}

fn boot_partition(disk: &Path) -> Result<PathBuf> {
    let parts = fs::read_dir(disk).with_context(|| format!("cannot list {}", disk.display()))?;
    let is_boot = |path: &Path| {
        let facts = fs::read_to_string(path.join("uevent")).unwrap_or_default();
        facts.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(BOOT))
    };
    let found = parts.flatten().map(|entry| entry.path()).find(|path| is_boot(path));
    node(&found.with_context(|| format!("{} has no partition {BOOT}", disk.display()))?)
}

/// `/sys/…/vda1` -> `/dev/vda1`.
fn node(device: &Path) -> Result<PathBuf> {
    let path = Path::new("/dev").join(device.file_name().context("a device has a name")?);
    File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(path)
}
