//! A backup made: a copy of the database beside itself, then everything into one encrypted file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest, Sha256};

use crate::age::{self, WORK, Writer};
use crate::contents::{CARRIED, DATABASE, FORMAT, HEADER};
use crate::files::{self, Lock};
use crate::watch::{Step, Watch, tell};
use crate::{Error, Info, Part, tar};

/// The folder beside the state in which the database is copied.
const SCRATCH: &str = ".backup";
/// Read, written and hashed at a time.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;
/// Written between two waits for the stick, so that progress is the stick's and not the memory's.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

/// Writes a backup of what `state` holds at this moment; a running daemon goes on meanwhile.
///
/// # Errors
/// The passphrase is too short, there is no database, no room for a copy of it, or `to` takes no more.
pub fn create(state: &Path, to: impl Write, passphrase: &str, watch: &mut Watch<'_>) -> Result<Info, Error> {
    age::check_passphrase(passphrase)?;
    create_at(state, to, passphrase, WORK, watch)
}

/// [`create`] into a file that appears when it is whole and was read back.
///
/// # Errors
/// As [`create`]; the file is there already, or reads back differently. No half of it stays.
pub fn create_file(
    state: &Path,
    path: &Path,
    passphrase: &str,
    watch: &mut Watch<'_>,
) -> Result<Info, Error> {
    age::check_passphrase(passphrase)?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::Exists { path: path.to_owned() });
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let made = write_file(state, &part, passphrase, watch);
    let made = made.and_then(|info| {
        fs::rename(&part, path).map_err(Error::io(path, "make"))?;
        files::sync(files::parent(path))?;
        Ok(info)
    });
    if made.is_err() {
        // The first error is the one to tell: the stick may be gone.
        let _ = files::remove_file(&part);
    }
    made
}

/// [`create`] at a cost of 2^`work`.
pub(crate) fn create_at(
    state: &Path,
    to: impl Write,
    passphrase: &str,
    work: u8,
    watch: &mut Watch<'_>,
) -> Result<Info, Error> {
    let database = state.join(DATABASE);
    if !database.is_file() {
        return Err(Error::NoDatabase { path: database });
    }
    let _lock = Lock::take(state)?;
    tell(watch, Step::Prepare, 0, 0)?;
    files::need_room(state, files::bytes(&database) + files::bytes(&state.join(format!("{DATABASE}-wal"))))?;
    let scratch = Scratch::new(state)?;
    let copy = scratch.0.join(DATABASE);
    // Made here, so that nobody else may read it.
    files::new_file(&copy)?;
    let schema = store::copy_out(&database, &copy)?;
    let mut parts = Vec::new();
    for (name, bytes_max) in CARRIED {
        let path = if name == DATABASE { copy.clone() } else { state.join(name) };
        if let Some(part) = OpenPart::open(name, &path, bytes_max)? {
            parts.push(part);
        }
    }
    let info = Info {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        made_ms: u64::try_from(store::now_ms()).unwrap_or_default(),
        schema,
        parts: parts.iter().map(|part| Part { name: part.name.into(), bytes: part.bytes }).collect(),
    };
    tell(watch, Step::Prepare, 0, 0)?;
    let mut to = age::encrypt(to, passphrase, work)?;
    write_member(&mut to, HEADER, &info.to_json())?;
    let (mut done, total) = (0, info.bytes());
    for part in parts {
        part.write(&mut to, &mut |bytes| {
            done += bytes;
            tell(watch, Step::Copy, done, total)
        })?;
    }
    tar::end(&mut to)?;
    to.finish()?;
    Ok(info)
}

fn write_member<W: Write>(to: &mut Writer<W>, name: &str, bytes: &[u8]) -> Result<(), Error> {
    tar::begin_member(to, name, bytes.len() as u64)?;
    to.write(bytes)?;
    tar::end_member(to, bytes.len() as u64)
}

/// A folder that goes when its use ends, or with the next backup.
struct Scratch(PathBuf);

impl Scratch {
    fn new(state: &Path) -> Result<Self, Error> {
        let path = state.join(SCRATCH);
        files::new_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next backup.
        let _ = files::remove_folder(&self.0);
    }
}

/// A file to be carried. It stays the one that was opened, if somebody replaces it meanwhile.
struct OpenPart {
    name: &'static str,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl OpenPart {
    fn open(name: &'static str, path: &Path, bytes_max: u64) -> Result<Option<Self>, Error> {
        let file = match File::open(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::io(path, "open"))?,
        };
        let bytes = file.metadata().map_err(Error::io(path, "look at"))?.len();
        if bytes > bytes_max {
            let what = format!("{} has {bytes} bytes, a backup takes {bytes_max} at most", path.display());
            return Err(Error::Contents { what });
        }
        Ok(Some(Self { name, path: path.to_owned(), file, bytes }))
    }

    fn write<W: Write>(
        mut self,
        to: &mut Writer<W>,
        moved: &mut dyn FnMut(u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        tar::begin_member(to, self.name, self.bytes)?;
        let mut block = vec![0; BLOCK_BYTES];
        let mut left = self.bytes;
        while left > 0 {
            let block = &mut block[..left.min(BLOCK_BYTES as u64) as usize];
            self.file.read_exact(block).map_err(Error::io(&self.path, "read"))?;
            to.write(block)?;
            left -= block.len() as u64;
            moved(block.len() as u64)?;
        }
        tar::end_member(to, self.bytes)
    }
}

/// Writes the file and reads it back.
fn write_file(state: &Path, part: &Path, passphrase: &str, watch: &mut Watch<'_>) -> Result<Info, Error> {
    files::remove_file(part)?;
    let mut options = OpenOptions::new();
    // Never through a link that somebody left there.
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(part);
    let file = file.map_err(Error::io(part, "make"))?;
    let mut written = Hashed { file: &file, sha256: Sha256::new(), bytes: 0, synced: 0 };
    let made = create_at(state, &mut written, passphrase, WORK, watch);
    let info = made.map_err(|error| error.of_file(part))?;
    let (want, bytes) = (written.sha256.finalize(), written.bytes);
    file.sync_all().map_err(Error::io(part, "write"))?;
    // What the system remembers is not what the stick kept.
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|errno| Error::io(part, "read back")(errno.into()))?;
    let (mut block, mut at, mut got) = (vec![0; BLOCK_BYTES], 0, Sha256::new());
    while at < bytes {
        let block = &mut block[..(bytes - at).min(BLOCK_BYTES as u64) as usize];
        file.read_exact_at(block, at).map_err(Error::io(part, "read back"))?;
        got.update(&*block);
        at += block.len() as u64;
        tell(watch, Step::Check, at, bytes)?;
    }
    if got.finalize() == want { Ok(info) } else { Err(Error::ReadBack { path: part.to_owned() }) }
}

/// A file, and the hash of what was written to it.
struct Hashed<'a> {
    file: &'a File,
    sha256: Sha256,
    bytes: u64,
    synced: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        if self.bytes - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.synced = self.bytes;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
