//! A drive and a boot partition as one file system that records, in one log, what is written to either and when it was asked
//! to be durable: `disk` is a file, `EFI/Linux` a folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, WriteFlags,
};

use super::fuse::attr;

/// The root, `EFI`, `EFI/Linux`; `disk`; then boot files.
const FOLDERS: [u64; 3] = [1, 2, 3];
pub const DISK: u64 = 4;
/// Nothing is remembered: each look comes here.
const NOW: Duration = Duration::ZERO;

/// What happened.
#[derive(Clone, Debug)]
pub enum Op {
    /// To the drive, or to a boot file.
    Write { file: u64, offset: usize, bytes: Vec<u8> },
    /// What was written to it is durable.
    Sync { file: u64 },
    /// A boot file got a name; or lost one.
    Name { name: String, file: Option<u64> },
    /// A boot file's name became another.
    Rename { from: String, to: String },
    /// The names are durable.
    SyncNames,
}

/// Files by number, and names of the boot files.
#[derive(Clone, Default)]
pub struct State {
    pub files: BTreeMap<u64, Vec<u8>>,
    pub names: BTreeMap<String, u64>,
    pub log: Vec<Op>,
}

impl State {
    /// Does what an operation did to names.
    pub fn name(&mut self, op: &Op) {
        match op {
            Op::Name { name, file: Some(file) } => _ = self.names.insert(name.clone(), *file),
            Op::Name { name, file: None } => _ = self.names.remove(name),
            Op::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            _ => {}
        }
    }

    /// Writes a piece.
    pub fn write(&mut self, file: u64, offset: usize, bytes: &[u8]) {
        let content = self.files.entry(file).or_default();
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The boot files by name.
    pub fn esp(&self) -> BTreeMap<String, Vec<u8>> {
        self.names.iter().map(|(name, file)| (name.clone(), self.files[file].clone())).collect()
    }
}

struct CordFs(Arc<Mutex<State>>);

impl CordFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The number of what has a name in a folder.
    fn find(&self, parent: INodeNo, name: &OsStr) -> Option<u64> {
        match (parent.0, name.to_str()?) {
            (1, "EFI") => Some(2),
            (1, "disk") => Some(DISK),
            (2, "Linux") => Some(3),
            (3, name) => self.state().names.get(name).copied(),
            _ => None,
        }
    }

    fn attr(&self, inode: u64) -> FileAttr {
        let bytes = self.state().files.get(&inode).map_or(0, Vec::len) as u64;
        attr(INodeNo(inode), (!FOLDERS.contains(&inode)).then_some(bytes))
    }

    fn done(&self, op: Op) {
        let mut state = self.state();
        state.name(&op);
        state.log.push(op);
    }
}

impl Filesystem for CordFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Some(inode) => reply.entry(&NOW, &self.attr(inode), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NOW, &self.attr(inode.0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let file = {
            let mut state = self.state();
            let file = state.files.keys().max().map_or(DISK + 1, |last| last + 1).max(DISK + 1);
            state.files.insert(file, Vec::new());
            file
        };
        self.done(Op::Name { name: name.to_str().unwrap().to_owned(), file: Some(file) });
        let flags = FopenFlags::FOPEN_DIRECT_IO;
        reply.created(&NOW, &self.attr(file), Generation(0), FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state();
        let bytes = &state.files[&inode.0];
        let start = bytes.len().min(offset as usize);
        reply.data(&bytes[start..bytes.len().min(start + size as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let offset = offset as usize;
        self.state().write(inode.0, offset, bytes);
        self.done(Op::Write { file: inode.0, offset, bytes: bytes.to_vec() });
        reply.written(bytes.len() as u32);
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(Op::Sync { file: inode.0 });
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(Op::SyncNames);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(Op::Name { name: name.to_str().unwrap().to_owned(), file: None });
        reply.ok();
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        from: &OsStr,
        _: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let [from, to] = [from, to].map(|name| name.to_str().unwrap().to_owned());
        self.done(Op::Rename { from, to });
        reply.ok();
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = self.state().names.clone();
        for (at, (name, file)) in (1..).zip(names).skip(offset as usize) {
            if reply.add(INodeNo(file), at, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(4096, 4096, 4096, 4096, 4096, 4096, 255, 4096);
    }
}

/// A drive and a boot partition that record, as long as this lives.
pub struct Cord {
    session: Option<BackgroundSession>,
    state: Arc<Mutex<State>>,
    pub folder: PathBuf,
}

impl Cord {
    /// Mounts them at `folder`.
    ///
    /// # Panics
    /// With words, where this machine can't: the test needs it.
    pub fn mount(folder: &Path, state: State) -> Self {
        fs::create_dir_all(folder).unwrap();
        let state = Arc::new(Mutex::new(state));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("wels-test".into())];
        let session = fuser::spawn_mount(CordFs(Arc::clone(&state)), folder, &config);
        let session = session.unwrap_or_else(|error| panic!("this test needs root and /dev/fuse: {error}"));
        Self { session: Some(session), state, folder: folder.to_owned() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Cord {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}
