//! Opened data files, read past the system's cache where the file system allows it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, PAGE_BYTES, Slot};

/// The files of a disk, by index.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<(PathBuf, File)>,
}

/// A read that failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{path}, from offset {offset} on: {cause}")]
struct Failed {
    path: PathBuf,
    offset: u64,
    #[source]
    cause: io::Error,
}

impl Files {
    /// Opens all of them.
    ///
    /// # Errors
    /// One can't be opened, or is a folder.
    pub(super) fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, Error> {
        let open = |path: &P| Ok((path.as_ref().to_owned(), open(path.as_ref())?));
        Ok(Self { files: paths.iter().map(open).collect::<Result<_, Error>>()? })
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn fd(&self, file: usize) -> RawFd {
        self.files[file].1.as_raw_fd()
    }

    /// One system call: bytes that came, 0 at the file's end.
    pub(super) fn read_at(&self, file: usize, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.files[file].1.read_at(into, offset).map_err(|cause| self.failed(file, offset, cause))
    }

    /// The same error, of the same kind, with the place.
    pub(super) fn failed(&self, file: usize, offset: u64, cause: io::Error) -> io::Error {
        let path = self.files[file].0.clone();
        io::Error::new(cause.kind(), Failed { path, offset, cause })
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let error = |doing| move |cause| Error::Io { path: path.to_owned(), doing, cause };
    let file = match open_direct(path)? {
        Some(file) => file,
        None => {
            tracing::warn!(path = %path.display(), "no direct reads here: they go through the system's cache");
            File::open(path).map_err(error("open"))?
        }
    };
    match file.metadata().map_err(error("read the size of"))?.is_dir() {
        true => Err(error("read")(io::ErrorKind::IsADirectory.into())),
        false => Ok(file),
    }
}

/// `None` where the file system has no direct reads: some say EINVAL when the file is opened, others when it is read.
fn open_direct(path: &Path) -> Result<Option<File>, Error> {
    let is_refused = |cause: &io::Error| cause.raw_os_error() == Some(libc::EINVAL);
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => file,
        Err(cause) if is_refused(&cause) => return Ok(None),
        Err(cause) => return Err(Error::Io { path: path.to_owned(), doing: "open", cause }),
    };
    let mut page = Slot::new(PAGE_BYTES)?;
    // Whoever reads learns of anything else.
    let is_direct = !file.read_at(&mut page, 0).is_err_and(|cause| is_refused(&cause));
    Ok(is_direct.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(file: &File) -> i32 {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).expect("proc");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
        i32::from_str_radix(flags.trim(), 8).expect("octal")
    }

    #[test]
    fn a_file_system_without_direct_reads_is_read_through_the_cache() {
        let files = Files::open(&["/proc/version"]).expect("proc refuses O_DIRECT with EINVAL");
        assert_eq!(flags(&files.files[0].1) & libc::O_DIRECT, 0);
        let mut page = Slot::new(PAGE_BYTES).expect("memory");
        let n = files.read_at(0, 0, &mut page).expect("reads");
        assert!(page[..n].starts_with(b"Linux version"));
    }

    #[test]
    fn files_on_a_drive_are_read_directly() {
        // Beside the test: /tmp may be in memory.
        let test = std::env::current_exe().expect("a test");
        let dir = tempfile::tempdir_in(test.parent().expect("its folder")).expect("a folder");
        let path = dir.path().join("data");
        std::fs::write(&path, [7; 5000]).expect("writes");
        let files = Files::open(&[&path]).expect("opens");
        let mut pages = Slot::new(2 * PAGE_BYTES).expect("memory");
        assert_eq!(files.read_at(0, 0, &mut pages).expect("reads"), 5000);
        assert_eq!(flags(&files.files[0].1) & libc::O_DIRECT, libc::O_DIRECT);
    }

    #[test]
    fn errors_name_the_file() {
        let error = Files::open(&["/proc/version", "/nowhere/experts.bin"]).expect_err("no such file");
        assert!(error.to_string().starts_with("/nowhere/experts.bin: cannot open: "), "{error}");
        let error = Files::open(&["/proc"]).expect_err("a folder");
        assert!(error.to_string().starts_with("/proc: cannot read: "), "{error}");
        let files = Files::open(&["/proc/self/mem"]).expect("opens");
        let error = files.read_at(0, 0, &mut [0]).expect_err("nothing is mapped at 0");
        assert!(error.to_string().starts_with("/proc/self/mem, from offset 0 on: "), "{error}");
    }
}
