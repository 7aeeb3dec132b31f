//! A bundle onto a stick: only onto one that is removable and not in use, and read back.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::{major, minor};

use crate::{Bundle, Error, Sha256, gpt, stream};

/// Bytes copied and compared at a time.
const BLOCK_BYTES: usize = 4 << 20;

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Onto a device that isn't removable, or that is mounted; over a file that is there.
    pub force: bool,
}

/// What is known of a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its size.
    pub bytes: u64,
    /// The system says that it can be taken out.
    pub is_removable: bool,
    /// Where it, or a partition of it, is mounted or otherwise used.
    pub used: Vec<String>,
    /// Vendor and model, where it says.
    pub name: String,
}

/// Looks at a block device; `None` where the path is none.
///
/// # Errors
/// It can't be looked at.
pub fn device(path: &Path) -> Result<Option<Device>, Error> {
    let Ok(found) = fs::metadata(path) else { return Ok(None) };
    if !found.file_type().is_block_device() {
        return Ok(None);
    }
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let bytes = stream::device_bytes(&file).map_err(Error::io(path, "read"))?;
    let number = |rdev| format!("{}:{}", major(rdev), minor(rdev));
    let sys = Path::new("/sys/dev/block").join(number(found.rdev()));
    let sys = sys.canonicalize().map_err(Error::io(&sys, "look at"))?;
    // A partition's disk is the folder above it.
    let disk =
        if sys.join("partition").exists() { sys.parent().unwrap_or(&sys).to_owned() } else { sys.clone() };
    let text = |name: &str| fs::read_to_string(disk.join(name)).unwrap_or_default().trim().to_owned();
    let name = format!("{} {}", text("device/vendor"), text("device/model")).trim().to_owned();
    let used = uses(&disk, &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    Ok(Some(Device { bytes, is_removable: text("removable") == "1", used, name }))
}

/// Where a disk or a partition of it is used: mounted, or held by another device. `mountinfo` as proc(5) describes it.
fn uses(disk: &Path, mountinfo: &str) -> Vec<String> {
    let mut used = Vec::new();
    let inner = fs::read_dir(disk).into_iter().flatten().flatten().map(|entry| entry.path());
    let parts = inner.filter(|path| path.join("partition").exists());
    for part in std::iter::once(disk.to_owned()).chain(parts) {
        let number = fs::read_to_string(part.join("dev")).unwrap_or_default();
        let mounts = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let here = mounts.filter(|fields| fields.len() > 4 && fields[2] == number.trim());
        used.extend(here.map(|fields| fields[4].to_owned()));
        let holders = fs::read_dir(part.join("holders")).into_iter().flatten().flatten();
        used.extend(holders.map(|holder| holder.file_name().to_string_lossy().into_owned()));
    }
    used
}

/// Writes a bundle with a partition table of its own to `dest`, a device or a file, and reads it back; `progress` is told
/// bytes done and in all, of both. Returns the bytes that were written.
///
/// # Errors
/// The device is refused, too small, or doesn't keep what it is given; or the bundle can't be read.
pub fn write(
    bundle: &Bundle,
    dest: &Path,
    options: WriteOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, Error> {
    let stream_bytes = bundle.stream_bytes();
    let found = device(dest)?;
    let bytes = match &found {
        Some(device) => {
            refuse(dest, device, options)?;
            device.bytes
        }
        None => gpt::device_bytes(stream_bytes),
    };
    let room = gpt::partition(bytes);
    if room.end - room.start < stream_bytes {
        return Err(Error::NoSpace {
            path: dest.to_owned(),
            need: gpt::device_bytes(stream_bytes),
            free: bytes,
        });
    }
    let mut file = open_dest(dest, found.is_some(), options)?;
    let total = 2 * stream_bytes;
    let written = copy(bundle, &mut file, dest, &mut |done| progress(done, total))?;
    let (head, tail, tail_at) = gpt::table(bytes, &bundle.id.0);
    if found.is_none() {
        file.set_len(bytes).map_err(Error::io(dest, "write"))?;
    }
    // The table last: a stick that was pulled half-way is no bundle.
    let tables = file.write_all_at(&tail, tail_at).and_then(|()| file.write_all_at(&head, 0));
    tables.and_then(|()| file.sync_all()).map_err(Error::io(dest, "write"))?;
    compare(&file, dest, &written, stream_bytes, &mut |done| progress(stream_bytes + done, total))?;
    Ok(bytes)
}

fn refuse(dest: &Path, device: &Device, options: WriteOptions) -> Result<(), Error> {
    let why = match device {
        _ if options.force => return Ok(()),
        Device { used, .. } if !used.is_empty() => format!("it is in use: {}", used.join(", ")),
        Device { is_removable: false, .. } => {
            "it is not removable: no stick, but perhaps this machine's disk".into()
        }
        _ => return Ok(()),
    };
    Err(Error::RefusedDevice { path: dest.to_owned(), why })
}

fn open_dest(dest: &Path, is_device: bool, options: WriteOptions) -> Result<File, Error> {
    let mut open = OpenOptions::new();
    open.read(true).write(true);
    match is_device {
        // Exclusive: the system refuses what is mounted, and mounts nothing meanwhile.
        true if !options.force => open.custom_flags(OFlag::O_EXCL.bits()),
        true => &mut open,
        false if options.force => open.create(true).truncate(true),
        false => open.create_new(true),
    };
    open.open(dest).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists { path: dest.to_owned() },
        _ => Error::io(dest, "open")(cause),
    })
}

/// Copies the stream to where the partition begins; returns the hash of each block.
fn copy(
    bundle: &Bundle,
    file: &mut File,
    dest: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Sha256>, Error> {
    let (mut buffer, mut done, mut hashes) = (vec![0; BLOCK_BYTES], 0, Vec::new());
    // No table while it is half written.
    let blank = vec![0; gpt::ALIGN as usize];
    file.write_all_at(&blank, 0).map_err(Error::io(dest, "write"))?;
    file.seek(SeekFrom::Start(gpt::ALIGN)).map_err(Error::io(dest, "write"))?;
    while done < bundle.stream_bytes() {
        let block = &mut buffer[..(bundle.stream_bytes() - done).min(BLOCK_BYTES as u64) as usize];
        bundle.stream().read_at(block, done)?;
        hashes.push(Sha256::of(block));
        file.write_all(block).map_err(Error::io(dest, "write"))?;
        done += block.len() as u64;
        // So that progress is the stick's, not the memory's.
        file.sync_data().map_err(Error::io(dest, "write"))?;
        progress(done);
    }
    Ok(hashes)
}

/// Reads back from the device itself and compares.
fn compare(
    file: &File,
    dest: &Path,
    hashes: &[Sha256],
    bytes: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    // What the system remembers is not what the stick kept.
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|errno| Error::io(dest, "read back")(errno.into()))?;
    let (mut buffer, mut done) = (vec![0; BLOCK_BYTES], 0);
    for want in hashes {
        let block = &mut buffer[..(bytes - done).min(BLOCK_BYTES as u64) as usize];
        file.read_exact_at(block, gpt::ALIGN + done).map_err(Error::io(dest, "read back"))?;
        if Sha256::of(block) != *want {
            return Err(Error::ReadBack { path: PathBuf::from(dest), offset: gpt::ALIGN + done });
        }
        done += block.len() as u64;
        progress(done);
    }
    Ok(())
}
