//! A staged version into the idle slot. What runs is never touched, and the new version's boot file, the last thing that is
//! written, is what makes it a version: so whenever the power goes, what starts next is whole.
//!
//! ```text
//!    check            empty the slot           fill it                       name it                 start it next
//!    signature,  ──>  its boot file goes, ──>  system, hashes: ──>           table: second copy, ──> boot file: copied, synced,
//!    hashes, sizes    synced                   hashed on the way,            synced, first copy,     read back, renamed to
//!                                              synced, read back             synced                  wels_VERSION+3.efi, synced
//! cut │ old           │ old: nothing else has a boot file                                            │ old or new
//! ```

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::statvfs;
use tracing::info;

use super::esp::{BootFile, Counter, Esp, Standing};
use super::staged::{Source, each_block};
use super::{Disk, Problem, RootHash, Slot, StagedSystem, choose};
use crate::{Error, Monitor, Step, files};

/// Bytes between two syncs, so that progress is the drive's, not the memory's.
const SYNC_BYTES: u64 = 16 << 20;

/// Where a system version goes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The box's whole drive, or an image of one.
    pub disk: &'a Path,
    /// Its boot partition, mounted.
    pub esp: &'a Path,
    /// Of the system that runs.
    pub running: RootHash,
}

/// What writing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The version is in its slot, and starts next.
    Now,
    /// It was, already.
    Before,
}

/// Puts a version into the slot that doesn't run; it starts next, three times at most until it was well.
///
/// The monitor is at [`Step::Settle`], counting each byte three times (checked, written, read back), then at [`Step::Switch`]:
/// until then it may cancel. A slot that was left half-way has no boot file, and is written from the start next time.
///
/// # Errors
/// Whatever [`StagedSystem::open`] left to check is wrong, the slots can't be told apart, something doesn't fit, or the drive
/// refuses. What runs starts again then. The monitor is told.
pub fn write(staged: &StagedSystem, place: &Place<'_>, monitor: &Monitor) -> Result<Written, Error> {
    let written = try_write(staged, place, monitor);
    if let Err(error) = &written {
        monitor.fail(error);
    }
    written
}

fn try_write(staged: &StagedSystem, place: &Place<'_>, monitor: &Monitor) -> Result<Written, Error> {
    monitor.step(Step::Prepare, 0, 0);
    let (mut disk, esp) = (Disk::open(place.disk)?, Esp::new(place.esp));
    if staged.facts.root_hash == place.running {
        return Err(Problem::Runs { hash: place.running }.at(place.disk));
    }
    let slot = disk.slots(&place.running)?.idle;
    let (own, others) = esp.split(&place.running)?;
    if own.iter().any(|file| file.version == staged.facts.version) {
        let version = staged.facts.version.clone();
        return Err(Problem::SameVersion { version }.at(esp.folder()));
    }
    if is_written(staged, &slot, &others) {
        choose::take_next(&esp, &place.running, &staged.facts.root_hash)?;
        return Ok(Written::Before);
    }
    if own.iter().all(is_unproved) {
        return Err(Problem::OnTrial.at(esp.folder()));
    }
    check_room(staged, &disk, &slot, &esp, &others)?;
    let bytes = staged.sources().iter().map(|source| source.entry.bytes).sum::<u64>();
    monitor.step(Step::Settle, 0, 3 * bytes);
    // Before the version in the slot is given up for this one.
    staged.sources().into_iter().try_for_each(|source| source.pour(monitor, &mut |_, _| Ok(())))?;
    esp.remove(others.into_iter().map(|file| file.path).chain(esp.parts()?))?;
    info!(slot = %slot.name, version = %staged.facts.version, "a system version is written");
    fill(&disk, &staged.system, &slot.system.range, monitor)?;
    fill(&disk, &staged.hashes, &slot.hashes.range, monitor)?;
    let part = copy_boot_file(staged, &esp, monitor)?;
    monitor.step(Step::Switch, 0, 0);
    disk.name_slot(&slot, &staged.facts.root_hash)?;
    esp.name(&part, &staged.facts.version, Some(Counter::FRESH))?;
    choose::take_next(&esp, &place.running, &staged.facts.root_hash)?;
    Ok(Written::Now)
}

/// Whether an earlier call put it there, whole: the slot is named and the boot file has its name only once all is.
fn is_written(staged: &StagedSystem, slot: &Slot, others: &[BootFile]) -> bool {
    let (hash, version) = (&staged.facts.root_hash, &staged.facts.version);
    let can_start = |file: &BootFile| matches!(file.standing(), Standing::Good | Standing::Trial);
    slot.holds(hash)
        && others.iter().any(|file| file.boots(hash) && file.version == *version && can_start(file))
}

/// It took a boot and was not blessed for it yet; the one that an administrator set aside was, before.
fn is_unproved(file: &BootFile) -> bool {
    file.counter.is_some_and(|counter| counter.done > 0) && file.standing() != Standing::Aside
}

/// That everything fits, before anything is given up.
fn check_room(
    staged: &StagedSystem,
    disk: &Disk,
    slot: &Slot,
    esp: &Esp,
    others: &[BootFile],
) -> Result<(), Error> {
    for (source, room) in [(&staged.system, slot.system.bytes()), (&staged.hashes, slot.hashes.bytes())] {
        let bytes = source.entry.bytes;
        if bytes > room {
            return Err(disk.error(Problem::TooLarge { file: source.name, bytes, room }));
        }
    }
    let system = statvfs(esp.folder()).map_err(|errno| Error::io(esp.folder(), "look at")(errno.into()))?;
    let going = others.iter().map(|file| file.path.clone()).chain(esp.parts()?);
    let going: u64 = going.filter_map(|path| path.metadata().ok()).map(|found| found.len()).sum();
    let room = system.blocks_available() * system.fragment_size() + going;
    let bytes = staged.boot.entry.bytes;
    let too_large = Problem::TooLarge { file: staged.boot.name, bytes, room };
    if bytes > room { Err(too_large.at(esp.folder())) } else { Ok(()) }
}

/// Writes a file to where a partition lies, and reads it back from the drive itself.
fn fill(disk: &Disk, source: &Source, range: &Range<u64>, monitor: &Monitor) -> Result<(), Error> {
    let mut unsynced = 0;
    let sync = || disk.file.sync_data().map_err(Error::io(disk.path(), "write"));
    source.pour(monitor, &mut |bytes, at| {
        disk.file.write_all_at(bytes, range.start + at).map_err(Error::io(disk.path(), "write"))?;
        unsynced += bytes.len() as u64;
        if unsynced < SYNC_BYTES {
            return Ok(());
        }
        unsynced = 0;
        sync()
    })?;
    sync()?;
    disk.forget_cached();
    read_back(source, &disk.file, disk.path(), range.start, monitor)
}

fn read_back(source: &Source, file: &File, path: &Path, start: u64, monitor: &Monitor) -> Result<(), Error> {
    let hash = each_block(source.entry.bytes, &mut |buffer, at| {
        file.read_exact_at(buffer, start + at).map_err(Error::io(path, "read back"))?;
        monitor.add(buffer.len() as u64)
    })?;
    if hash == source.entry.sha256 { Ok(()) } else { Err(Problem::ReadBack { file: source.name }.at(path)) }
}

/// Copies the boot file beside its name, and checks once more what was copied.
fn copy_boot_file(staged: &StagedSystem, esp: &Esp, monitor: &Monitor) -> Result<PathBuf, Error> {
    let path = esp.part(&staged.facts.version);
    let mut open = File::options();
    let file = open.read(true).write(true).create_new(true).open(&path).map_err(Error::io(&path, "make"))?;
    staged
        .boot
        .pour(monitor, &mut |bytes, at| file.write_all_at(bytes, at).map_err(Error::io(&path, "write")))?;
    file.sync_all().map_err(Error::io(&path, "write"))?;
    files::sync_folder(esp.folder())?;
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    read_back(&staged.boot, &file, &path, 0, monitor)?;
    staged.check_boot_file(&file)?;
    Ok(path)
}
