//! The bytes of a bundle, wherever they lie: a partition of an image or device, or the parts in a folder.
//!
//! ```text
//! image    [ table | ======================= stream ======================= | table ]
//! folder   wels-bundle/  bundle.tar.000 [ ===== ]  bundle.tar.001 [ ===== ]  bundle.tar.002 [ == ]
//! ```
//!
//! Parts of a folder have 1 GiB but the last: FAT32 takes them, and a copy that broke off is told by its size.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::Error;

/// The folder on a stick with a file system.
pub const FOLDER: &str = "wels-bundle";
/// Bytes of a folder's part.
pub(crate) const PART_BYTES: u64 = 1 << 30;
/// Parts of a folder: 8 TiB.
const PARTS_MAX: usize = 8192;

/// A run of a file's bytes.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    start: u64,
    bytes: u64,
}

/// Bytes at offsets, in one part or many of equal size.
#[derive(Debug)]
pub(crate) struct Stream {
    parts: Vec<Part>,
    /// Of each part but the last.
    part_bytes: u64,
    /// What errors name.
    path: PathBuf,
}

impl Stream {
    /// A range of a file or device.
    pub(crate) fn of_file(path: &Path, file: File, range: Range<u64>) -> Self {
        let bytes = range.end - range.start;
        let part = Part { path: path.to_owned(), file, start: range.start, bytes };
        Self { parts: vec![part], part_bytes: u64::MAX, path: path.to_owned() }
    }

    /// The parts in an open folder; nothing but plain files is opened there. `path` is what errors name.
    pub(crate) fn of_folder(path: &Path, folder: &File, write: bool) -> Result<Self, Error> {
        let mode = if write { OFlag::O_RDWR } else { OFlag::O_RDONLY };
        let mut parts: Vec<Part> = Vec::new();
        while parts.len() < PARTS_MAX {
            let name = part_name(parts.len());
            let path = path.join(&name);
            let file = match open_in(folder, Path::new(&name), mode) {
                Ok(file) => file,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => break,
                Err(cause) => return Err(Error::Io { path, doing: "open", cause }),
            };
            let metadata = file.metadata().map_err(Error::io(&path, "read"))?;
            if !metadata.is_file() {
                return Err(Error::Stream { path, what: "a part is no plain file" });
            }
            if let Some(last) = parts.last().filter(|last| last.bytes != PART_BYTES) {
                return Err(Error::Truncated { path: last.path.clone(), want: PART_BYTES, got: last.bytes });
            }
            parts.push(Part { path, file, start: 0, bytes: metadata.len() });
        }
        if parts.is_empty() {
            return Err(Error::NoBundle { path: path.to_owned() });
        }
        Ok(Self { parts, part_bytes: PART_BYTES, path: path.to_owned() })
    }

    /// The parts of a new folder for `bytes` in all.
    pub(crate) fn create_folder(folder: &Path, bytes: u64) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
        let mut parts = Vec::new();
        for i in 0..bytes.div_ceil(PART_BYTES) {
            let path = folder.join(part_name(i as usize));
            let file = File::create_new(&path).map_err(Error::io(&path, "make"))?;
            parts.push(Part { path, file, start: 0, bytes: PART_BYTES.min(bytes - i * PART_BYTES) });
        }
        Ok(Self { parts, part_bytes: PART_BYTES, path: folder.to_owned() })
    }

    /// Cuts a folder's parts to `bytes` in all.
    pub(crate) fn truncate_folder(&mut self, bytes: u64) -> Result<(), Error> {
        let n_parts = bytes.div_ceil(PART_BYTES) as usize;
        for part in self.parts.drain(n_parts..) {
            fs::remove_file(&part.path).map_err(Error::io(&part.path, "remove"))?;
        }
        for (i, part) in (0..).zip(&mut self.parts) {
            part.bytes = PART_BYTES.min(bytes - i * PART_BYTES);
            part.file.set_len(part.bytes).map_err(Error::io(&part.path, "cut"))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Where the files are: to bypass what the system remembers of them.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.parts.iter().map(|part| &part.file)
    }

    /// Fills `buffer` from `offset` on.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let end = offset.saturating_add(buffer.len() as u64);
        if end > self.bytes() {
            return Err(Error::Truncated { path: self.path.clone(), want: end, got: self.bytes() });
        }
        self.each_part(offset, buffer.len(), |part, at, range| {
            let failed = |cause| Error::Carrier { path: part.path.clone(), offset: at, cause };
            part.file.read_exact_at(&mut buffer[range], at).map_err(failed)
        })
    }

    /// Writes `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        assert!(offset + bytes.len() as u64 <= self.bytes(), "within what was set aside");
        self.each_part(offset, bytes.len(), |part, at, range| {
            part.file.write_all_at(&bytes[range], at).map_err(Error::io(&part.path, "write"))
        })
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.parts.iter().try_for_each(|part| part.file.sync_all().map_err(Error::io(&part.path, "write")))
    }

    /// Cuts `offset..offset + len` at the parts' borders; gives the offset in the part's file and the range of the buffer.
    fn each_part(
        &self,
        offset: u64,
        len: usize,
        mut each: impl FnMut(&Part, u64, Range<usize>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let part = &self.parts[(at / self.part_bytes) as usize];
            let within = at % self.part_bytes;
            let n = (len - done).min((part.bytes - within) as usize);
            each(part, part.start + within, done..done + n)?;
            done += n;
        }
        Ok(())
    }
}

fn part_name(i: usize) -> String {
    format!("bundle.tar.{i:03}")
}

/// Follows no link, and waits for nobody where it is a pipe.
const CAREFUL: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);

/// Opens a file that a path leads to, carefully.
pub(crate) fn open(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).custom_flags(CAREFUL.bits()).open(path)
}

/// Opens what lies in an open folder under a name, carefully.
pub(crate) fn open_in(folder: &File, name: &Path, flags: OFlag) -> io::Result<File> {
    let flags = flags | CAREFUL | OFlag::O_CLOEXEC;
    Ok(File::from(openat(folder, name, flags, Mode::empty()).map_err(io::Error::from)?))
}

/// Bytes of a file or block device.
pub(crate) fn device_bytes(file: &File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::End(0))
}
