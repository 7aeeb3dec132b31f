//! A stick, an image or a folder, opened: its manifest and signature as bytes, checked, then its blobs one by one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

use crate::key_list::KeyLists;
use crate::keys::{Purpose, SecretKey};
use crate::layout::{self, Bits, Index, Layout};
use crate::manifest::{Chunk, MANIFEST_BYTES_MAX, Manifest};
use crate::signed::{self, SignatureFile, signature_file};
use crate::stream::{self, FOLDER, Stream};
use crate::trust::{Signer, Trust};
use crate::{Error, Role, Sha256, gpt, tar};

/// How long a measurement of reading goes on, and over how much.
const MEASURE_TIME: Duration = Duration::from_millis(700);
const MEASURE_BYTES: u64 = 96 << 20;

/// An opened carrier, nothing of which is believed yet.
#[derive(Debug)]
pub struct Carrier {
    stream: Stream,
    layout: Layout,
    manifest: Vec<u8>,
    carried: Bits,
    signature: Vec<u8>,
    keys: Vec<u8>,
}

impl Carrier {
    /// Opens a block device (whole, or the bundle's partition), an image file, or a folder that is or has `wels-bundle/`.
    ///
    /// # Errors
    /// There is no bundle, it is damaged, or cut short.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of(open_stream(path, false)?)
    }

    /// As [`Self::open`], for a file or device that is open already: what a process that may open devices hands over.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_file(path: &Path, file: File) -> Result<Self, Error> {
        Self::of(find_stream(path, file)?)
    }

    /// As [`Self::open`], for a folder that is open already, wherever it is mounted: only what lies in it is opened, and no
    /// link followed. `path` is what errors name.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_folder(path: &Path, folder: &File) -> Result<Self, Error> {
        Self::of(folder_stream(path, folder, false)?)
    }

    fn of(stream: Stream) -> Result<Self, Error> {
        let damaged = |what| Error::Stream { path: stream.path().to_owned(), what };
        let mut header = [0; tar::BLOCK as usize];
        stream.read_at(&mut header, 0)?;
        let bytes = tar::size(&header, layout::MANIFEST).ok_or_else(|| damaged("no manifest.json"))?;
        if bytes > MANIFEST_BYTES_MAX {
            let problem = crate::manifest::Problem::TooLarge { bytes };
            return Err(Error::Manifest { path: stream.path().to_owned(), problem });
        }
        let carried_at = tar::member_bytes(bytes);
        stream.read_at(&mut header, carried_at)?;
        let carried_bytes = tar::size(&header, layout::CARRIED)
            .filter(|bytes| *bytes <= Bits::bytes_for(crate::manifest::CHUNKS_MAX));
        let carried_bytes = carried_bytes.ok_or_else(|| damaged("no list of what it carries"))?;
        let layout = Layout { manifest_bytes: bytes, carried_bytes };
        let member = |name, at, bytes| read_member(&stream, name, at, bytes);
        let manifest = member(layout::MANIFEST, 0, bytes)?;
        let carried = Bits::from_bytes(member(layout::CARRIED, layout.carried_at(), carried_bytes)?);
        let signature = member(layout::SIGNATURE, layout.signature_at(), layout::SIGNATURE_BYTES)?;
        let keys = member(layout::KEYS, layout.keys_at(), layout::KEYS_BYTES)?;
        Ok(Self { stream, layout, manifest, carried, signature, keys })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.stream.path()
    }

    /// The fingerprint of the key that signed it, as it says itself; `None` where nobody has.
    pub fn claimed_fingerprint(&self) -> Option<String> {
        signature_file(self.path(), &self.signature).ok().map(|file| file.key.fingerprint())
    }

    /// Believes it, if a key that `trust` knows signed it, or one of a newer list that it brings. What the list changes is
    /// in the returned trust, for the caller to save.
    ///
    /// # Errors
    /// The signature is wrong, by a stranger, or by somebody who signs other things; or the manifest is.
    pub fn check(self, trust: &Trust) -> Result<(Bundle, Trust), Error> {
        let (manifest, signer, trust) =
            signed::check(self.path(), &self.manifest, &self.signature, &self.keys, trust)?;
        Ok((self.bundle(manifest, Some(signer))?, trust))
    }

    /// Reads it without asking who signed it: to look at it, never to install it.
    ///
    /// # Errors
    /// The manifest is wrong.
    pub fn unchecked(self) -> Result<Bundle, Error> {
        let manifest = signed::parse(self.path(), &self.manifest)?;
        self.bundle(manifest, None)
    }

    /// The lists of release keys that it brings.
    ///
    /// # Errors
    /// They are damaged.
    pub fn key_lists(&self) -> Result<KeyLists, Error> {
        signed::key_lists(&self.keys)
    }

    fn bundle(self, manifest: Manifest, signer: Option<Signer>) -> Result<Bundle, Error> {
        let path = self.path().to_owned();
        let n_chunks = manifest.chunks().count();
        if self.layout.carried_bytes != Bits::bytes_for(n_chunks) {
            return Err(Error::Stream { path, what: "its list of what it carries has another length" });
        }
        let index = Index::new(&self.layout, &manifest, &self.carried);
        let (want, got) = (index.end + tar::END_BYTES, self.stream.bytes());
        if want > got {
            return Err(Error::Truncated { path, want, got });
        }
        let id = Sha256::of(&self.manifest);
        Ok(Bundle { carrier: self, manifest, signer, index, id })
    }
}

/// A bundle whose manifest was read.
#[derive(Debug)]
pub struct Bundle {
    carrier: Carrier,
    /// What it installs.
    pub manifest: Manifest,
    /// Who signed it; `None` where nobody asked.
    pub signer: Option<Signer>,
    /// The hash of the manifest's bytes: full and delta bundles of a version share it.
    pub id: Sha256,
    index: Index,
}

impl Bundle {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.carrier.path()
    }

    /// The manifest's exact bytes.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.carrier.manifest
    }

    /// The key and its signature, as they lie on the carrier.
    pub(crate) fn signature_bytes(&self) -> &[u8] {
        self.carrier.signature.trim_ascii_end()
    }

    /// The lists of keys, as they lie on the carrier.
    pub(crate) fn key_list_bytes(&self) -> &[u8] {
        self.carrier.keys.trim_ascii_end()
    }

    /// Bytes of its stream.
    pub fn stream_bytes(&self) -> u64 {
        self.index.end + tar::END_BYTES
    }

    /// Whether a chunk's bytes are in it.
    pub fn carries(&self, chunk: &Chunk) -> bool {
        self.index.place(chunk.sha256).is_some()
    }

    /// What it carries and what not: (blobs, stored bytes, blobs left out).
    pub fn contents(&self) -> (usize, u64, usize) {
        let blobs = self.manifest.blobs();
        let carried = || blobs.iter().filter(|place| self.carries(place.chunk));
        let bytes = carried().map(|place| u64::from(place.chunk.stored_bytes())).sum();
        (carried().count(), bytes, blobs.len() - carried().count())
    }

    /// The stored bytes of a chunk, their hash checked: `buffer`'s end. `None` where it isn't carried.
    ///
    /// # Errors
    /// The carrier can't be read, or the bytes are others.
    pub fn read<'b>(&self, chunk: &Chunk, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>, Error> {
        let Some(at) = self.index.place(chunk.sha256) else { return Ok(None) };
        let stored = chunk.stored_bytes() as usize;
        buffer.resize(tar::BLOCK as usize + stored, 0);
        self.carrier.stream.read_at(buffer, at)?;
        let (header, stored) = buffer.split_at(tar::BLOCK as usize);
        let want = tar::header(&layout::blob_name(chunk.sha256), stored.len() as u64);
        if *header == want && Sha256::of(stored) == chunk.stored_sha256() {
            Ok(Some(stored))
        } else {
            Err(self.corrupt(chunk))
        }
    }

    /// That a chunk is damaged: where it belongs is looked up.
    pub(crate) fn corrupt(&self, chunk: &Chunk) -> Error {
        let place = self.manifest.chunks().find(|place| place.chunk.sha256 == chunk.sha256);
        let (file, offset) = place
            .map_or((String::new(), 0), |place| (self.manifest.files[place.file].path.clone(), place.offset));
        Error::Corrupt { path: self.path().to_owned(), file, offset }
    }

    /// Bytes a second that reading the carrier brings; `None` for a bundle that carries next to nothing.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read_rate(&self) -> Result<Option<f64>, Error> {
        let (start, end) = (self.carrier.layout.blobs_at(), self.index.end);
        let mut buffer = vec![0; (4 << 20).min(end - start) as usize];
        if buffer.is_empty() {
            return Ok(None);
        }
        self.forget_cached();
        let (begin, mut bytes) = (Instant::now(), 0);
        while begin.elapsed() < MEASURE_TIME
            && bytes < MEASURE_BYTES
            && start + bytes + buffer.len() as u64 <= end
        {
            self.carrier.stream.read_at(&mut buffer, start + bytes)?;
            bytes += buffer.len() as u64;
        }
        Ok(Some(bytes as f64 / begin.elapsed().as_secs_f64().max(1e-6)))
    }

    /// What the system remembers of the stick is not what is on it. A hint only.
    pub(crate) fn forget_cached(&self) {
        for file in self.carrier.stream.files() {
            let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.carrier.stream
    }
}

/// Signs a bundle in its place, and puts `lists` of keys into it.
///
/// # Errors
/// The bundle can't be opened or written, or the key is no release key.
pub fn sign(path: &Path, key: &SecretKey, lists: Option<&KeyLists>) -> Result<Bundle, Error> {
    if key.role != Role::Release {
        return Err(Error::WrongRole { name: key.name.clone(), got: "root", want: "release" });
    }
    let carrier = Carrier::of(open_stream(path, true)?)?;
    let signature = key.sign(Purpose::Manifest, &carrier.manifest);
    let file = SignatureFile { key: key.public_key(), signature };
    let json = serde_json::to_vec(&file).expect("plain data");
    let Carrier { stream, layout, .. } = &carrier;
    stream.write_at(&padded(json, layout::SIGNATURE_BYTES), layout.signature_at() + tar::BLOCK)?;
    if let Some(lists) = lists {
        stream.write_at(&padded(lists.to_json(), layout::KEYS_BYTES), layout.keys_at() + tar::BLOCK)?;
    }
    stream.sync()?;
    Carrier::open(path)?.unchecked()
}

/// Blanks behind JSON are JSON.
pub(crate) fn padded(mut json: Vec<u8>, bytes: u64) -> Vec<u8> {
    assert!(json.len() as u64 <= bytes, "room was made for the longest");
    json.resize(bytes as usize, b' ');
    json
}

fn read_member(stream: &Stream, name: &str, at: u64, bytes: u64) -> Result<Vec<u8>, Error> {
    // Before anything is allocated.
    let (end, got) = (at + tar::member_bytes(bytes), stream.bytes());
    if end > got {
        return Err(Error::Truncated { path: stream.path().to_owned(), want: end, got });
    }
    let mut header = [0; tar::BLOCK as usize];
    stream.read_at(&mut header, at)?;
    if header != tar::header(name, bytes) {
        return Err(Error::Stream {
            path: stream.path().to_owned(),
            what: "a member is not where it should be",
        });
    }
    let mut member = vec![0; bytes as usize];
    stream.read_at(&mut member, at + tar::BLOCK)?;
    Ok(member)
}

fn open_stream(path: &Path, write: bool) -> Result<Stream, Error> {
    // A link that the caller names is the caller's; inside a folder none is followed.
    let path: PathBuf = match path.canonicalize() {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoBundle { path: path.to_owned() });
        }
        path => path.map_err(Error::io(Path::new(FOLDER), "find"))?,
    };
    if path.is_dir() {
        return folder_stream(&path, &File::open(&path).map_err(Error::io(&path, "open"))?, write);
    }
    let file = stream::open(&path, write).map_err(Error::io(&path, "open"))?;
    find_stream(&path, file)
}

/// The stream in a folder that is or has `wels-bundle/`.
fn folder_stream(path: &Path, folder: &File, write: bool) -> Result<Stream, Error> {
    match stream::open_in(folder, Path::new(FOLDER), OFlag::O_DIRECTORY) {
        Ok(inner) => Stream::of_folder(&path.join(FOLDER), &inner, write),
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Stream::of_folder(path, folder, write)
        }
        Err(cause) => Err(Error::io(&path.join(FOLDER), "open")(cause)),
    }
}

/// The stream in a file or device: all of it, or a partition.
fn find_stream(path: &Path, file: File) -> Result<Stream, Error> {
    let kind = file.metadata().map_err(Error::io(path, "read"))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Error::NoBundle { path: path.to_owned() });
    }
    let failed = |cause| Error::Carrier { path: path.to_owned(), offset: 0, cause };
    let bytes = stream::device_bytes(&file).map_err(failed)?;
    let mut first = [0; tar::BLOCK as usize];
    if bytes < tar::BLOCK {
        return Err(Error::NoBundle { path: path.to_owned() });
    }
    file.read_exact_at(&mut first, 0).map_err(failed)?;
    if tar::size(&first, layout::MANIFEST).is_some() {
        return Ok(Stream::of_file(path, file, 0..bytes));
    }
    let range = gpt::find(&|buffer, at| file.read_exact_at(buffer, at), bytes);
    let range = range.map_err(|problem| match problem {
        gpt::Problem::Io(cause) => failed(cause),
        problem => Error::Gpt { path: path.to_owned(), problem },
    })?;
    Ok(Stream::of_file(path, file, range))
}
