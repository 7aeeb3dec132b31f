//! What became of a system version: seen by what runs, by how the versions stand with the boot loader, and by what the
//! installer keeps.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::info;

use super::esp::{BootFile, Esp, Standing};
use super::staged::facts_of;
use super::{BootFacts, RootHash, SystemVersion};
use crate::Error;
use crate::install::{Installer, Trial};
use crate::installed::{Abandoned, Line, Version};
use crate::manifest::Kind;

/// Where nobody wrote down why a version was not well.
const UNKNOWN: &str = "it was not well after its start, and the version before it came back";
/// Where an administrator decided before the version could show anything.
const ASIDE: &str = "an administrator went back to the version before it";

/// A version that the boot loader could take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootable {
    /// Its version.
    pub version: SystemVersion,
    /// Its root hash: which version it is.
    pub root_hash: RootHash,
    /// How it stands.
    pub standing: Standing,
}

/// What runs, and what the boot loader could take. Plain data: one process sees it, another is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootState {
    /// The version that runs.
    pub running: Bootable,
    /// All versions, in the order in which the loader takes them.
    pub order: Vec<Bootable>,
}

impl BootState {
    /// The version that the next start brings, where it is another than runs now.
    pub fn waits(&self) -> Option<&Bootable> {
        self.order.first().filter(|next| next.root_hash != self.running.root_hash)
    }

    /// The version that took all of its starts, and was not well.
    pub fn fell_back(&self) -> Option<&Bootable> {
        let others = self.order.iter().filter(|other| other.root_hash != self.running.root_hash);
        others.into_iter().find(|other| other.standing == Standing::Failed)
    }

    /// The other version: what a rollback goes to.
    pub fn other(&self) -> Option<&Bootable> {
        self.order.iter().find(|other| other.root_hash != self.running.root_hash)
    }

    fn standing(&self, hash: &RootHash) -> Option<Standing> {
        self.order.iter().find(|other| other.root_hash == *hash).map(|other| other.standing)
    }
}

/// Looks at a mounted boot partition.
///
/// # Errors
/// It can't be read, or nothing on it starts what runs.
pub fn look(esp: &Path, running: &RootHash) -> Result<BootState, Error> {
    let esp = Esp::new(esp);
    // What the loader can't read it doesn't take.
    let bootable = |file: &BootFile| {
        let root_hash = file.facts.as_ref()?.root_hash;
        Some(Bootable { version: file.version.clone(), root_hash, standing: file.standing() })
    };
    let (own, _) = esp.split(running)?;
    let running = own.first().and_then(bootable).expect("found by its root hash");
    Ok(BootState { running, order: esp.boot_files()?.iter().filter_map(bootable).collect() })
}

/// What is to be done about the system now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing waits.
    Nothing,
    /// It is staged, and not in its slot yet: have it written, then [`Installer::put`].
    Write(Trial),
    /// It is in its slot, and starts next.
    Restart(Trial),
    /// It runs, and has not shown yet that it is well: call again when it has.
    OnTrial(Trial),
    /// It runs and is well: it serves from now on.
    Serves(Version),
    /// It was not well, or not wanted: it is gone, the reason stays.
    GivenUp(Abandoned),
}

/// Brings what the installer keeps in line with what runs. `is_well` says that the version that runs has shown that it works;
/// `reason` is why the last version fell back, where somebody wrote it down.
///
/// # Errors
/// The folder of models can't be read or written.
pub fn settle(
    installer: &mut Installer,
    boots: &BootState,
    is_well: bool,
    reason: Option<&str>,
) -> Result<Settled, Error> {
    let settled = settle_trial(installer, boots, is_well, reason)?;
    let line = line(installer, boots);
    installer.set_line(Kind::System, line)?;
    Ok(settled)
}

fn settle_trial(
    installer: &mut Installer,
    boots: &BootState,
    is_well: bool,
    reason: Option<&str>,
) -> Result<Settled, Error> {
    let Some(trial) = installer.pending(Kind::System)? else { return Ok(Settled::Nothing) };
    let Some(BootFacts { root_hash, .. }) = facts_of(&trial.path) else {
        return give_up(installer, &trial, "its system.json can't be read");
    };
    if root_hash == boots.running.root_hash {
        if !is_well {
            return Ok(Settled::OnTrial(trial));
        }
        installer.serve(&trial)?;
        return Ok(Settled::Serves(trial.version));
    }
    match boots.standing(&root_hash) {
        // How an earlier copy of it fared says nothing of this one.
        standing if !installer.is_put(&trial) && !is_next(boots, &root_hash, standing) => {
            Ok(Settled::Write(trial))
        }
        Some(Standing::Good | Standing::Trial) => Ok(Settled::Restart(trial)),
        Some(Standing::Failed) => give_up(installer, &trial, reason.unwrap_or(UNKNOWN)),
        Some(Standing::Aside) => give_up(installer, &trial, ASIDE),
        None => Ok(Settled::Write(trial)),
    }
}

/// It is in its slot though nobody noted it: the power went just then.
fn is_next(boots: &BootState, hash: &RootHash, standing: Option<Standing>) -> bool {
    matches!(standing, Some(Standing::Good | Standing::Trial))
        && boots.waits().is_some_and(|next| next.root_hash == *hash)
}

fn give_up(installer: &mut Installer, trial: &Trial, reason: &str) -> Result<Settled, Error> {
    info!(version = trial.version.version, reason, "a system version was given up");
    installer.abandon(trial, reason)?;
    let abandoned = Abandoned { version: trial.version.clone(), reason: reason.to_owned() };
    Ok(Settled::GivenUp(abandoned))
}

/// What serves is what runs, and what a rollback goes back to is what lies in the other slot, as far as a bundle brought them:
/// the loader decides, the file follows.
fn line(installer: &Installer, boots: &BootState) -> Line {
    let Line { current, previous } = installer.installed().line(Kind::System);
    let known: Vec<(&Version, RootHash)> = [current, previous]
        .into_iter()
        .flatten()
        .filter_map(|version| Some((version, facts_of(&installer.folder(version))?.root_hash)))
        .collect();
    let find = |hash: Option<RootHash>| {
        known.iter().find(|(_, known)| Some(*known) == hash).map(|(version, _)| (*version).clone())
    };
    Line {
        current: find(Some(boots.running.root_hash)),
        previous: find(boots.other().map(|other| other.root_hash)),
    }
}
