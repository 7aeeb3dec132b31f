//! What is installed: one small file that names what serves, replaced by rename. It alone decides; folders that it doesn't
//! name are leftovers or not yet activated.
//!
//! ```text
//! /var/lib/wels-models/
//!   .installed.json                what serves, what served before, the newest of every name, what was agreed to
//!   .lock                          held while something is installed
//!   .staging/HASH/  HASH.journal   a copy under way
//!   .staging/trash-…/              on its way out
//!   r1-distill-7b/3/               a pack, whole: pack.json, dense.bin, …, and its bundle.json, .sig, .keys
//! ```
//!
//! What a later version adds to the file an earlier one passes over: after a fallback it is an older system that reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::manifest::Kind;
use crate::{Error, Sha256, files};

const FILE: &str = ".installed.json";

/// A version of something that was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// Its counter.
    pub version: u64,
    /// The hash of its manifest.
    pub id: Sha256,
}

impl Version {
    /// Its folder below the folder of models.
    pub fn folder(&self, models: &Path) -> PathBuf {
        models.join(&self.name).join(self.version.to_string())
    }
}

/// What serves and what did before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What serves.
    #[serde(default)]
    pub current: Option<Version>,
    /// What a rollback goes back to.
    #[serde(default)]
    pub previous: Option<Version>,
}

/// A version that failed its test, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// Which.
    pub version: Version,
    /// Why, in words.
    pub reason: String,
}

/// A bundle that an administrator wants installed, until it is, or was given up, or is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The hash of its manifest: what was shown is what was agreed to.
    pub id: Sha256,
    /// Even where it is older than one this box has had.
    #[serde(default)]
    pub allow_older: bool,
}

/// How often the test of a version began. More often than once: the box ended in the middle of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tests {
    /// The hash of its manifest.
    pub id: Sha256,
    /// How often.
    pub begun: u32,
}

/// All that is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The model.
    #[serde(default)]
    pub model: Line,
    /// The system.
    #[serde(default)]
    pub system: Line,
    /// The newest version that ever served, by name: what is older is a downgrade.
    #[serde(default)]
    pub newest: BTreeMap<String, u64>,
    /// The last version that failed its test.
    #[serde(default)]
    pub abandoned: Option<Abandoned>,
    /// The bundle that is to be installed as soon as its stick is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Agreed>,
    /// The version whose test began last, and how often it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Tests>,
    /// The manifest's hash of the system version that was put into its slot and has not been settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<Sha256>,
}

impl Installed {
    /// What the folder of models says; nothing where it is new. Takes no lock: the file is always whole.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read(models: &Path) -> Result<Self, Error> {
        Ok(files::read_json(&models.join(FILE))?.unwrap_or_default())
    }

    pub(crate) fn write(&self, models: &Path) -> Result<(), Error> {
        files::replace(&models.join(FILE), &serde_json::to_vec_pretty(self).expect("plain data"))
    }

    /// The line of a kind.
    pub fn line(&self, kind: Kind) -> &Line {
        match kind {
            Kind::Model => &self.model,
            Kind::System => &self.system,
        }
    }

    pub(crate) fn line_mut(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Model => &mut self.model,
            Kind::System => &mut self.system,
        }
    }

    /// `version` serves from now on, and what served before is kept.
    pub(crate) fn switch(&mut self, kind: Kind, version: Version) {
        let newest = self.newest.entry(version.name.clone()).or_default();
        *newest = version.version.max(*newest);
        if self.abandoned.as_ref().is_some_and(|abandoned| abandoned.version == version) {
            self.abandoned = None;
        }
        self.forget(version.id);
        self.tests = None;
        let line = self.line_mut(kind);
        if line.current.as_ref() != Some(&version) {
            line.previous = line.current.replace(version);
        }
    }

    /// `version` failed its test.
    pub(crate) fn abandon(&mut self, version: Version, reason: String) {
        self.forget(version.id);
        self.tests = None;
        self.abandoned = Some(Abandoned { version, reason });
    }

    /// Whether an administrator wants this bundle.
    pub(crate) fn wants(&self, id: Sha256) -> bool {
        self.agreed.is_some_and(|agreed| agreed.id == id)
    }

    /// It is settled what becomes of a bundle.
    fn forget(&mut self, id: Sha256) {
        self.agreed.take_if(|agreed| agreed.id == id);
        self.put.take_if(|put| *put == id);
    }

    /// Whether a version waits for its test, given that it is at its place: it never served, and wasn't given up; or an
    /// administrator wants it all the same.
    pub(crate) fn awaits_test(&self, kind: Kind, version: &Version) -> bool {
        if self.line(kind).current.as_ref() == Some(version) {
            return false;
        }
        let has_served = self.newest.get(&version.name).is_some_and(|newest| version.version <= *newest);
        let has_failed = self.abandoned.as_ref().is_some_and(|abandoned| abandoned.version == *version);
        self.wants(version.id) || !(has_served || has_failed)
    }

    /// Whether a version serves, or is what a rollback goes back to.
    pub fn is_kept(&self, name: &str, version: u64) -> bool {
        let kept = [&self.model, &self.system].into_iter().flat_map(|line| [&line.current, &line.previous]);
        kept.flatten().any(|kept| kept.name == name && kept.version == version)
    }
}
