//! Files that are there whole or not at all, whenever the power goes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::Error;

/// What is read of a file of the box's own.
const STATE_BYTES_MAX: u64 = 4 << 20;

/// Replaces `path` by `bytes`: written beside it, synced, renamed, and the folder synced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = beside(path, ".new");
    write_synced(&new, bytes)?;
    fs::rename(&new, path).map_err(Error::io(path, "replace"))?;
    sync_folder(parent(path))
}

/// Writes a file and waits until it is on the disk; its name may not be.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(Error::io(path, "make"))?;
    file.write_all(bytes).map_err(Error::io(path, "write"))?;
    file.sync_all().map_err(Error::io(path, "write"))
}

/// Waits until the names in a folder are on the disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = File::open(path).map_err(Error::io(path, "open"))?;
    folder.sync_all().map_err(Error::io(path, "write"))
}

/// Makes a folder whose name stays, and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    make_folder(parent(path))?;
    match fs::create_dir(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io(path, "make")(cause));
        }
        _ => {}
    }
    sync_folder(parent(path))
}

/// Renames and waits until both folders know.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io(to, "rename to"))?;
    sync_folder(parent(to))?;
    sync_folder(parent(from))
}

/// A file of the box's own; `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = read_if_there(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| Error::Json { path: path.to_owned(), cause })
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read;
    let file = match File::open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io(path, "open"))?,
    };
    let mut bytes = Vec::new();
    file.take(STATE_BYTES_MAX).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    Ok(Some(bytes))
}

/// Removes a file or folder if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(cause) => Err(cause),
    };
    match removed {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(Error::io(path, "remove")(cause)),
        _ => Ok(()),
    }
}

/// `path` with something behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.file_name().expect("a path with a name"));
    name.push(suffix);
    path.with_file_name(name)
}

/// The folder that a path's name lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
