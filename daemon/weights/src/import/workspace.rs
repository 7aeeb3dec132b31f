//! The working folder: entered, resumed, discarded.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use tracing::info;

use super::journal::{Journal, State};
use super::plan::Plan;
use crate::Error;
use crate::pack::{DENSE, EXPERTS, MANIFEST, Pack, SIDE_FILES};
use crate::source::Source;

pub(super) const JOURNAL: &str = "journal";
/// `experts.bin` to be, while records are rewritten.
pub(super) const REWRITTEN: &str = "experts.rewritten";
/// Room left for the manifest, the journal and the file system's own tables.
const SPARE_BYTES: u64 = 1 << 20;

/// `NAME.part`, open.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) part: PathBuf,
    pub(super) dest: PathBuf,
    pub(super) dense: Output,
    pub(super) experts: Option<Output>,
    pub(super) journal: Journal,
    pub(super) state: State,
}

/// A file being filled.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Workspace {
    /// Enters the working folder of `dest`: goes on from where an earlier import of the same plan stopped, or starts
    /// over.
    pub(super) fn enter(dest: &Path, plan: &Plan, source: &Source) -> Result<Self, Error> {
        let part = part_path(dest)?;
        if !is_ours(&part) {
            return Err(Error::NotReplaceable { path: part });
        }
        let is_new = !part.exists();
        fs::create_dir_all(&part).map_err(Error::io(&part, "create"))?;
        let entered = Self::resume_or_start(&part, dest, plan, source);
        match entered {
            Err(Error::DiskFull { .. }) => discard(&part)?,
            Err(Error::NoSpace { .. }) if is_new => discard(&part)?,
            _ => {}
        }
        entered
    }

    fn resume_or_start(part: &Path, dest: &Path, plan: &Plan, source: &Source) -> Result<Self, Error> {
        let mut journal = Journal::open(&part.join(JOURNAL))?;
        let resumed = journal.resume(plan, source)?.filter(|state| is_complete(part, plan, state));
        let is_copied = resumed.as_ref().is_some_and(|state| state.digests.len() == source.files.len());
        if !is_copied {
            check_space(part, plan)?;
        }
        let state = match resumed {
            Some(state) => {
                info!(part = %part.display(), n_pieces = state.hashes.len(), "import resumed");
                state
            }
            None => {
                remove_files(part, &[DENSE, EXPERTS, REWRITTEN, MANIFEST])?;
                remove_files(part, &SIDE_FILES)?;
                journal.start(plan)?;
                info!(part = %part.display(), n_pieces = plan.pieces.len(), "import started");
                State::default()
            }
        };
        // What is copied already may have been given back in part: it must not be reserved again.
        let reserve = |name, bytes| Output::create(part.join(name), (!is_copied).then_some(bytes));
        let (dense_bytes, experts_bytes) = plan.file_sizes();
        let dense = reserve(DENSE, dense_bytes)?;
        let experts = experts_bytes.map(|bytes| reserve(EXPERTS, bytes)).transpose()?;
        Ok(Self { part: part.into(), dest: dest.into(), dense, experts, journal, state })
    }

    /// Syncs the data, then notes the state in the journal.
    pub(super) fn checkpoint(&mut self) -> Result<(), Error> {
        for output in std::iter::once(&self.dense).chain(&self.experts) {
            output.file.sync_data().map_err(write_error(&output.path, "sync"))?;
        }
        self.journal.copied(&self.state)
    }
}

impl Output {
    /// Opens the file and reserves room for `bytes`, where the file system can.
    pub(super) fn create(path: PathBuf, bytes: Option<u64>) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(write_error(&path, "create"))?;
        let Some(bytes) = bytes else { return Ok(Self { path, file }) };
        let size = i64::try_from(bytes).unwrap_or(i64::MAX);
        match fallocate(&file, FallocateFlags::empty(), 0, size) {
            Ok(()) => {}
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                file.set_len(bytes).map_err(write_error(&path, "size"))?;
            }
            Err(errno) => return Err(write_error(&path, "reserve room for")(errno.into())),
        }
        Ok(Self { path, file })
    }

    /// Gives back the room of a range of whole pages, which read as zeros afterwards; false where the file system can't.
    pub(super) fn give_back(&self, range: Range<u64>) -> Result<bool, Error> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let offset = |at| i64::try_from(at).unwrap_or(i64::MAX);
        let (start, length) = (offset(range.start), offset(range.end.saturating_sub(range.start)));
        match fallocate(&self.file, flags, start, length) {
            Ok(()) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(false),
            Err(errno) => Err(Error::io(&self.path, "give back room of")(errno.into())),
        }
    }
}

/// Whether the data files are those that `state` speaks of.
fn is_complete(part: &Path, plan: &Plan, state: &State) -> bool {
    let bytes = |name: &str| fs::metadata(part.join(name)).ok().map(|meta| meta.len());
    let (dense, experts) = plan.file_sizes();
    let rewritten = bytes(REWRITTEN);
    let experts_fit = match state.rewritten.len() {
        0 => bytes(EXPERTS) == experts,
        // The new file is in its place already.
        n if n == plan.records().count() && rewritten.is_none() => {
            bytes(EXPERTS) == Some(state.rewritten_bytes())
        }
        _ => bytes(EXPERTS) == experts && rewritten.is_some_and(|bytes| bytes >= state.rewritten_bytes()),
    };
    bytes(DENSE) == Some(dense) && experts_fit
}

/// `NAME.part` beside `NAME`.
pub(super) fn part_path(dest: &Path) -> Result<PathBuf, Error> {
    let Some(name) = dest.file_name() else {
        let cause = io::Error::new(io::ErrorKind::InvalidInput, "the path has no last name");
        return Err(Error::Io { path: dest.into(), doing: "import to", cause });
    };
    let mut part = OsString::from(name);
    part.push(".part");
    Ok(dest.with_file_name(part))
}

/// The target must be free, or a pack that may be replaced.
pub(super) fn check_destination(dest: &Path, replace: bool) -> Result<(), Error> {
    match (dest.symlink_metadata().is_ok(), replace) {
        (false, _) => Ok(()),
        (true, false) => Err(Error::DestinationExists { path: dest.into() }),
        (true, true) if Pack::is_at(dest) => Ok(()),
        (true, true) => Err(Error::NotReplaceable { path: dest.into() }),
    }
}

/// True for a working folder, a pack that was replaced but not yet removed, an empty folder, or none at all.
fn is_ours(part: &Path) -> bool {
    let marked = [JOURNAL, MANIFEST].iter().any(|name| part.join(name).is_file());
    marked || fs::read_dir(part).map_or(true, |mut entries| entries.next().is_none())
}

/// The disk must hold what is not yet reserved.
fn check_space(part: &Path, plan: &Plan) -> Result<(), Error> {
    let (dense, experts) = plan.file_sizes();
    let small: u64 = plan.side_files.iter().map(|(_, content)| content.len() as u64).sum();
    let reserved = |name: &str| fs::metadata(part.join(name)).map_or(0, |meta| meta.blocks() * 512);
    let need = (dense + experts.unwrap_or(0) + small + SPARE_BYTES)
        .saturating_sub(reserved(DENSE).saturating_add(reserved(EXPERTS)));
    let parent = part.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let free = free_bytes(parent)?;
    if free < need {
        return Err(Error::NoSpace { path: part.into(), need, free });
    }
    Ok(())
}

/// Bytes that can still be written to the disk of `dir`.
pub(super) fn free_bytes(dir: &Path) -> Result<u64, Error> {
    let stat = statvfs(dir).map_err(|errno| Error::io(dir, "measure the disk of")(errno.into()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Removes a working folder or a replaced pack: only files that are ours, never a folder's other content.
pub(super) fn discard(dir: &Path) -> Result<(), Error> {
    remove_files(dir, &[DENSE, EXPERTS, REWRITTEN, MANIFEST, JOURNAL])?;
    remove_files(dir, &SIDE_FILES)?;
    fs::remove_dir(dir).map_err(Error::io(dir, "remove"))
}

fn remove_files(dir: &Path, names: &[&str]) -> Result<(), Error> {
    for path in names.iter().map(|name| dir.join(name)) {
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io { path, doing: "remove", cause });
            }
            _ => {}
        }
    }
    Ok(())
}

/// For `map_err` on writes: a full disk is told from other failures.
pub(super) fn write_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |cause| match Errno::from_raw(cause.raw_os_error().unwrap_or(0)) {
        Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => Error::DiskFull { path, cause },
        _ => Error::Io { path, doing, cause },
    }
}
