//! A bundle from a folder: chunks hashed, coded and written as they are read, the manifest in front when all are known.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::carrier::{Carrier, padded};
use crate::coding::Encoder;
use crate::hash::Hasher;
use crate::install::BUNDLE_FILES;
use crate::layout::{self, Bits, Layout};
use crate::manifest::{
    BASE_BYTES_MAX, Base, CHUNK_BYTES_MAX, Chunk, Coding, FORMAT, FileEntry, Kind, Manifest, Requires, Stored,
};
use crate::stream::{FOLDER, PART_BYTES, Stream};
use crate::{Error, Sha256, files, gpt, plain_path, tar};

/// Where a bundle is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, to be flashed to a stick.
    Image(PathBuf),
    /// A folder, to be copied to a stick with a file system; `wels-bundle/` is made in it.
    Folder(PathBuf),
}

/// What a bundle is to be.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// What it is for.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// For people.
    pub title: String,
    /// Its counter.
    pub version: u64,
    /// When it was made, in words.
    pub created: String,
    /// What a machine needs.
    pub requires: Requires,
    /// An earlier version: only what that lacks is carried.
    pub previous: Option<PathBuf>,
    /// Bytes of a chunk, 8 MiB at most.
    pub chunk_bytes: u32,
}

/// A file to be packed.
struct Source {
    path: PathBuf,
    name: String,
    bytes: u64,
    base: Option<(Base, PathBuf)>,
}

/// Makes a bundle of the files in `source`; `progress` is told bytes done and in all. It is not signed yet.
///
/// # Errors
/// The folder holds something else than plain files one folder deep; the target is there already; the disk refuses.
pub fn create(
    source: &Path,
    target: &Target,
    options: &CreateOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    assert!((1..=CHUNK_BYTES_MAX).contains(&options.chunk_bytes), "a programmer's choice");
    let previous =
        options.previous.as_deref().map(|path| Previous::open(path, options.chunk_bytes)).transpose()?;
    let mut sources = list(source)?;
    if let Some(previous) = previous.as_ref().filter(|_| options.kind == Kind::System) {
        sources.iter_mut().for_each(|source| source.base = previous.base(&source.name));
    }
    let widest = widest(&sources, options);
    let checked = Manifest::parse(&widest.to_json());
    checked.map_err(|problem| Error::Manifest { path: source.to_owned(), problem })?;
    let layout = Layout {
        manifest_bytes: widest.to_json().len() as u64,
        carried_bytes: Bits::bytes_for(widest.chunks().count()),
    };
    let most = widest.chunks().map(|place| tar::member_bytes(u64::from(place.chunk.bytes))).sum::<u64>();
    let output = Output::create(target, layout.blobs_at() + most + tar::END_BYTES)?;
    let written = Writer::new(&output.stream, layout, widest, previous).run(&sources, options, progress);
    match written {
        Ok((end, id)) => output.finish(end, id),
        Err(error) => {
            output.discard();
            Err(error)
        }
    }
}

/// The manifest at its longest: every chunk coded, every number at its largest.
fn widest(sources: &[Source], options: &CreateOptions) -> Manifest {
    let sha256 = Sha256([0xff; 32]);
    let files = sources.iter().map(|source| {
        let size = u64::from(options.chunk_bytes);
        let chunks = (0..source.bytes.div_ceil(size)).map(|i| {
            let bytes = size.min(source.bytes - i * size) as u32;
            // One hash each, so that no two are taken for one blob.
            let sha256 = Sha256::of(format!("{} {i}", source.name).as_bytes());
            let coding = if source.base.is_some() { Coding::Patch } else { Coding::Zstd };
            let stored = Some(Stored { coding, bytes: bytes - 1, sha256 }).filter(|stored| stored.bytes > 0);
            Chunk { bytes, sha256, stored }
        });
        let base = source.base.as_ref().map(|(base, _)| *base);
        FileEntry { path: source.name.clone(), bytes: source.bytes, sha256, chunks: chunks.collect(), base }
    });
    Manifest {
        format: FORMAT,
        kind: options.kind,
        name: options.name.clone(),
        title: options.title.clone(),
        version: options.version,
        created: options.created.clone(),
        requires: options.requires.clone(),
        files: files.collect(),
    }
}

/// Fills a stream.
struct Writer<'a> {
    stream: &'a Stream,
    layout: Layout,
    /// The longest at first, then file by file the real one.
    manifest: Manifest,
    previous: Option<Previous>,
    known: HashMap<Sha256, Chunk>,
    /// Chunks of several files: no patches, which belong to one file's base.
    shared: HashSet<Sha256>,
    carried: Bits,
    n_chunks: usize,
    end: u64,
}

impl<'a> Writer<'a> {
    fn new(stream: &'a Stream, layout: Layout, manifest: Manifest, previous: Option<Previous>) -> Self {
        let carried = Bits::new(manifest.chunks().count());
        let end = layout.blobs_at();
        let (known, shared) = (HashMap::new(), HashSet::new());
        Self { stream, layout, manifest, previous, known, shared, carried, n_chunks: 0, end }
    }

    /// Writes everything; returns where the stream ends and the manifest's hash.
    fn run(
        mut self,
        sources: &[Source],
        options: &CreateOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(u64, Sha256), Error> {
        let total = sources.iter().map(|source| source.bytes).sum();
        self.shared = shared(sources, options.chunk_bytes)?;
        let mut done = 0;
        for (number, source) in sources.iter().enumerate() {
            let base = source.base.as_ref().map(|(_, path)| fs::read(path).map_err(Error::io(path, "read")));
            let base = base.transpose()?;
            let mut add = |bytes| {
                done += bytes;
                progress(done, total);
            };
            let entry = self.add_file(source, base.as_deref(), options.chunk_bytes, &mut add)?;
            self.manifest.files[number] = entry;
        }
        self.finish()
    }

    fn add_file(
        &mut self,
        source: &Source,
        base: Option<&[u8]>,
        chunk_bytes: u32,
        add: &mut dyn FnMut(u64),
    ) -> Result<FileEntry, Error> {
        let file = File::open(&source.path).map_err(Error::io(&source.path, "open"))?;
        let mut encoder = if base.is_some() { Encoder::new_patch() } else { Encoder::new() };
        let mut entry = FileEntry {
            path: source.name.clone(),
            bytes: source.bytes,
            sha256: Sha256([0; 32]),
            chunks: Vec::new(),
            base: source.base.as_ref().map(|(base, _)| *base),
        };
        let (mut hasher, mut buffer, mut offset) = (Hasher::default(), Vec::new(), 0);
        while offset < source.bytes {
            buffer.resize(u64::from(chunk_bytes).min(source.bytes - offset) as usize, 0);
            file.read_exact_at(&mut buffer, offset).map_err(Error::io(&source.path, "read"))?;
            hasher.update(&buffer);
            entry.chunks.push(self.add_chunk(&buffer, base, &mut encoder)?);
            offset += buffer.len() as u64;
            add(buffer.len() as u64);
        }
        entry.sha256 = hasher.finish();
        Ok(entry)
    }

    fn add_chunk<'b>(
        &mut self,
        plain: &[u8],
        base: Option<&'b [u8]>,
        encoder: &mut Encoder<'b>,
    ) -> Result<Chunk, Error> {
        let sha256 = Sha256::of(plain);
        let number = self.n_chunks;
        self.n_chunks += 1;
        if let Some(known) = self.known.get(&sha256) {
            return Ok(*known);
        }
        let encoded = encoder.encode(plain, base.filter(|_| !self.shared.contains(&sha256)));
        let (stored, bytes) = encoded.map_or((None, plain), |(stored, bytes)| (Some(stored), bytes));
        let chunk = Chunk { bytes: plain.len() as u32, sha256, stored };
        self.known.insert(sha256, chunk);
        let has_it = self.previous.as_ref().is_some_and(|previous| previous.chunks.contains(&sha256));
        if has_it && !chunk.is_patch() {
            return Ok(chunk);
        }
        self.carried.set(number);
        self.write_member(&layout::blob_name(sha256), bytes, self.end)?;
        self.end += tar::member_bytes(bytes.len() as u64);
        Ok(chunk)
    }

    fn write_member(&self, name: &str, bytes: &[u8], at: u64) -> Result<(), Error> {
        let mut member = tar::header(name, bytes.len() as u64).to_vec();
        member.extend(bytes);
        member.resize(tar::member_bytes(bytes.len() as u64) as usize, 0);
        self.stream.write_at(&member, at)
    }

    fn finish(self) -> Result<(u64, Sha256), Error> {
        let json = padded(self.manifest.to_json(), self.layout.manifest_bytes);
        Manifest::parse(&json).expect("what was written can be read");
        self.write_member(layout::MANIFEST, &json, 0)?;
        self.write_member(layout::CARRIED, self.carried.as_bytes(), self.layout.carried_at())?;
        let blanks = |bytes| padded(Vec::new(), bytes);
        self.write_member(layout::SIGNATURE, &blanks(layout::SIGNATURE_BYTES), self.layout.signature_at())?;
        self.write_member(layout::KEYS, &blanks(layout::KEYS_BYTES), self.layout.keys_at())?;
        self.stream.write_at(&[0; tar::END_BYTES as usize], self.end)?;
        Ok((self.end + tar::END_BYTES, Sha256::of(&json)))
    }
}

/// A target being written.
struct Output {
    stream: Stream,
    target: Target,
}

impl Output {
    /// Sets a target up for `bytes` at most.
    fn create(target: &Target, bytes: u64) -> Result<Self, Error> {
        let path = target.path();
        if path.exists() {
            return Err(Error::Exists { path });
        }
        let stream = match target {
            Target::Image(path) => {
                let file = File::options().read(true).write(true).create_new(true).open(path);
                let file = file.map_err(Error::io(path, "make"))?;
                Stream::of_file(path, file, gpt::ALIGN..gpt::ALIGN + bytes)
            }
            Target::Folder(_) => Stream::create_folder(&path, bytes)?,
        };
        Ok(Self { stream, target: target.clone() })
    }

    fn finish(mut self, end: u64, id: Sha256) -> Result<(), Error> {
        match &self.target {
            Target::Folder(_) => self.stream.truncate_folder(end)?,
            Target::Image(path) => {
                let file = self.stream.files().next().expect("one part");
                let bytes = gpt::device_bytes(end);
                let (head, tail, tail_at) = gpt::table(bytes, &id.0);
                file.set_len(bytes).map_err(Error::io(path, "write"))?;
                let written = file.write_all_at(&head, 0).and_then(|()| file.write_all_at(&tail, tail_at));
                written.map_err(Error::io(path, "write"))?;
            }
        }
        self.stream.sync()
    }

    fn discard(self) {
        // Only what was made here; what is left is small and says what it is.
        let _ = files::remove(&self.target.path());
    }
}

impl Target {
    /// The file or folder that is made.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Image(path) => path.clone(),
            Self::Folder(path) => path.join(FOLDER),
        }
    }
}

/// The files of a folder, in order of their names; what the installer left in a pack is not of it.
fn list(folder: &Path) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for (name, path) in names(folder)? {
        let found = fs::symlink_metadata(&path).map_err(Error::io(&path, "read"))?;
        if found.is_dir() {
            for (inner, path) in names(&path)? {
                sources.push(source(format!("{name}/{inner}"), path)?);
            }
        } else if !BUNDLE_FILES.contains(&name.as_str()) {
            sources.push(source(name, path)?);
        }
    }
    plain_path::check(sources.iter().map(|source| source.name.as_str())).map_err(|(name, problem)| {
        let problem = crate::manifest::Problem::Path { path: name.to_owned(), problem };
        Error::Manifest { path: folder.to_owned(), problem }
    })?;
    Ok(sources)
}

fn source(name: String, path: PathBuf) -> Result<Source, Error> {
    let found = fs::symlink_metadata(&path).map_err(Error::io(&path, "read"))?;
    if !found.is_file() {
        return Err(Error::Source { path, what: "a bundle holds plain files, one folder deep at most" });
    }
    Ok(Source { path, name, bytes: found.len(), base: None })
}

fn names(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned);
        let name = name.ok_or_else(|| Error::Source { path: path.clone(), what: "its name is no text" })?;
        names.push((name, path));
    }
    names.sort();
    Ok(names)
}

/// An earlier version: what boxes have already.
struct Previous {
    chunks: HashSet<Sha256>,
    /// Of a folder: its files may be patched from.
    folder: Option<PathBuf>,
}

impl Previous {
    /// Opens a bundle, or a folder that one can be made of.
    fn open(path: &Path, chunk_bytes: u32) -> Result<Self, Error> {
        let is_bundle = path.is_file() || path.join(FOLDER).is_dir();
        if is_bundle {
            let bundle = Carrier::open(path)?.unchecked()?;
            let chunks = bundle.manifest.chunks().map(|place| place.chunk.sha256).collect();
            return Ok(Self { chunks, folder: None });
        }
        let mut chunks = HashSet::new();
        for source in list(path)? {
            hash_chunks(&source, chunk_bytes, &mut |sha256| _ = chunks.insert(sha256))?;
        }
        Ok(Self { chunks, folder: Some(path.to_owned()) })
    }

    /// The file of that name, where it can be patched from.
    fn base(&self, name: &str) -> Option<(Base, PathBuf)> {
        let path = self.folder.as_ref()?.join(name);
        let mut bytes = Vec::new();
        File::open(&path).ok()?.take(BASE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
        let is_fit = (1..=BASE_BYTES_MAX).contains(&(bytes.len() as u64));
        is_fit.then(|| (Base { bytes: bytes.len() as u64, sha256: Sha256::of(&bytes) }, path))
    }
}

/// Chunks that several files have, where one of them can be patched.
fn shared(sources: &[Source], chunk_bytes: u32) -> Result<HashSet<Sha256>, Error> {
    let (mut first, mut shared) = (HashMap::new(), HashSet::new());
    if sources.iter().all(|source| source.base.is_none()) {
        return Ok(shared);
    }
    for (number, source) in sources.iter().enumerate() {
        hash_chunks(source, chunk_bytes, &mut |sha256| {
            if *first.entry(sha256).or_insert(number) != number {
                shared.insert(sha256);
            }
        })?;
    }
    Ok(shared)
}

fn hash_chunks(source: &Source, chunk_bytes: u32, each: &mut dyn FnMut(Sha256)) -> Result<(), Error> {
    let file = File::open(&source.path).map_err(Error::io(&source.path, "open"))?;
    let (mut buffer, mut offset) = (Vec::new(), 0);
    while offset < source.bytes {
        buffer.resize(u64::from(chunk_bytes).min(source.bytes - offset) as usize, 0);
        file.read_exact_at(&mut buffer, offset).map_err(Error::io(&source.path, "read"))?;
        each(Sha256::of(&buffer));
        offset += buffer.len() as u64;
    }
    Ok(())
}

const _: () = assert!(PART_BYTES.is_multiple_of(tar::BLOCK));
