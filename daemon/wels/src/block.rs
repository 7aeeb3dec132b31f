//! Which drive a file system is on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::tree::entries;

/// Layers of block devices on top of a drive, such as encryption and checksums, that are looked through.
const LAYERS_MAX: usize = 4;

/// The system's folder of the drive that a block device is on, whatever lies between: partitions, and devices that are mapped to
/// them. A device on several drives stays what it is. `root` is `/`; `None` where there is no such device.
pub(crate) fn drive(root: &Path, major: u64, minor: u64) -> Option<PathBuf> {
    let device = root.join(format!("sys/dev/block/{major}:{minor}")).canonicalize().ok()?;
    Some(below(device, LAYERS_MAX))
}

fn below(device: PathBuf, layers: usize) -> PathBuf {
    if layers > 0 {
        let parts = entries(&device.join("slaves"), |_| true).into_iter();
        let parts = parts.filter_map(|part| part.canonicalize().ok());
        let drives: BTreeSet<PathBuf> = parts.map(|part| below(part, layers - 1)).collect();
        if drives.len() == 1 {
            return drives.into_iter().next().expect("counted");
        }
    }
    match device.parent() {
        Some(drive) if device.join("partition").exists() => drive.to_owned(),
        _ => device,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A device of the system's tree: its number, its folder, and what it is mapped to.
    fn device(root: &Path, number: &str, folder: &str, slaves: &[&str]) {
        let place = root.join("sys/devices").join(folder);
        fs::create_dir_all(place.join("slaves")).unwrap();
        for slave in slaves {
            let slave = root.join("sys/devices").join(slave);
            symlink(&slave, place.join("slaves").join(slave.file_name().unwrap())).unwrap();
        }
        fs::create_dir_all(root.join("sys/dev/block")).unwrap();
        symlink(&place, root.join("sys/dev/block").join(number)).unwrap();
    }

    #[test]
    fn a_checked_system_is_on_the_drive_of_both_its_partitions() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        device(root, "254:0", "vda", &[]);
        for (number, part) in [("254:2", "vda/vda2"), ("254:3", "vda/vda3"), ("254:17", "vdb/vdb1")] {
            device(root, number, part, &[]);
            fs::write(root.join("sys/devices").join(part).join("partition"), "1").unwrap();
        }
        device(root, "253:0", "dm-0", &["vda/vda2", "vda/vda3"]);
        device(root, "253:1", "dm-1", &["dm-0"]);
        device(root, "9:0", "md0", &["vda/vda2", "vdb/vdb1"]);
        let name = |major, minor| {
            let drive = drive(root, major, minor)?;
            Some(drive.file_name()?.to_str()?.to_owned())
        };
        for (major, minor) in [(254, 0), (254, 2), (253, 0), (253, 1)] {
            assert_eq!(name(major, minor).as_deref(), Some("vda"), "{major}:{minor}");
        }
        assert_eq!(name(9, 0).as_deref(), Some("md0"), "on two drives");
        assert_eq!(name(7, 7), None);
    }
}
