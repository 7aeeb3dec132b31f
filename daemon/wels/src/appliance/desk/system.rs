//! The system's own versions: what runs, what waits for a restart, what fell back. The steward does what needs rights.

use std::path::Path;

use tracing::info;
use update::system::{self, BootState, Settled};
use update::{Failure, Installer, Monitor, Step, Trial};

use super::{Places, install};
use crate::appliance::fell_back;
use crate::appliance::steward::{Ask, ask};

/// Brings what is installed in line with what runs; `is_well` says that this version has shown that it works.
pub(super) fn settle(places: &Places, is_well: bool) -> Result<(Settled, BootState), Failure> {
    let boots = ask(&Ask::Look, None)?.ok_or_else(no_answer)?;
    let Some(models) = &places.models else { return Ok((Settled::Nothing, boots)) };
    let reason = fell_back(&places.state).map(|fell_back| fell_back.reason);
    let failed = |error: update::Error| Failure::from(&error);
    let mut installer = install::installer(models).map_err(failed)?;
    let settled = system::settle(&mut installer, &boots, is_well, reason.as_deref()).map_err(failed)?;
    info!(?settled, "the system's versions");
    Ok((settled, boots))
}

/// Puts a staged version into the slot that doesn't run: it starts next.
pub(super) fn put(installer: &mut Installer, trial: &Trial, monitor: &Monitor) -> Result<(), Failure> {
    let folder = format!("{}/{}", trial.version.name, trial.version.version);
    ask(&Ask::WriteSystem { folder }, Some(monitor))?;
    installer.put(trial).map_err(|error| Failure::from(&error))?;
    monitor.step(Step::Done, 0, 0);
    Ok(())
}

/// Puts a version that was copied before the power went.
pub(super) fn put_pending(models: &Path, trial: &Trial, monitor: &Monitor) -> Result<(), Failure> {
    let mut installer = install::installer(models).map_err(|error| Failure::from(&error))?;
    put(&mut installer, trial, monitor)
}

/// The other version starts next.
pub(super) fn roll_back(monitor: &Monitor) -> Result<(), Failure> {
    monitor.step(Step::Switch, 0, 0);
    ask(&Ask::RollBack, None)?;
    monitor.step(Step::Done, 0, 0);
    Ok(())
}

/// Whether another version runs after a restart.
pub(super) fn waits(boots: Option<&BootState>) -> bool {
    boots.is_some_and(|boots| boots.waits().is_some())
}

/// What of the system a rollback goes to, in words.
pub(super) fn other(boots: Option<&BootState>) -> Option<String> {
    boots?.other().map(|other| format!("Wels {}", other.version))
}

fn no_answer() -> Failure {
    Failure { code: "system_failed".into(), message: "the steward says nothing of what runs".into() }
}
