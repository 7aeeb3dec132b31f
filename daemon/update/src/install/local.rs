//! What the box has already: chunks of installed versions, and whole files that patches refer to.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::BUNDLE_FILES;
use crate::hash::Hasher;
use crate::manifest::{Base, Chunk, MANIFEST_BYTES_MAX, Manifest};
use crate::{Error, Sha256};

/// Names in the folder of models that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// Chunks and files of the installed versions.
#[derive(Debug, Default)]
pub(super) struct Local {
    paths: Vec<PathBuf>,
    /// File, offset.
    chunks: HashMap<Sha256, (usize, u64)>,
    /// By size and hash.
    files: HashMap<Base, PathBuf>,
    /// Files that may be what a patch refers to; nobody knows their hashes yet.
    candidates: Vec<PathBuf>,
}

impl Local {
    /// Reads the manifests of all installed versions.
    pub(super) fn read(models: &Path, candidates: &[PathBuf]) -> Result<Self, Error> {
        let mut local = Self { candidates: candidates.to_vec(), ..Self::default() };
        for folder in installed_versions(models)?.into_values() {
            // Without a readable manifest a version is no help, and no hindrance.
            if let Some((manifest, _)) = read_manifest(&folder) {
                local.add(&folder, &manifest);
            }
        }
        Ok(local)
    }

    fn add(&mut self, folder: &Path, manifest: &Manifest) {
        let first = self.paths.len();
        for file in &manifest.files {
            let path = folder.join(&file.path);
            self.files.insert(Base { bytes: file.bytes, sha256: file.sha256 }, path.clone());
            self.paths.push(path);
        }
        for place in manifest.chunks() {
            self.chunks.entry(place.chunk.sha256).or_insert((first + place.file, place.offset));
        }
    }

    pub(super) fn has(&self, chunk: &Chunk) -> bool {
        self.chunks.contains_key(&chunk.sha256)
    }

    /// A chunk's bytes; `None` where no installed version has it, or has it no longer as it should be.
    pub(super) fn chunk<'b>(&self, chunk: &Chunk, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        let (path, offset) = *self.chunks.get(&chunk.sha256)?;
        buffer.resize(chunk.bytes as usize, 0);
        let file = File::open(&self.paths[path]).ok()?;
        file.read_exact_at(buffer, offset).ok()?;
        (Sha256::of(buffer) == chunk.sha256).then_some(buffer)
    }

    /// The whole file that patches refer to, of the right size and hash; `None` where it isn't there.
    pub(super) fn base(&self, base: &Base) -> Option<Vec<u8>> {
        let known = self.files.get(base).into_iter();
        known.chain(&self.candidates).find_map(|path| read_whole(path, base))
    }

    /// Whether that file is there: of an installed version by what its manifest says.
    pub(super) fn has_base(&self, base: &Base) -> bool {
        self.files.contains_key(base) || self.candidates.iter().any(|path| is_whole(path, base))
    }
}

/// The first bytes of a file or device, if they are the ones looked for.
fn read_whole(path: &Path, base: &Base) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // Grows with what is there, up to a size that the manifest's check limits.
    File::open(path).ok()?.take(base.bytes).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == base.bytes && Sha256::of(&bytes) == base.sha256).then_some(bytes)
}

fn is_whole(path: &Path, base: &Base) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let (mut file, mut hasher, mut left) = (file.take(base.bytes), Hasher::default(), base.bytes);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return left == 0 && hasher.finish() == base.sha256,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                left -= n as u64;
            }
            Err(_) => return false,
        }
    }
}

/// The manifest of an installed version, to show it; `None` where it has none.
pub fn installed_manifest(folder: &Path) -> Option<Manifest> {
    read_manifest(folder).map(|(manifest, _)| manifest)
}

/// The manifest of an installed version and its hash; `None` where it has none.
pub(super) fn read_manifest(folder: &Path) -> Option<(Manifest, Sha256)> {
    let mut bytes = Vec::new();
    let file = File::open(folder.join(BUNDLE_FILES[0])).ok()?;
    file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some((Manifest::parse(&bytes).ok()?, Sha256::of(&bytes)))
}

/// The versions at their places, by name and counter: those that serve or did, and others.
///
/// # Errors
/// The folder can't be read.
pub fn installed_versions(models: &Path) -> Result<BTreeMap<(String, u64), PathBuf>, Error> {
    let mut versions = BTreeMap::new();
    for folder in entries(models)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if crate::manifest::check_name(&name).is_err() || !folder.is_dir() {
            continue;
        }
        for path in entries(&folder)? {
            let version = path.file_name().and_then(|version| version.to_str()?.parse().ok());
            if let Some(version) = version.filter(|_| path.is_dir()) {
                versions.insert((name.clone(), version), path);
            }
        }
    }
    Ok(versions)
}

/// The names in a folder, in order; none where the folder isn't there.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let list = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.map_err(Error::io(folder, "list"))?,
    };
    let paths: io::Result<Vec<_>> =
        list.take(ENTRIES_MAX).map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(Error::io(folder, "list"))?;
    paths.sort();
    Ok(paths)
}
