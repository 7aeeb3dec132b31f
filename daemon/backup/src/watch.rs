//! Who looks on while a backup is made or restored, and may stop it.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::Error;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The passphrase becomes a key; the database is copied beside itself.
    Prepare,
    /// To the file, or from it.
    Copy,
    /// The file is read back; what came is looked at.
    Check,
}

/// Told of each step, bytes of it that are done, and bytes there are; 0 where nobody can say. `Break` stops the work, and
/// nothing is changed.
pub type Watch<'a> = dyn FnMut(Step, u64, u64) -> ControlFlow<()> + 'a;

/// Tells, and hears.
pub(crate) fn tell(watch: &mut Watch<'_>, step: Step, done: u64, total: u64) -> Result<(), Error> {
    match watch(step, done, total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}
