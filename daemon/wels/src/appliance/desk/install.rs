//! The jobs: what an administrator has agreed to is copied, tested, and takes the place of what serves.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::info;
use update::{Error, Failure, Installer, Kind, Monitor, Options, Staged, Step, Trial};

use super::look::Found;
use super::system;
use crate::appliance::Serving;
use crate::appliance::serving::ExchangeError;

/// A daemon that ended in the middle of a test may have ended because of it: after so many tests a version is given up.
const TESTS_MAX: u32 = 2;
/// Another look at what is installed takes this long at most.
const BUSY_TIME_MAX: Duration = Duration::from_secs(10);
const BUSY_LOOK_EVERY: Duration = Duration::from_millis(50);

/// The folder of models, as soon as nobody else is at it.
pub(super) fn installer(models: &Path) -> Result<Installer, Error> {
    let start = Instant::now();
    loop {
        match Installer::open(models) {
            Err(Error::Busy { .. }) if start.elapsed() < BUSY_TIME_MAX => std::thread::sleep(BUSY_LOOK_EVERY),
            opened => return opened,
        }
    }
}

/// Writes down what an administrator agreed to: from here on a cut cord doesn't end it.
pub(super) fn agree(models: &Path, found: &Found, allow_older: bool) -> Result<Installer, Error> {
    let mut installer = installer(models)?;
    installer.agree(found.bundle.id, allow_older)?;
    Ok(installer)
}

/// Copies a bundle from where an earlier try stopped, tests what it brought, and lets that serve.
pub(super) fn install(
    mut installer: Installer,
    serving: &Serving,
    found: &Found,
    allow_older: bool,
    monitor: &Monitor,
) -> Result<(), Failure> {
    found.trust.save().map_err(failure)?;
    let options = Options { allow_older, ..Options::default() };
    match installer.stage(&found.bundle, &options, monitor) {
        Ok(Staged::Ready(trial)) if trial.kind == Kind::System => {
            system::put(&mut installer, &trial, monitor)
        }
        Ok(Staged::Ready(trial)) => try_out(&mut installer, serving, &trial, monitor),
        Ok(Staged::Nothing) => Ok(()),
        Err(error) => {
            // A pulled stick may come back; what somebody stopped is not wanted any more.
            if matches!(error, Error::Cancelled) {
                installer.withdraw().map_err(failure)?;
            }
            Err(failure(error))
        }
    }
}

/// The version that waits for its test.
pub(super) fn pending(models: &Path) -> Result<Option<Trial>, Error> {
    installer(models)?.pending(Kind::Model)
}

/// Tests a version that was copied before the power went.
pub(super) fn try_pending(
    models: &Path,
    serving: &Serving,
    trial: &Trial,
    monitor: &Monitor,
) -> Result<(), Failure> {
    monitor.step(Step::Test, 0, 0);
    let mut installer = installer(models).map_err(failure)?;
    try_out(&mut installer, serving, trial, monitor)
}

fn try_out(
    installer: &mut Installer,
    serving: &Serving,
    trial: &Trial,
    monitor: &Monitor,
) -> Result<(), Failure> {
    if installer.begin_test(trial).map_err(failure)? > TESTS_MAX {
        let reason = "the box stopped in the middle of its test, more than once";
        return give_up(installer, trial, reason.into());
    }
    let old = installer.current(Kind::Model);
    let tested = serving.exchange(&trial.path, old, || installer.commit(trial, monitor));
    match tested {
        Ok(()) => {
            info!(name = trial.version.name, version = trial.version.version, "a new model serves");
            Ok(())
        }
        Err(ExchangeError::Test(error)) => give_up(installer, trial, format!("{error:#}")),
        Err(error) => Err(error.into()),
    }
}

fn give_up(installer: &mut Installer, trial: &Trial, reason: String) -> Result<(), Failure> {
    installer.abandon(trial, &reason).map_err(failure)?;
    Err(Failure { code: "failed_test".into(), message: format!("the new version was given up: {reason}") })
}

/// Back to the model that served before, once it has shown that it still answers.
pub(super) fn roll_back(models: &Path, serving: &Serving, monitor: &Monitor) -> Result<(), Failure> {
    let mut installer = installer(models).map_err(failure)?;
    let line = installer.installed().line(Kind::Model).clone();
    let folder = |version: Option<update::Version>| version.map(|version| version.folder(models));
    let previous = folder(line.previous).ok_or_else(|| failure(Error::NoPrevious { kind: Kind::Model }))?;
    monitor.step(Step::Test, 0, 0);
    serving.exchange(&previous, folder(line.current), || {
        monitor.step(Step::Switch, 0, 0);
        installer.rollback(Kind::Model).map(drop)
    })?;
    monitor.step(Step::Done, 0, 0);
    Ok(())
}

fn failure(error: Error) -> Failure {
    Failure::from(&error)
}
