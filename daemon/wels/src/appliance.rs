//! The daemon as a part of the box: which installed model it serves and how another takes its place, what came on a stick, what
//! it tells the console, how systemd watches it.
//!
//! ```text
//! wels stick ── door ──> sticks ──┐                   ┌──> Serving: opens, tests, exchanges models
//! the page ── api::Updates ──────>└── Desk ── jobs ───┤
//!                                      │              └──> update::Installer: what is installed
//!                                      └──> its state: page (JSON), Board ──> box.json ──> wels console
//! ```
//!
//! None of it is needed elsewhere: without systemd's variables nothing is told, nothing is written, and no stick is taken.

mod desk;
pub(crate) mod door;
mod fell_back;
pub(crate) mod name;
pub(crate) mod packs;
mod serving;
pub(crate) mod starts;
mod state;
pub(crate) mod steward;
mod sticks;
mod supervisor;
mod version;

use std::path::PathBuf;

pub(crate) use desk::{Desk, Places};
pub(crate) use fell_back::{FellBack, fell_back};
pub(crate) use serving::Serving;
pub(crate) use state::{Board, BoxState, ModelState, UpdateState};
pub(crate) use supervisor::supervise;
pub(crate) use version::version;

/// The daemon's runtime folder on the box.
pub(crate) const RUNTIME: &str = "/run/wels";

/// The runtime folder that systemd made for this daemon (`RuntimeDirectory=`); `None` where it is no service.
pub(crate) fn runtime() -> Option<PathBuf> {
    std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from)
}
