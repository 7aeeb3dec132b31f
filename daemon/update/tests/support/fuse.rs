//! A disk in memory that the kernel uses like any other: a file in a file system of our own, which records what is written
//! and when it was asked to be durable, and fails when it is told to.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};

const NAME: &str = "disk";
const INODE: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(3600);
/// Time for whoever uses a file system to let it go.
const BUSY_TIME_MAX: Duration = Duration::from_secs(30);

/// What happened to a disk.
#[derive(Clone, Debug)]
pub enum Op {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// All that was written before is durable.
    Flush,
}

/// The disk's state.
#[derive(Default)]
pub struct Disk {
    pub bytes: Vec<u8>,
    /// Since the recording began.
    pub log: Vec<Op>,
    is_recording: bool,
    /// Reads of more than a sector that still succeed.
    pub reads_left: Option<usize>,
}

impl Disk {
    /// Records from here on; gives what was there before. Not a byte between the two.
    pub fn record(&mut self) -> Vec<u8> {
        self.is_recording = true;
        self.bytes.clone()
    }
}

struct DiskFs(Arc<Mutex<Disk>>);

impl DiskFs {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    fn attr(&self, inode: INodeNo) -> FileAttr {
        attr(inode, (inode == INODE).then(|| self.disk().bytes.len() as u64))
    }
}

impl Filesystem for DiskFs {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOREVER, &self.attr(INODE), Generation(0))
        } else {
            reply.error(Errno::ENOENT)
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attr(inode));
    }

    /// Every read and write comes here: the kernel keeps nothing.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut disk = self.disk();
        if size > 512
            && let Some(left) = &mut disk.reads_left
        {
            if *left == 0 {
                return reply.error(Errno::EIO);
            }
            *left -= 1;
        }
        let start = disk.bytes.len().min(offset as usize);
        let end = disk.bytes.len().min(start + size as usize);
        reply.data(&disk.bytes[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.disk();
        let start = offset as usize;
        let Some(place) = disk.bytes.get_mut(start..start + bytes.len()) else {
            return reply.error(Errno::ENOSPC);
        };
        place.copy_from_slice(bytes);
        if disk.is_recording {
            disk.log.push(Op::Write { offset, bytes: bytes.to_vec() });
        }
        reply.written(bytes.len() as u32);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut disk = self.disk();
        if disk.is_recording {
            disk.log.push(Op::Flush);
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

/// Of a file of root's with so many bytes; without, of a folder.
pub fn attr(inode: INodeNo, bytes: Option<u64>) -> FileAttr {
    let (size, time) = (bytes.unwrap_or(0), SystemTime::UNIX_EPOCH);
    FileAttr {
        ino: inode,
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: if bytes.is_some() { FileType::RegularFile } else { FileType::Directory },
        perm: if bytes.is_some() { 0o600 } else { 0o700 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// A disk in memory as a file that the kernel knows.
pub struct DiskFile {
    session: Option<BackgroundSession>,
    disk: Arc<Mutex<Disk>>,
    folder: PathBuf,
}

impl DiskFile {
    /// Mounts it at `folder`.
    ///
    /// # Panics
    /// With words, where this machine can't: the test needs it.
    pub fn mount(folder: &Path, bytes: Vec<u8>) -> Self {
        fs::create_dir_all(folder).unwrap();
        let disk = Arc::new(Mutex::new(Disk { bytes, ..Disk::default() }));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("wels-test".into())];
        let session = fuser::spawn_mount(DiskFs(Arc::clone(&disk)), folder, &config);
        let session = session.unwrap_or_else(|error| panic!("{NEEDS}: FUSE: {error}"));
        Self { session: Some(session), disk, folder: folder.to_owned() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // A loop device lets go of its file a moment after its file system was unmounted.
        for _ in 0..200 {
            if run(Command::new("umount").arg(&self.folder)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = session.umount_and_join();
    }
}

const NEEDS: &str = "this test needs root, /dev/fuse, loop devices and e2fsprogs";

/// A file system in a file, mounted as long as this lives.
pub struct Mounted(PathBuf);

impl Mounted {
    /// # Panics
    /// It can't be mounted.
    pub fn new(image: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop,noatime"]).arg(image).arg(folder)).unwrap();
        Self(folder.to_owned())
    }

    /// A block device with a file system.
    ///
    /// # Panics
    /// It can't be mounted.
    pub fn device(device: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        run(Command::new("mount").args(["-t", "ext4"]).arg(device).arg(folder)).unwrap();
        Self(folder.to_owned())
    }

    /// A file system in memory of `bytes`.
    ///
    /// # Panics
    /// It can't be mounted.
    pub fn tmpfs(folder: &Path, bytes: u64) -> Self {
        fs::create_dir_all(folder).unwrap();
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder)).unwrap();
        Self(folder.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A store that was dropped closes its files a moment later.
        let start = Instant::now();
        while run(Command::new("umount").arg(&self.0)).is_err() {
            if start.elapsed() > BUSY_TIME_MAX {
                let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A file as a block device, as long as this lives.
pub struct Loop(pub PathBuf);

impl Loop {
    /// # Panics
    /// There is no device.
    pub fn new(file: &Path) -> Self {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(made.status.success(), "{NEEDS}: {}", String::from_utf8_lossy(&made.stderr));
        Self(PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run(Command::new("losetup").arg("--detach").arg(&self.0));
    }
}

/// An empty ext4 in a file of `bytes`, all of its tables written.
pub fn ext4(image: &Path, bytes: u64) {
    let file = fs::File::create(image).unwrap();
    file.set_len(bytes).unwrap();
    let options = ["-q", "-F", "-b", "4096", "-J", "size=4", "-m", "0"];
    let now = ["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
    run(Command::new("mkfs.ext4").args(options).args(now).arg(image)).unwrap();
}

/// Runs a tool; what it said is the error.
pub fn run(command: &mut Command) -> io::Result<()> {
    let output =
        command.output().map_err(|error| io::Error::other(format!("{NEEDS}: {command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{NEEDS}: {command:?}: {}: {said}", output.status)))
}
