//! What people see before anything is copied: what it is, who signed it, how big, how long, and whether it may.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::local::{self, Local};
use super::{Options, journal_path, staging};
use crate::carrier::Bundle;
use crate::installed::{Installed, Version};
use crate::manifest::{Chunk, Kind, Manifest};
use crate::progress::Failure;
use crate::trust::Signer;
use crate::{Error, Sha256};

/// Left free on the disk: the file system's own tables, the journal, the manifest's copy.
const SPARE_BYTES: u64 = 64 << 20;
/// On a small disk a share of it.
const SPARE_SHARE: u64 = 50;

/// What a bundle may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It serves already: nothing to do.
    Serves,
    /// It is there whole, and waits for its test.
    Staged,
    /// It can be copied.
    Install,
}

/// What installing would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
    /// Its counter.
    pub version: u64,
    /// When it was made, as it says itself.
    pub created: String,
    /// The hash of its manifest.
    pub id: Sha256,
    /// Who signed it.
    pub signer: Option<Signer>,
    /// What serves now.
    pub serves: Option<Version>,
    /// Memory it wants at least.
    pub memory_bytes: Option<u64>,
    /// Bytes it has when it is installed.
    pub bytes: u64,
    /// Bytes still to be read from the stick.
    pub stick_bytes: u64,
    /// Bytes still to be taken from what is installed.
    pub local_bytes: u64,
    /// Bytes that an earlier try has copied.
    pub done_bytes: u64,
    /// Room it still takes on the disk.
    pub need_bytes: u64,
    /// Room there is.
    pub free_bytes: u64,
    /// How long the stick is read, by a measurement; `None` where nothing is to be read.
    pub seconds: Option<f64>,
    /// What it may do.
    pub verdict: Option<Verdict>,
    /// Why it may not.
    pub refusal: Option<Failure>,
    /// Why this very version failed its test before.
    pub failed_before: Option<String>,
}

pub(super) fn preview(
    models: &Path,
    installed: &Installed,
    bundle: &Bundle,
    options: &Options,
) -> Result<Preview, Error> {
    let Manifest { kind, name, title, version, created, requires, .. } = &bundle.manifest;
    let todo = Todo::find(models, bundle, options)?;
    let (need_bytes, free_bytes) = room(models, bundle)?;
    let (verdict, refusal) = match decide(models, installed, bundle, options, &todo) {
        Ok(verdict) => (Some(verdict), None),
        Err(error) => (None, Some(Failure::from(&error))),
    };
    let will_copy = verdict == Some(Verdict::Install) && todo.stick_bytes > 0;
    let rate = if will_copy { bundle.read_rate()? } else { None };
    let failed = installed.abandoned.as_ref().filter(|abandoned| abandoned.version.id == bundle.id);
    Ok(Preview {
        kind: *kind,
        name: name.clone(),
        title: title.clone(),
        version: *version,
        created: created.clone(),
        id: bundle.id,
        signer: bundle.signer.clone(),
        serves: installed.line(*kind).current.clone(),
        memory_bytes: requires.memory_bytes,
        bytes: bundle.manifest.bytes(),
        stick_bytes: todo.stick_bytes,
        local_bytes: todo.local_bytes,
        done_bytes: todo.done_bytes,
        need_bytes,
        free_bytes,
        seconds: rate.map(|rate| todo.stick_bytes as f64 / rate),
        verdict,
        refusal,
        failed_before: failed.map(|abandoned| abandoned.reason.clone()),
    })
}

/// Whether a bundle may be installed.
///
/// # Errors
/// Why it may not.
pub(super) fn verdict(
    models: &Path,
    installed: &Installed,
    bundle: &Bundle,
    options: &Options,
) -> Result<Verdict, Error> {
    decide(models, installed, bundle, options, &Todo::find(models, bundle, options)?)
}

fn decide(
    models: &Path,
    installed: &Installed,
    bundle: &Bundle,
    options: &Options,
    todo: &Todo,
) -> Result<Verdict, Error> {
    let Manifest { kind, name, version, requires, .. } = &bundle.manifest;
    let wanted = Version { name: name.clone(), version: *version, id: bundle.id };
    let folder = wanted.folder(models);
    let is_there = folder.is_dir();
    if is_there && id_of(&folder) != Some(bundle.id) {
        return Err(Error::SameVersion { name: name.clone(), version: *version });
    }
    if is_there && installed.line(*kind).current.as_ref() == Some(&wanted) {
        return Ok(Verdict::Serves);
    }
    // Kept for a rollback or not: a stick is no way back.
    let newest = installed.newest.get(name).copied().unwrap_or(0);
    if *version < newest && !options.allow_older {
        return Err(Error::Older { name: name.clone(), version: *version, newest });
    }
    if let (Some(need), Some(has)) = (requires.system_version, options.system_version)
        && need > has
    {
        return Err(Error::SystemTooOld { name: name.clone(), version: *version, need, has });
    }
    if is_there {
        return Ok(Verdict::Staged);
    }
    if todo.missing > 0 {
        return Err(Error::MissingChunks { name: name.clone(), version: *version, missing: todo.missing });
    }
    let (need, free) = room(models, bundle)?;
    if need > free {
        Err(Error::NoSpace { path: models.to_owned(), need, free })
    } else {
        Ok(Verdict::Install)
    }
}

/// The hash of an installed version's manifest.
pub(super) fn id_of(folder: &Path) -> Option<Sha256> {
    std::fs::read(folder.join(super::BUNDLE_FILES[0])).ok().map(|bytes| Sha256::of(&bytes))
}

/// What is still to be done.
#[derive(Default)]
struct Todo {
    stick_bytes: u64,
    local_bytes: u64,
    done_bytes: u64,
    /// Chunks that are nowhere.
    missing: usize,
}

impl Todo {
    fn find(models: &Path, bundle: &Bundle, options: &Options) -> Result<Self, Error> {
        let local = Local::read(models, &options.bases)?;
        let manifest = &bundle.manifest;
        let n_chunks = manifest.chunks().count();
        let done = Journal::peek(&journal_path(models, bundle), bundle.id, n_chunks);
        let has_base: Vec<bool> =
            manifest.files.iter().map(|file| file.base.is_some_and(|base| local.has_base(&base))).collect();
        let mut todo = Self::default();
        for (place, done) in manifest.chunks().zip(done) {
            let chunk: &Chunk = place.chunk;
            let can_read = bundle.carries(chunk) && (!chunk.is_patch() || has_base[place.file]);
            match () {
                () if done => todo.done_bytes += u64::from(chunk.bytes),
                () if local.has(chunk) => todo.local_bytes += u64::from(chunk.bytes),
                () if can_read => todo.stick_bytes += u64::from(chunk.stored_bytes()),
                () => todo.missing += 1,
            }
        }
        Ok(todo)
    }
}

/// Bytes that the files still take on the disk, and bytes that are free beyond what is left alone.
fn room(models: &Path, bundle: &Bundle) -> Result<(u64, u64), Error> {
    let system = statvfs(models).map_err(|errno| Error::io(models, "look at")(errno.into()))?;
    let fragment = system.fragment_size();
    let spare = SPARE_BYTES.min(system.blocks() * fragment / SPARE_SHARE);
    let free = (system.blocks_available() * fragment).saturating_sub(spare);
    let staging = staging(models, bundle);
    let need = bundle.manifest.files.iter().map(|file| {
        let there = staging.join(&file.path).metadata().map_or(0, |found| found.blocks() * 512);
        file.bytes.saturating_sub(there)
    });
    Ok((need.sum(), free))
}

/// Whether a version that is at its place is what its manifest says, byte by byte.
///
/// # Errors
/// It has no manifest; or a file can't be read or is another.
pub fn verify_installed(folder: &Path) -> Result<Manifest, Error> {
    let no_bundle = || Error::NoBundle { path: folder.to_owned() };
    let (manifest, _) = local::read_manifest(folder).ok_or_else(no_bundle)?;
    super::stage::check_files(folder, &manifest, &mut |_| Ok(()))?
        .first()
        .map_or(Ok(()), |wrong| Err(wrong.error(folder, &manifest)))?;
    Ok(manifest)
}
