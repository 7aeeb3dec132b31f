//! `wels steward`: does for the daemon what that may not do itself, and no more than [`Ask`] names. It reads one wish from its
//! standard input and answers on its standard output: systemd connects both to who asks.

mod drive;

use std::io::{BufRead, Read, Write};
use std::path::{Component, Path};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tracing::{info, warn};
use update::system::{self, BootState, Place, RootHash, StagedSystem};
use update::{Action, Failure, Monitor, Progress, Trust};

use self::drive::Drive;
use crate::appliance::steward::{Answer, Ask, LINE_BYTES_MAX};
use crate::bundle;
use crate::cli::Steward;

/// The unit that forgets what the box knows, once nothing uses it any more.
const FACTORY_RESET: &str = "wels-factory-reset.service";
/// Where on the boot partition the maker's newest list of keys is kept.
const KEYS: &str = "EFI/wels";

pub(crate) fn run(args: &Steward) -> Result<ExitCode> {
    let mut line = String::new();
    std::io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line).context("cannot read the wish")?;
    let wish: Ask = serde_json::from_str(&line).context("that is no wish")?;
    info!(?wish, "asked");
    let answer = follow(args, &wish).unwrap_or_else(|failure| {
        warn!(code = failure.code, reason = failure.message, "it failed");
        Answer::Failed(failure)
    });
    say(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn follow(args: &Steward, wish: &Ask) -> Result<Answer, Failure> {
    match wish {
        Ask::Restart => systemctl(&["reboot", "--no-block"]),
        Ask::FactoryReset => systemctl(&["start", "--no-block", FACTORY_RESET]),
        Ask::Look => with_drive(look),
        Ask::RollBack => with_drive(|drive, running| {
            system::rollback(drive.boot(), running).map_err(|error| Failure::from(&error))?;
            look(drive, running)
        }),
        Ask::WriteSystem { folder } => with_drive(|drive, running| {
            let folder = staged(&args.models, folder).map_err(unusable)?;
            write(args, &folder, drive, *running)?;
            look(drive, running)
        }),
    }
}

fn look(drive: &Drive, running: &RootHash) -> Result<BootState, Failure> {
    system::look(drive.boot(), running).map_err(|error| Failure::from(&error))
}

/// Checks a staged version and puts it into the idle slot.
fn write(args: &Steward, folder: &Path, drive: &Drive, running: RootHash) -> Result<(), Failure> {
    let failed = |error: update::Error| Failure::from(&error);
    let root = bundle::makers_root().map_err(failed)?;
    let trust = match root {
        // What the daemon keeps has no say in systems, then: the lists lie where it can't write.
        Some(root) => Trust::open(&drive.boot().join(KEYS), Some(root)),
        None => bundle::trust(&args.state),
    };
    let (staged, trust) = StagedSystem::open(folder, &trust.map_err(failed)?).map_err(failed)?;
    if root.is_some() {
        trust.save().map_err(failed)?;
    }
    let place = Place { disk: drive.disk(), esp: drive.boot(), running };
    let monitor = telling();
    system::write(&staged, &place, &monitor).map(drop).map_err(failed)
}

/// A monitor that tells who asked; where nobody hears any more, it stops what can be stopped.
fn telling() -> Arc<Monitor> {
    let itself: Arc<Mutex<Option<Arc<Monitor>>>> = Arc::default();
    let stop = Arc::clone(&itself);
    let tell = move |progress: &Progress| {
        let Progress { step, bytes_done: done, bytes_total: total, .. } = *progress;
        if say(&Answer::Moved { step, done, total }).is_err()
            && let Some(monitor) = &*stop.lock().unwrap_or_else(PoisonError::into_inner)
        {
            monitor.cancel();
        }
    };
    let monitor = Arc::new(Monitor::of(Action::Install, "system", "system", 0, tell));
    *itself.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&monitor));
    monitor
}

/// Finds the drive that the box started from, works on it, and leaves it clean.
fn with_drive(work: impl FnOnce(&Drive, &RootHash) -> Result<BootState, Failure>) -> Result<Answer, Failure> {
    let running = running().map_err(unusable)?;
    let drive = Drive::find().map_err(unusable)?;
    let boots = work(&drive, &running)?;
    drive.leave().map_err(unusable)?;
    Ok(Answer::Done(Some(boots)))
}

fn running() -> Result<RootHash> {
    let words = std::fs::read_to_string("/proc/cmdline").context("cannot read the kernel's command line")?;
    RootHash::from_cmdline(&words).context("this system was not started from a slot")
}

/// `NAME/VERSION` below the models' folder, and nothing else.
fn staged(models: &Path, folder: &str) -> Result<std::path::PathBuf> {
    let path = Path::new(folder);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || path.components().count() != 2 {
        bail!("{folder:?} is no version of anything");
    }
    Ok(models.join(path))
}

fn systemctl(args: &[&str]) -> Result<Answer, Failure> {
    let run = || -> Result<()> {
        let status = Command::new("systemctl").args(args).status().context("cannot start systemctl")?;
        if !status.success() {
            bail!("systemctl {} failed ({status})", args.join(" "));
        }
        Ok(())
    };
    run().map_err(unusable)?;
    Ok(Answer::Done(None))
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn unusable(error: anyhow::Error) -> Failure {
    Failure { code: "system_failed".into(), message: format!("{error:#}") }
}

fn say(answer: &Answer) -> Result<()> {
    let line = serde_json::to_string(answer)? + "\n";
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("nobody hears the answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_below_the_models_is_taken() {
        let models = Path::new("/models");
        assert_eq!(staged(models, "system/3").unwrap(), Path::new("/models/system/3"));
        for bad in ["", "system", "/etc/passwd", "../x", "system/../..", "a/b/c", "system/3/.."] {
            assert!(staged(models, bad).is_err(), "{bad}");
        }
    }
}
