//! Opened source files: their identity, size-capped reading, no mapping.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

/// A file with tensors in it, opened for reading.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) bytes: u64,
    pub(crate) modified_ns: i128,
    /// Hash of the bytes before the tensor data; 0 for a pack's own files.
    pub(crate) header_xxh3: u64,
}

impl DataFile {
    /// Opens `path` and notes its size and time.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let meta = file.metadata().map_err(Error::io(path, "read the size of"))?;
        if !meta.is_file() {
            return Err(Error::NotAModel { path: path.into(), found: "not a regular file" });
        }
        Ok(Self {
            path: path.into(),
            file,
            bytes: meta.len(),
            modified_ns: modified_ns(&meta),
            header_xxh3: 0,
        })
    }

    /// File name without its folder.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The first `n` bytes, or all if there are fewer.
    pub(crate) fn head(&self, n: u64) -> Result<Vec<u8>, Error> {
        let mut head =
            vec![0; usize::try_from(n.min(self.bytes)).expect("callers cap n well below the address space")];
        self.file.read_exact_at(&mut head, 0).map_err(Error::io(&self.path, "read"))?;
        Ok(head)
    }

    /// Tells the system that pages are not wanted any more; 0 bytes are all to the end. A hint: without it the pages stay until
    /// their memory is wanted.
    pub(crate) fn let_go(&self, offset: u64, bytes: usize) {
        let (offset, bytes) = (offset as nix::libc::off_t, bytes as nix::libc::off_t);
        let _ = posix_fadvise(&self.file, offset, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    /// Notes the hash of the header, part of the file's identity.
    pub(crate) fn set_header(&mut self, header: &[u8]) {
        self.header_xxh3 = xxh3_64(header);
    }

    /// True if size and time are still those seen at opening.
    pub(crate) fn is_unchanged(&self) -> Result<bool, Error> {
        let meta = fs::metadata(&self.path).map_err(Error::io(&self.path, "read the size of"))?;
        Ok(meta.len() == self.bytes && modified_ns(&meta) == self.modified_ns)
    }
}

fn modified_ns(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// The whole of a small file; `None` if it doesn't exist.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::Io { path: path.into(), doing: "open", cause }),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > limit {
        let bytes = fs::metadata(path).map_or(limit + 1, |meta| meta.len());
        return Err(Error::FileTooLarge { path: path.into(), bytes, limit });
    }
    Ok(Some(bytes))
}
