//! What the installer keeps beside what serves: what was agreed to, what waits for its test, what lies in the system's slot.

use std::path::PathBuf;

use super::{Installer, Trial, local, preview};
use crate::installed::{Agreed, Installed, Line, Version};
use crate::manifest::Kind;
use crate::{Error, Sha256};

impl Installer {
    /// An administrator wants a bundle that was shown: kept over restarts until it is installed, given up, or withdrawn.
    /// What was agreed to before is forgotten: one copy is under way at a time.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn agree(&mut self, id: Sha256, allow_older: bool) -> Result<(), Error> {
        self.set_agreed(Some(Agreed { id, allow_older }))
    }

    /// The bundle that is to be installed as soon as its stick is there.
    pub fn agreed(&self) -> Option<Agreed> {
        self.installed.agreed
    }

    /// The bundle is no longer wanted; what was copied is kept.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn withdraw(&mut self) -> Result<(), Error> {
        self.set_agreed(None)
    }

    fn set_agreed(&mut self, agreed: Option<Agreed>) -> Result<(), Error> {
        if self.installed.agreed == agreed {
            return Ok(());
        }
        self.save(Installed { agreed, ..self.installed.clone() })
    }

    /// The newest version of a kind that is at its place, whole, and waits for its test: the power went between the copy and
    /// the test. Test it as what [`Self::stage`] returns.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn pending(&self, kind: Kind) -> Result<Option<Trial>, Error> {
        let trials = self.versions()?.into_iter().filter_map(|((name, version), path)| {
            let (manifest, id) = local::read_manifest(&path)?;
            let version = Version { name, version, id };
            let is_pending = manifest.kind == kind && self.installed.awaits_test(kind, &version);
            is_pending.then_some(Trial { kind, version, path })
        });
        Ok(trials.max_by_key(|trial| (self.installed.wants(trial.version.id), trial.version.version)))
    }

    /// A system version was put into its slot: whether it works a restart will show.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn put(&mut self, trial: &Trial) -> Result<(), Error> {
        self.save(Installed { put: Some(trial.version.id), ..self.installed.clone() })
    }

    pub(crate) fn is_put(&self, trial: &Trial) -> bool {
        self.installed.put == Some(trial.version.id)
    }

    /// What serves and what did before, as it turned out to be.
    pub(crate) fn set_line(&mut self, kind: Kind, line: Line) -> Result<(), Error> {
        if *self.installed.line(kind) == line {
            return Ok(());
        }
        let mut next = self.installed.clone();
        *next.line_mut(kind) = line;
        self.save(next)
    }

    /// Where a version lies.
    pub(crate) fn folder(&self, version: &Version) -> PathBuf {
        version.folder(&self.models)
    }

    /// What was given up goes, also where the power went before it could; but not what is kept for a rollback, or what an
    /// administrator wants to try again.
    pub(super) fn finish_abandon(&self) -> Result<(), Error> {
        let Some(version) = self.installed.abandoned.as_ref().map(|abandoned| &abandoned.version) else {
            return Ok(());
        };
        let path = version.folder(&self.models);
        let is_kept = self.installed.is_kept(&version.name, version.version);
        let is_wanted = is_kept || self.installed.wants(version.id);
        if is_wanted || preview::id_of(&path) != Some(version.id) { Ok(()) } else { self.discard(&path) }
    }
}
