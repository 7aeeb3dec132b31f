//! Files of the state folder: theirs whom the folder belongs to, and on the disk before their names count.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::Error;

/// Room that stays free: a box with a full disk can't write chats.
const SPARE_BYTES: u64 = 16 << 20;

/// The state folder, locked for as long as this lives: one backup or restore at a time.
#[derive(Debug)]
pub(crate) struct Lock {
    _folder: File,
}

impl Lock {
    pub(crate) fn take(state: &Path) -> Result<Self, Error> {
        // The folder itself: a file for it would lie about, and might belong to somebody else.
        let folder = File::open(state).map_err(Error::io(state, "open"))?;
        match folder.try_lock() {
            Ok(()) => Ok(Self { _folder: folder }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: state.to_owned() }),
            Err(TryLockError::Error(cause)) => Err(Error::io(state, "lock")(cause)),
        }
    }
}

/// Makes an empty folder for its owner alone; one that is there goes with all in it.
pub(crate) fn new_folder(path: &Path) -> Result<(), Error> {
    remove_folder(path)?;
    fs::DirBuilder::new().mode(0o700).create(path).map_err(Error::io(path, "make"))?;
    hand_over(path, &File::open(path).map_err(Error::io(path, "open"))?)
}

/// Makes a file for its owner alone.
pub(crate) fn new_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).map_err(Error::io(path, "make"))?;
    hand_over(path, &file)?;
    Ok(file)
}

/// What an administrator restores is the daemon's: whose the folder around it is.
fn hand_over(path: &Path, file: &File) -> Result<(), Error> {
    let owner = fs::metadata(parent(path)).map_err(Error::io(path, "look at"))?;
    let ours = file.metadata().map_err(Error::io(path, "look at"))?;
    if (owner.uid(), owner.gid()) == (ours.uid(), ours.gid()) {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        // Only an administrator may.
        Err(cause) if cause.kind() != io::ErrorKind::PermissionDenied => {
            Err(Error::io(path, "hand over")(cause))
        }
        _ => Ok(()),
    }
}

/// Writes a whole file and waits until it is on the disk; its name may not be.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = new_file(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path, "write"))
}

/// Waits until a file's bytes, or a folder's names, are on the disk.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    file.sync_all().map_err(Error::io(path, "write"))
}

/// Renames, if it is there.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(from) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => fs::rename(from, to).map_err(Error::io(to, "rename to")),
    }
}

/// Removes a folder with all in it, if it is there.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Error> {
    missing_is_fine(fs::remove_dir_all(path)).map_err(Error::io(path, "remove"))
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    missing_is_fine(fs::remove_file(path)).map_err(Error::io(path, "remove"))
}

fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|cause| if cause.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(cause) })
}

/// That there is room for `bytes` more.
pub(crate) fn need_room(folder: &Path, bytes: u64) -> Result<(), Error> {
    let stat = statvfs(folder).map_err(|errno| Error::io(folder, "look at")(errno.into()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    let need = bytes.saturating_add(SPARE_BYTES);
    if need <= free { Ok(()) } else { Err(Error::NoSpace { path: folder.to_owned(), need, free }) }
}

/// Bytes of a file; 0 where there is none.
pub(crate) fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// The folder that a path's name lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
