//! A stick that asks for a way back in: whoever has lost the password holds it.

use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, statat};
use tracing::info;

use super::{Desk, Event};
use crate::appliance::sticks::Stick;

/// The file that asks, in the root of a stick. What is in it doesn't matter.
const FILE: &str = "wels-recovery.txt";
/// A code ends then, even if its stick stays in.
const CODE_TIME: Duration = Duration::from_secs(30 * 60);

impl Desk {
    /// Finds out whether a stick that came asks for a code: one that hangs holds nobody up.
    pub(super) fn ask_for_recovery(&self, stick: &Arc<Stick>) {
        let (stick, tell) = (Arc::clone(stick), self.tell.clone());
        std::thread::spawn(move || {
            if asks(&stick) {
                // Nobody hears at the very end.
                let _ = tell.send(Event::RecoveryAsked { id: stick.id.clone() });
            }
        });
    }

    /// A fresh code, once for each time that a stick comes.
    pub(super) fn open_recovery(&mut self, id: &str) {
        // It may be gone again.
        let Some(seen) = self.sticks.iter_mut().find(|seen| seen.stick.id == id) else { return };
        seen.asks_recovery = true;
        info!(id, "a stick asks for a recovery code: the console shows one");
        self.recovery.open(CODE_TIME);
    }

    /// The code goes with the last stick that asked.
    pub(super) fn close_recovery(&self) {
        if !self.sticks.iter().any(|seen| seen.asks_recovery) {
            self.recovery.close();
        }
    }

    /// Whether the console shows a code, which may end any moment.
    pub(super) fn shows_code(&self) -> bool {
        self.board.watch().borrow().recovery_code.is_some()
    }
}

/// Whether the file is there; a link or a folder of that name asks for nothing.
fn asks(stick: &Stick) -> bool {
    let found = stick.folder().and_then(|folder| statat(folder, FILE, AtFlags::SYMLINK_NOFOLLOW).ok());
    found.is_some_and(|found| FileType::from_raw_mode(found.st_mode).is_file())
}
