//! The daemon as a part of the box: which installed model it serves, what it tells the console, how systemd watches it.
//!
//! None of it is needed elsewhere: without systemd's variables nothing is told and nothing is written.

pub(crate) mod name;
pub(crate) mod packs;
mod state;
mod supervisor;

pub(crate) use state::{BoxState, ModelState};
pub(crate) use supervisor::supervise;

/// The daemon's runtime folder on the box.
pub(crate) const RUNTIME: &str = "/run/wels";
