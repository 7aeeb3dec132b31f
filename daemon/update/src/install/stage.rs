//! The copy: every chunk from where it is to where it belongs, checked on the way and once more on the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use tracing::{info, warn};

use super::journal::Journal;
use super::local::Local;
use super::{BUNDLE_FILES, Options, journal_path, staging};
use crate::carrier::Bundle;
use crate::coding::Decoder;
use crate::hash::Hasher;
use crate::installed::Version;
use crate::manifest::{Manifest, Place};
use crate::progress::{Monitor, Step};
use crate::{Error, Sha256, files};

/// Bytes between two syncs: what a power cut may cost.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Copies, checks and puts a bundle's files to their place.
pub(super) fn stage(
    models: &Path,
    bundle: &Bundle,
    options: &Options,
    monitor: &Monitor,
) -> Result<(), Error> {
    let folder = staging(models, bundle);
    let mut copy = Copy::prepare(models, &folder, bundle, options, monitor)?;
    let done = copy.done_bytes();
    info!(name = bundle.manifest.name, done, "copy begins");
    monitor.step(Step::Copy, done, bundle.manifest.bytes());
    copy.run()?;
    monitor.step(Step::Check, 0, bundle.manifest.bytes());
    let wrong = check_files(&folder, &bundle.manifest, &mut |bytes| monitor.add(bytes))?;
    if let Some(first) = wrong.first() {
        // The disk did not keep what it was given: copied again by the next try.
        warn!(n = wrong.len(), "chunks read back differently");
        wrong.iter().for_each(|wrong| copy.journal.forget(wrong.chunk));
        copy.journal.commit()?;
        return Err(first.error(&folder, &bundle.manifest));
    }
    monitor.step(Step::Settle, 0, 0);
    let Manifest { name, version, .. } = &bundle.manifest;
    let version = Version { name: name.clone(), version: *version, id: bundle.id };
    settle(models, &folder, bundle, &version)
}

/// A copy under way.
struct Copy<'a> {
    bundle: &'a Bundle,
    folder: &'a Path,
    monitor: &'a Monitor,
    local: Local,
    journal: Journal,
    checkpoint_bytes: u64,
    /// Bytes since the last checkpoint.
    unsynced: u64,
    /// The file being filled, by number.
    open: Option<(usize, PathBuf, File)>,
    /// What patches of that file refer to.
    base: Option<Vec<u8>>,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl<'a> Copy<'a> {
    /// Sets the files aside at their full size, so that the disk can't fill up half-way, and reads how far an earlier try
    /// came.
    fn prepare(
        models: &Path,
        folder: &'a Path,
        bundle: &'a Bundle,
        options: &Options,
        monitor: &'a Monitor,
    ) -> Result<Self, Error> {
        let n_chunks = bundle.manifest.chunks().count();
        monitor.step(Step::Prepare, 0, bundle.manifest.bytes());
        files::make_folder(folder)?;
        let mut is_new = Vec::new();
        for file in &bundle.manifest.files {
            let path = folder.join(&file.path);
            files::make_folder(files::parent(&path))?;
            is_new.push(set_aside(&path, file.bytes)?);
            monitor.add(file.bytes)?;
        }
        sync_folders(folder, &bundle.manifest)?;
        let mut journal = Journal::open(&journal_path(models, bundle), bundle.id, n_chunks)?;
        files::sync_folder(files::parent(folder))?;
        let lost: Vec<usize> =
            chunks_of(&bundle.manifest, &is_new).filter(|chunk| journal.done[*chunk]).collect();
        lost.into_iter().for_each(|chunk| journal.forget(chunk));
        journal.commit()?;
        Ok(Self {
            bundle,
            folder,
            monitor,
            local: Local::read(models, &options.bases)?,
            journal,
            checkpoint_bytes: if options.checkpoint_bytes == 0 {
                CHECKPOINT_BYTES
            } else {
                options.checkpoint_bytes
            },
            unsynced: 0,
            open: None,
            base: None,
            decoder: Decoder::default(),
            buffer: Vec::new(),
        })
    }

    /// What an earlier try copied.
    fn done_bytes(&self) -> u64 {
        let chunks = self.bundle.manifest.chunks().zip(&self.journal.done);
        chunks.filter(|(_, done)| **done).map(|(place, _)| u64::from(place.chunk.bytes)).sum()
    }

    fn run(&mut self) -> Result<(), Error> {
        let bundle = self.bundle;
        for (i, place) in bundle.manifest.chunks().enumerate() {
            if self.journal.done[i] {
                continue;
            }
            let copied = self.enter(place.file).and_then(|()| self.copy(i, &place));
            if let Err(error) = copied {
                // What is there stays there; the first error is the one to tell.
                if let Err(later) = self.checkpoint() {
                    warn!(%later, "the last chunks will be copied again");
                }
                return Err(error);
            }
        }
        self.checkpoint()
    }

    /// Opens the file that the next chunk belongs to.
    fn enter(&mut self, number: usize) -> Result<(), Error> {
        if self.open.as_ref().is_some_and(|(open, ..)| *open == number) {
            return Ok(());
        }
        self.checkpoint()?;
        let entry = &self.bundle.manifest.files[number];
        let path = self.folder.join(&entry.path);
        let file = OpenOptions::new().write(true).open(&path).map_err(Error::io(&path, "open"))?;
        self.open = Some((number, path, file));
        self.base = entry.base.and_then(|base| self.local.base(&base));
        Ok(())
    }

    fn copy(&mut self, chunk: usize, place: &Place<'_>) -> Result<(), Error> {
        let (_, path, file) = self.open.as_ref().expect("entered");
        let plain = match self.local.chunk(place.chunk, &mut self.buffer) {
            Some(plain) => plain,
            None => {
                let stored = self.bundle.read(place.chunk, &mut self.buffer)?;
                let stored = stored.ok_or_else(|| missing(self.bundle))?;
                if place.chunk.is_patch() && self.base.is_none() {
                    return Err(missing(self.bundle));
                }
                let plain = self.decoder.decode(place.chunk, stored, self.base.as_deref());
                plain.ok_or_else(|| self.bundle.corrupt(place.chunk))?
            }
        };
        file.write_all_at(plain, place.offset).map_err(Error::io(path, "write"))?;
        self.journal.add(chunk);
        self.unsynced += plain.len() as u64;
        self.monitor.add(plain.len() as u64)?;
        if self.unsynced >= self.checkpoint_bytes { self.checkpoint() } else { Ok(()) }
    }

    /// From here a copy can resume: data first, then the journal that names it.
    fn checkpoint(&mut self) -> Result<(), Error> {
        if let Some((_, path, file)) = &self.open {
            file.sync_data().map_err(Error::io(path, "write"))?;
        }
        self.unsynced = 0;
        self.journal.commit()
    }
}

fn missing(bundle: &Bundle) -> Error {
    let Manifest { name, version, .. } = &bundle.manifest;
    Error::MissingChunks { name: name.clone(), version: *version, missing: 1 }
}

/// Makes a file of its full size, room on the disk included; says whether it wasn't there.
fn set_aside(path: &Path, bytes: u64) -> Result<bool, Error> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(Error::io(path, "make"))?;
    if file.metadata().map_err(Error::io(path, "read"))?.len() == bytes {
        return Ok(bytes == 0);
    }
    file.set_len(0).map_err(Error::io(path, "make"))?;
    let length = i64::try_from(bytes).expect("limited by the number of chunks");
    let set = if bytes == 0 { Ok(()) } else { fallocate(&file, FallocateFlags::empty(), 0, length) };
    match set {
        // A file system that can't: it may fill up half-way, which is an error then.
        Err(Errno::EOPNOTSUPP) => file.set_len(bytes),
        set => set.map_err(io::Error::from),
    }
    .map_err(Error::io(path, "make room for"))?;
    file.sync_all().map_err(Error::io(path, "make"))?;
    Ok(true)
}

/// The chunks of the files that `is_wanted` marks.
fn chunks_of<'a>(manifest: &'a Manifest, is_wanted: &'a [bool]) -> impl Iterator<Item = usize> + 'a {
    manifest.chunks().enumerate().filter(|(_, place)| is_wanted[place.file]).map(|(chunk, _)| chunk)
}

fn sync_folders(folder: &Path, manifest: &Manifest) -> Result<(), Error> {
    for (inner, _) in manifest.files.iter().filter_map(|file| file.path.split_once('/')) {
        files::sync_folder(&folder.join(inner))?;
    }
    files::sync_folder(folder)
}

/// Manifest, signature and lists of keys join the files; then the folder gets its name.
fn settle(models: &Path, folder: &Path, bundle: &Bundle, version: &Version) -> Result<(), Error> {
    let [manifest, signature, keys] = BUNDLE_FILES;
    files::write_synced(&folder.join(manifest), bundle.manifest_bytes())?;
    files::write_synced(&folder.join(signature), bundle.signature_bytes())?;
    files::write_synced(&folder.join(keys), bundle.key_list_bytes())?;
    sync_folders(folder, &bundle.manifest)?;
    let place = version.folder(models);
    files::make_folder(files::parent(&place))?;
    files::rename(folder, &place)?;
    files::remove(&journal_path(models, bundle))
}

/// A chunk that isn't what it should be.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) chunk: usize,
    file: usize,
    offset: u64,
}

impl Wrong {
    pub(super) fn error(&self, folder: &Path, manifest: &Manifest) -> Error {
        Error::DiskDamaged { path: folder.join(&manifest.files[self.file].path), offset: self.offset }
    }
}

/// Reads every file back from the disk: the chunks that are wrong. Where all are right, so is the whole file's hash.
pub(super) fn check_files(
    folder: &Path,
    manifest: &Manifest,
    add: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<Vec<Wrong>, Error> {
    let mut wrong = Vec::new();
    let (mut buffer, mut chunk) = (Vec::new(), 0);
    for (number, entry) in manifest.files.iter().enumerate() {
        let path = folder.join(&entry.path);
        let file = File::open(&path).map_err(Error::io(&path, "open"))?;
        // What is in memory is not what is on the disk. A hint only.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
        let (mut hasher, mut offset, n_wrong) = (Hasher::default(), 0, wrong.len());
        for part in &entry.chunks {
            buffer.resize(part.bytes as usize, 0);
            file.read_exact_at(&mut buffer, offset).map_err(Error::io(&path, "read"))?;
            hasher.update(&buffer);
            if Sha256::of(&buffer) != part.sha256 {
                wrong.push(Wrong { chunk, file: number, offset });
            }
            offset += u64::from(part.bytes);
            chunk += 1;
            add(u64::from(part.bytes))?;
        }
        if wrong.len() == n_wrong && hasher.finish() != entry.sha256 {
            // Right chunks in a file that isn't what its maker says: nothing to copy again.
            wrong.push(Wrong { chunk: chunk.saturating_sub(1), file: number, offset: 0 });
        }
    }
    Ok(wrong)
}
