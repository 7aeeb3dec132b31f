//! The box's state to a stick, and back.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use backup::{Error, Found};
use tracing::info;
use update::{Failure, Monitor, Step};

use crate::appliance::sticks::Stick;
use crate::backup::new_name;

/// The backups on a stick, the newest first; none where it has no file system.
pub(super) fn on(stick: &Stick) -> Vec<Found> {
    stick.folder().and_then(|folder| backup::found(&path(&folder)).ok()).unwrap_or_default()
}

/// Writes a backup to a stick.
pub(super) fn write(state: &Path, stick: &Stick, passphrase: &str, monitor: &Monitor) -> Result<(), Failure> {
    let written = stick.writing(|folder| {
        let folder = path(folder);
        let file = folder.join(new_name(&folder));
        Ok(backup::create_file(state, &file, passphrase, &mut watch(monitor)).map_err(failure))
    });
    let info = written.map_err(|error| Failure { code: "stick".into(), message: format!("{error:#}") })??;
    info!(bytes = info.bytes(), "a backup was written");
    monitor.step(Step::Done, 0, 0);
    Ok(())
}

/// Sets a backup beside the state: the daemon's next start takes it.
pub(super) fn restore(
    state: &Path,
    stick: &Stick,
    file: &str,
    passphrase: &str,
    monitor: &Monitor,
) -> Result<(), Failure> {
    let gone = || Failure { code: "no_stick".into(), message: "the stick is gone; plug it in again".into() };
    let folder = stick.folder().ok_or_else(gone)?;
    // A name that was shown, and no path.
    let is_shown = on(stick).iter().any(|found| found.file == file);
    let from = if is_shown { File::open(path(&folder).join(file)).ok() } else { None };
    backup::restore(from.ok_or_else(gone)?, passphrase, state, &mut watch(monitor)).map_err(failure)?;
    monitor.step(Step::Done, 0, 0);
    Ok(())
}

/// The monitor is told of what moves, and may stop it.
fn watch(monitor: &Monitor) -> impl FnMut(backup::Step, u64, u64) -> ControlFlow<()> {
    |step, done, total| {
        let step = match step {
            backup::Step::Prepare => Step::Prepare,
            backup::Step::Copy => Step::Copy,
            backup::Step::Check => Step::Check,
        };
        let moved = monitor.follow(step, done, total);
        if moved.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// An open folder, wherever it is mounted.
fn path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn failure(error: Error) -> Failure {
    Failure { code: error.code().to_owned(), message: error.to_string() }
}
