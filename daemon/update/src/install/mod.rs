//! Installation: preview, stage, then the caller's test, then commit or abandon; and the way back.
//!
//! ```text
//!            preview          stage                               Trial            commit
//! bundle ─────────────> yes? ───────> .staging/HASH ─ rename ─> NAME/VERSION ─ test ─────> .installed.json names it
//!             no: why         │ stopped: kept,                                 │ abandon
//!                             └ resumed at the chunk                           └───────> removed, the reason kept
//! ```
//!
//! Order on the disk: a chunk's data is synced before the journal names it; all of a version's files and folders before it
//! is renamed to its place; that before `.installed.json` is replaced. What is removed is renamed away first. So at any
//! moment the power may go: a folder at its place is whole, and `.installed.json` names one that is there.

mod journal;
mod kept;
mod local;
mod preview;
mod stage;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

pub use self::local::{installed_manifest, installed_versions};
pub use self::preview::{Preview, Verdict, verify_installed};
use crate::carrier::Bundle;
use crate::installed::{Installed, Tests, Version};
use crate::manifest::{Kind, Manifest};
use crate::progress::{Monitor, Step};
use crate::{Error, files};

/// The manifest, its signature, and the lists of keys that came with it, kept with what they installed.
pub(crate) const BUNDLE_FILES: [&str; 3] = ["bundle.json", "bundle.sig", "bundle.keys"];
const STAGING: &str = ".staging";
const LOCK: &str = ".lock";
const TRASH: &str = "trash-";

/// How to install.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take a version that is older than one this box has had.
    pub allow_older: bool,
    /// Files or devices that patches may refer to, besides what is installed: the system's present slot.
    pub bases: Vec<PathBuf>,
    /// The counter of the system that runs; `None` where nobody knows: then no bundle is refused for it.
    pub system_version: Option<u64>,
    /// Bytes between two points that a copy can resume at; 0 for the usual.
    pub checkpoint_bytes: u64,
}

/// A version that is at its place and waits for its test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What it is.
    pub kind: Kind,
    /// Which.
    pub version: Version,
    /// Its folder: a pack, or a system's files.
    pub path: PathBuf,
}

/// What became of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staged {
    /// It is there: test it, then [`Installer::commit`] or [`Installer::abandon`].
    Ready(Trial),
    /// It serves already: nothing to do.
    Nothing,
}

/// The folder of models, locked: one installation at a time.
#[derive(Debug)]
pub struct Installer {
    models: PathBuf,
    installed: Installed,
    _lock: File,
}

impl Installer {
    /// Locks the folder of models, which is made where it isn't there, and removes what an earlier end left behind.
    ///
    /// # Errors
    /// Somebody else installs, or the folder can't be read or written.
    pub fn open(models: &Path) -> Result<Self, Error> {
        files::make_folder(&models.join(STAGING))?;
        let path = models.join(LOCK);
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(Error::io(&path, "open"))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: models.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(Error::io(&path, "lock")(cause)),
            Ok(()) => {}
        }
        let installer = Self { models: models.to_owned(), installed: Installed::read(models)?, _lock: lock };
        installer.finish_abandon()?;
        installer.empty_trash()?;
        Ok(installer)
    }

    /// Makes it what is installed, on the disk first.
    fn save(&mut self, next: Installed) -> Result<(), Error> {
        next.write(&self.models)?;
        self.installed = next;
        Ok(())
    }

    /// What is installed.
    pub fn installed(&self) -> &Installed {
        &self.installed
    }

    /// The folder of what serves.
    pub fn current(&self, kind: Kind) -> Option<PathBuf> {
        self.installed.line(kind).current.as_ref().map(|version| version.folder(&self.models))
    }

    /// What installing a bundle would do, and whether it may.
    ///
    /// # Errors
    /// The carrier or the folder can't be read.
    pub fn preview(&self, bundle: &Bundle, options: &Options) -> Result<Preview, Error> {
        preview::preview(&self.models, &self.installed, bundle, options)
    }

    /// Brings a bundle's files to their place, from where an earlier try stopped. The version that serves is not touched.
    ///
    /// # Errors
    /// What the preview refuses, what the carrier or the disk refuses, a chunk that is damaged, or a wish to stop. What was
    /// copied is kept. The monitor is told.
    pub fn stage(&mut self, bundle: &Bundle, options: &Options, monitor: &Monitor) -> Result<Staged, Error> {
        let staged = self.try_stage(bundle, options, monitor);
        if let Err(error) = &staged {
            monitor.fail(error);
        }
        staged
    }

    fn try_stage(&mut self, bundle: &Bundle, options: &Options, monitor: &Monitor) -> Result<Staged, Error> {
        let Manifest { kind, name, version, .. } = &bundle.manifest;
        let version = Version { name: name.clone(), version: *version, id: bundle.id };
        let trial = Trial { kind: *kind, path: version.folder(&self.models), version };
        match preview::verdict(&self.models, &self.installed, bundle, options)? {
            Verdict::Serves => {
                if self.installed.wants(bundle.id) {
                    self.withdraw()?;
                }
                monitor.step(Step::Done, 0, 0);
                return Ok(Staged::Nothing);
            }
            Verdict::Staged => {}
            Verdict::Install => {
                self.drop_other_copies(bundle)?;
                stage::stage(&self.models, bundle, options, monitor)?;
            }
        }
        monitor.step(Step::Test, 0, 0);
        info!(name = trial.version.name, version = trial.version.version, "staged");
        Ok(Staged::Ready(trial))
    }

    /// The test of a version begins; says how often it has by now. A version whose test ends the box again and again is to be
    /// given up, or the box would never be there to serve the old one.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn begin_test(&mut self, trial: &Trial) -> Result<u32, Error> {
        let id = trial.version.id;
        let before = self.installed.tests.filter(|tests| tests.id == id).map_or(0, |tests| tests.begun);
        let begun = before.saturating_add(1);
        self.save(Installed { tests: Some(Tests { id, begun }), ..self.installed.clone() })?;
        Ok(begun)
    }

    /// The version that passed its test serves from now on. What it replaces is kept for a rollback, what is older goes.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn commit(&mut self, trial: &Trial, monitor: &Monitor) -> Result<(), Error> {
        monitor.step(Step::Switch, 0, 0);
        self.serve(trial).inspect_err(|error| monitor.fail(error))?;
        monitor.step(Step::Done, 0, 0);
        Ok(())
    }

    /// As [`Self::commit`], where nobody looks on.
    pub(crate) fn serve(&mut self, trial: &Trial) -> Result<(), Error> {
        let mut next = self.installed.clone();
        next.switch(trial.kind, trial.version.clone());
        self.save(next)?;
        info!(name = trial.version.name, version = trial.version.version, "serves");
        // It serves; what can't be removed now is removed next time.
        if let Err(error) = self.remove_old() {
            warn!(%error, "an old version could not be removed");
        }
        Ok(())
    }

    /// The version that failed its test goes, and the reason stays to be read.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn abandon(&mut self, trial: &Trial, reason: &str) -> Result<(), Error> {
        let mut next = self.installed.clone();
        next.abandon(trial.version.clone(), reason.to_owned());
        self.save(next)?;
        self.finish_abandon()?;
        self.empty_trash()
    }

    /// Back to what served before; what serves now is what a second call goes back to.
    ///
    /// # Errors
    /// There is nothing to go back to, or the folder can't be written.
    pub fn rollback(&mut self, kind: Kind) -> Result<PathBuf, Error> {
        let mut next = self.installed.clone();
        let line = next.line_mut(kind);
        let is_there = |version: &Version| version.folder(&self.models).is_dir();
        let previous = line.previous.take().filter(is_there).ok_or(Error::NoPrevious { kind })?;
        let path = previous.folder(&self.models);
        line.previous = line.current.replace(previous);
        self.save(next)?;
        Ok(path)
    }

    /// Removes a version that doesn't serve. Where a rollback would go to it, there is nothing to go back to any more.
    ///
    /// # Errors
    /// It serves, or isn't there.
    pub fn remove(&mut self, name: &str, version: u64) -> Result<(), Error> {
        let owned = || name.to_owned();
        let is_it = |kept: &Option<Version>| {
            kept.as_ref().is_some_and(|kept| kept.name == name && kept.version == version)
        };
        let lines = [&self.installed.model, &self.installed.system];
        if lines.iter().any(|line| is_it(&line.current)) {
            return Err(Error::InUse { name: owned(), version });
        }
        let path = self.versions()?.remove(&(owned(), version));
        let path = path.ok_or_else(|| Error::NotInstalled { name: owned(), version })?;
        if lines.iter().any(|line| is_it(&line.previous)) {
            let mut next = self.installed.clone();
            for line in [&mut next.model, &mut next.system] {
                line.previous.take_if(|previous| previous.name == name && previous.version == version);
            }
            self.save(next)?;
        }
        self.discard(&path)?;
        self.empty_trash()
    }

    /// The versions at their places: those that serve or did, and others.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn versions(&self) -> Result<BTreeMap<(String, u64), PathBuf>, Error> {
        installed_versions(&self.models)
    }

    /// Of each name the newest version stays, besides what serves and what did before.
    fn remove_old(&self) -> Result<(), Error> {
        let versions = self.versions()?;
        for ((name, version), path) in &versions {
            let is_newest = versions.keys().all(|(other, newer)| other != name || newer <= version);
            if !is_newest && !self.installed.is_kept(name, *version) {
                self.discard(path)?;
            }
        }
        self.empty_trash()
    }

    /// One copy is under way at a time: others are given up, their room is wanted.
    fn drop_other_copies(&self, bundle: &Bundle) -> Result<(), Error> {
        let mine = bundle.id.to_string();
        for path in local::entries(&self.models.join(STAGING))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(&mine) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Renames a version's folder away: from then on it isn't there, however long removing takes.
    fn discard(&self, path: &Path) -> Result<(), Error> {
        let parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        let trash = self.models.join(STAGING).join(format!("{TRASH}{}", parts.join("-")));
        files::remove(&trash)?;
        files::rename(path, &trash)?;
        // The name's folder goes with its last version; that it isn't empty is no error.
        let _ = fs::remove_dir(files::parent(path));
        Ok(())
    }

    fn empty_trash(&self) -> Result<(), Error> {
        for path in local::entries(&self.models.join(STAGING))? {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TRASH)) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Where the copy of a bundle lies while it is under way.
fn staging(models: &Path, bundle: &Bundle) -> PathBuf {
    models.join(STAGING).join(bundle.id.to_string())
}

/// Its journal.
fn journal_path(models: &Path, bundle: &Bundle) -> PathBuf {
    files::beside(&staging(models, bundle), ".journal")
}
