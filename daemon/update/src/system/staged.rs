//! A system version as the installer left it: a folder that an unprivileged user may change at any moment, so that nothing
//! of it counts but what was hashed while it was taken.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::Deserialize;

use super::{BootFacts, Problem, RootHash, SystemVersion};
use crate::hash::Hasher;
use crate::install::BUNDLE_FILES;
use crate::manifest::{FileEntry, Kind, MANIFEST_BYTES_MAX};
use crate::{Error, Monitor, Sha256, Trust, layout, signed, stream};

/// The system's bytes, their hashes, the boot file.
pub(super) const SYSTEM: &str = "root.img";
pub(super) const HASHES: &str = "root-verity.img";
pub(super) const BOOT: &str = "boot.efi";
const FACTS: &str = "system.json";
/// Bytes of that.
const FACTS_BYTES_MAX: u64 = 4096;
/// Bytes taken at a time.
const BLOCK_BYTES: usize = 4 << 20;

/// Takes bytes and their offset.
type Take<'a> = dyn FnMut(&[u8], u64) -> Result<(), Error> + 'a;
/// Fills a buffer with what lies at an offset.
type Fill<'a> = dyn FnMut(&mut [u8], u64) -> Result<(), Error> + 'a;

/// `system.json`. What later versions add is passed over.
#[derive(Debug, Deserialize)]
struct Facts {
    version: SystemVersion,
    roothash: RootHash,
}

/// What `system.json` of an installed version says; `None` where there is none that can be read.
pub(super) fn facts_of(folder: &Path) -> Option<BootFacts> {
    let mut bytes = Vec::new();
    File::open(folder.join(FACTS)).ok()?.take(FACTS_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let Facts { version, roothash } = serde_json::from_slice(&bytes).ok()?;
    Some(BootFacts { root_hash: roothash, version })
}

/// One of its files: opened once, and what the manifest says of it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) entry: FileEntry,
    pub(super) file: File,
    path: PathBuf,
}

impl Source {
    /// Hands all of its bytes over, piece by piece with offsets, and fails at the end where they are not what was signed.
    pub(super) fn pour(&self, monitor: &Monitor, to: &mut Take<'_>) -> Result<(), Error> {
        let read = |buffer: &mut [u8], at| self.file.read_exact_at(buffer, at);
        let hash = each_block(self.entry.bytes, &mut |buffer, at| {
            read(buffer, at).map_err(Error::io(&self.path, "read"))?;
            to(buffer, at)?;
            monitor.add(buffer.len() as u64)
        })?;
        if hash == self.entry.sha256 {
            Ok(())
        } else {
            Err(Problem::Changed { file: self.name }.at(&self.path))
        }
    }
}

/// Hashes what `fill` puts into a buffer, block by block.
pub(super) fn each_block(bytes: u64, fill: &mut Fill<'_>) -> Result<Sha256, Error> {
    let (mut hasher, mut at) = (Hasher::default(), 0);
    let mut buffer = vec![0; bytes.min(BLOCK_BYTES as u64) as usize];
    while at < bytes {
        let block = &mut buffer[..(bytes - at).min(BLOCK_BYTES as u64) as usize];
        fill(block, at)?;
        hasher.update(block);
        at += block.len() as u64;
    }
    Ok(hasher.finish())
}

/// A version whose manifest was signed by somebody the box believes.
#[derive(Debug)]
pub struct StagedSystem {
    /// Its version and root hash.
    pub facts: BootFacts,
    pub(super) system: Source,
    pub(super) hashes: Source,
    pub(super) boot: Source,
    folder: PathBuf,
}

impl StagedSystem {
    /// Opens the folder of a version, and checks manifest, signature, and that its parts agree. Its large files are hashed
    /// later, when they are taken. What the lists of keys beside it change is in the returned trust, for the caller to save.
    ///
    /// # Errors
    /// The signature is wrong, or not by one who signs this box's systems; it is no system; or `system.json` and boot file
    /// contradict each other.
    pub fn open(folder: &Path, trust: &Trust) -> Result<(Self, Trust), Error> {
        let open = File::open(folder).map_err(Error::io(folder, "open"))?;
        let [manifest, signature, keys] = BUNDLE_FILES;
        let manifest = read_all(&open, folder, manifest, MANIFEST_BYTES_MAX)?;
        let signature = read_all(&open, folder, signature, layout::SIGNATURE_BYTES)?;
        let keys = read_all(&open, folder, keys, layout::KEYS_BYTES)?;
        let (manifest, _, trust) = signed::check(folder, &manifest, &signature, &keys, trust)?;
        let wrong = |what| Problem::NotASystem { what }.at(folder);
        if manifest.kind != Kind::System {
            return Err(wrong("the bundle is of another kind"));
        }
        let source = |name: &'static str| {
            let entry = manifest.files.iter().find(|file| file.path == name);
            let entry = entry.ok_or_else(|| {
                wrong("the bundle lacks one of root.img, root-verity.img, boot.efi, system.json")
            })?;
            let file = open_plain(&open, folder, name)?;
            Ok::<_, Error>(Source { name, entry: entry.clone(), file, path: folder.join(name) })
        };
        let facts = read_all(&open, folder, FACTS, FACTS_BYTES_MAX)?;
        if Sha256::of(&facts) != source(FACTS)?.entry.sha256 {
            return Err(Problem::Changed { file: FACTS }.at(folder));
        }
        let facts: Facts =
            serde_json::from_slice(&facts).map_err(|_| wrong("system.json has no version or root hash"))?;
        let facts = BootFacts { root_hash: facts.roothash, version: facts.version };
        let staged = Self {
            facts,
            system: source(SYSTEM)?,
            hashes: source(HASHES)?,
            boot: source(BOOT)?,
            folder: folder.to_owned(),
        };
        staged.check_boot_file(&staged.boot.file)?;
        Ok((staged, trust))
    }

    /// That a copy of the boot file starts this version.
    pub(super) fn check_boot_file(&self, file: &File) -> Result<(), Error> {
        let boots = super::boot_file::read(file).map_err(|problem| problem.at(&self.folder))?;
        let disagree = |says: String, boots: String| Err(Problem::Disagree { says, boots }.at(&self.folder));
        if boots.root_hash != self.facts.root_hash {
            return disagree(self.facts.root_hash.to_string(), boots.root_hash.to_string());
        }
        if boots.version != self.facts.version {
            return disagree(self.facts.version.to_string(), boots.version.to_string());
        }
        Ok(())
    }

    /// Its large files, in the order in which they are written.
    pub(super) fn sources(&self) -> [&Source; 3] {
        [&self.system, &self.hashes, &self.boot]
    }
}

fn open_plain(folder: &File, path: &Path, name: &str) -> Result<File, Error> {
    let path = path.join(name);
    let file = stream::open_in(folder, Path::new(name), OFlag::O_RDONLY).map_err(Error::io(&path, "open"))?;
    let found = file.metadata().map_err(Error::io(&path, "read"))?;
    if found.is_file() {
        Ok(file)
    } else {
        Err(Problem::NotASystem { what: "one of its files is no plain file" }.at(&path))
    }
}

/// All bytes of a small file.
fn read_all(folder: &File, path: &Path, name: &str, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = open_plain(folder, path, name)?;
    file.take(bytes_max).read_to_end(&mut bytes).map_err(Error::io(&path.join(name), "read"))?;
    Ok(bytes)
}
