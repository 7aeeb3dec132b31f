//! `wels stick`: opens what was plugged in and hands it to the daemon. The only part of Wels that touches a stick's device; it
//! reads nothing but the first block, and executes nothing.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use tracing::{info, warn};

use crate::appliance::door::{self, Answer, Hello, Kind, Order};
use crate::cli::Stick;

/// File systems that sticks have.
const FILE_SYSTEMS: [&str; 2] = ["vfat", "exfat"];
/// Time for a daemon that starts to open its door.
const DOOR_TIME_MAX: Duration = Duration::from_secs(60);
const DOOR_LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Stick) -> Result<ExitCode> {
    let stick = match Opened::open(&args.device) {
        Ok(stick) => stick,
        Err(error) => {
            // Trying again would not help: the service that started this does so only after a failure.
            warn!("this stick is of no use: {error:#}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let socket = knock(&args.runtime.join(door::SOCKET))?;
    let hello = stick.hello(&args.device)?;
    info!(device = hello.device, kind = ?hello.kind, "handed over");
    door::send(&socket, &hello, Some(stick.descriptor.as_fd())).context("the daemon hung up")?;
    serve(&args.device, stick, &socket)
}

/// Follows orders until the daemon hangs up.
fn serve(device: &Path, stick: Opened, socket: &UnixStream) -> Result<ExitCode> {
    let kind = stick.kind;
    let mut held = Some(stick);
    loop {
        let Ok((order, _)) = door::receive::<Order>(socket) else {
            bail!("the daemon hung up; it is asked again when this starts anew");
        };
        let opened = match (kind, order) {
            (Kind::Image, _) => Err(anyhow!("the stick has no file system: nothing can be written to it")),
            (Kind::Folder, order) => {
                // One file system can't be mounted both ways at once.
                drop(held.take());
                Opened::file_system(
                    device,
                    if order == Order::Writable { Access::Write } else { Access::Read },
                )
            }
        };
        let answer = Answer { error: opened.as_ref().err().map(|error| format!("{error:#}")) };
        let descriptor = opened.as_ref().ok().map(|stick| stick.descriptor.as_fd());
        door::send(socket, &answer, descriptor).context("the daemon hung up")?;
        held = opened.ok().or(held);
    }
}

/// Connects to the daemon, which may still be starting.
fn knock(path: &Path) -> Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return Ok(socket),
            Err(_) if start.elapsed() < DOOR_TIME_MAX => std::thread::sleep(DOOR_LOOK_EVERY),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("no daemon at {}; is it running?", path.display()));
            }
        }
    }
}

/// An opened stick.
struct Opened {
    kind: Kind,
    descriptor: OwnedFd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Opened {
    /// A device or file that holds a bundle as its bytes, a device with a file system, or a folder.
    fn open(path: &Path) -> Result<Self> {
        let found = fs::metadata(path).with_context(|| format!("{}: not there", path.display()))?;
        if found.is_dir() {
            return Self::file_system(path, Access::Read);
        }
        let file = read_only(path)?;
        if !found.file_type().is_block_device() || holds_bundle(&file) {
            return Ok(Self { kind: Kind::Image, descriptor: file.into() });
        }
        Self::file_system(path, Access::Read)
    }

    /// The root of a device's file system, mounted where no path leads: it goes with its last descriptor.
    fn file_system(path: &Path, access: Access) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self { kind: Kind::Folder, descriptor: read_only(path)?.into() });
        }
        let mut tried = None;
        for name in FILE_SYSTEMS {
            match mount(path, name, access) {
                Ok(descriptor) => return Ok(Self { kind: Kind::Folder, descriptor }),
                Err(error) => tried = tried.or(Some(error)),
            }
        }
        let error = tried.context("there is a file system to try")?;
        Err(error).with_context(|| {
            let (path, names) = (path.display(), FILE_SYSTEMS.join(" or "));
            format!(
                "{path} can't be mounted as {names}: format it as FAT32 or exFAT, or write a bundle to it"
            )
        })
    }

    fn hello(&self, path: &Path) -> Result<Hello> {
        let device = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let bytes = match self.kind {
            Kind::Image => rustix::fs::seek(&self.descriptor, rustix::fs::SeekFrom::End(0))?,
            Kind::Folder => {
                let system = rustix::fs::fstatvfs(&self.descriptor)?;
                system.f_blocks.saturating_mul(system.f_frsize)
            }
        };
        Ok(Hello { device, label: label(path).unwrap_or_default(), bytes, kind: self.kind })
    }
}

/// What its owner calls it, as udev found it: a stranger's text. systemd tells a unit nothing of its device.
fn label(device: &Path) -> Option<String> {
    let udevadm = Command::new("udevadm").args(["info", "--query=property", "--name"]).arg(device).output();
    label_of(&String::from_utf8_lossy(&udevadm.ok()?.stdout))
}

/// The file system's name, or the partition's.
fn label_of(properties: &str) -> Option<String> {
    let of = |key: &str| {
        let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
        properties.lines().find_map(value)
    };
    of("ID_FS_LABEL").or_else(|| of("ID_PART_ENTRY_NAME"))
}

/// Without a controlling terminal, and without waiting where it is a pipe.
fn read_only(path: &Path) -> Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// Whether the first block is a bundle's: a tar archive that begins with the manifest.
fn holds_bundle(file: &File) -> bool {
    let mut block = [0; 512];
    let mut file = file;
    file.read_exact(&mut block).is_ok()
        && block.starts_with(b"manifest.json\0")
        && block[257..].starts_with(b"ustar")
}

pub(crate) fn mount(device: &Path, file_system: &str, access: Access) -> Result<OwnedFd> {
    let system = fsopen(file_system, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&system, "source", device)?;
    // What is on it belongs to nobody in particular; whoever has the descriptor may read it, and write where that is meant.
    fsconfig_set_string(&system, "umask", "0000")?;
    if access == Access::Read {
        fsconfig_set_flag(&system, "ro")?;
    }
    fsconfig_create(&system)?;
    let closed = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let read_only =
        if access == Access::Read { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let root = fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, closed | read_only)?;
    // The mount itself can't be listed or read through: its root can.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&root, ".", flags, rustix::fs::Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_bundle_is_told_by_its_first_block() {
        let mut block = [0; 512];
        block[..14].copy_from_slice(b"manifest.json\0");
        block[257..262].copy_from_slice(b"ustar");
        for (bytes, is_bundle) in [(&block[..], true), (&block[..511], false), (&[0; 512], false)] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            assert_eq!(holds_bundle(&file), is_bundle);
        }
    }

    #[test]
    fn a_sticks_name_is_its_file_systems_or_its_partitions() {
        let found = label_of(
            "ID_FS_TYPE=exfat\nID_FS_LABEL_ENC=KEEP\\x20ER\nID_FS_LABEL=KEEP_ER\nID_PART_ENTRY_NAME=x\n",
        );
        assert_eq!(found.as_deref(), Some("KEEP_ER"));
        assert_eq!(label_of("ID_PART_ENTRY_NAME=WELS-BUNDLE\n").as_deref(), Some("WELS-BUNDLE"));
        assert_eq!(label_of("DEVNAME=/dev/sda\n"), None);
    }

    #[test]
    fn an_image_and_a_folder_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, [1; 100]).unwrap();
        let opened = Opened::open(&image).unwrap();
        assert_eq!(opened.hello(&image).unwrap().bytes, 100);
        assert!(Opened::open(dir.path()).unwrap().kind == Kind::Folder);
        assert!(Opened::open(&dir.path().join("absent")).is_err());
    }
}
