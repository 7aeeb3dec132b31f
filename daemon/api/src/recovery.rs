//! The door for whoever has lost the password and stands at the box: a code that the box shows for a while. Who may have it
//! shown is not known here.
//!
//! ```text
//!            open                take
//!   closed ───────> code shown ───────> taken ──┐
//!      ^                │  ^              │     │
//!      └── close, or    │  └── give back ─┘     │
//!          time is over ┴───────────────────────┘
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::secret;

/// The door: closed until it is opened. Clones are one.
#[derive(Clone, Default)]
pub struct Recovery {
    opened: Arc<Mutex<Option<Opened>>>,
}

struct Opened {
    code: String,
    until: Instant,
    is_taken: bool,
}

impl Recovery {
    /// Opens it for as long as `time`, by a fresh code; any before it is good for nothing.
    pub fn open(&self, time: Duration) {
        let opened = Opened { code: secret::console_code(), until: Instant::now() + time, is_taken: false };
        *self.lock() = Some(opened);
    }

    /// Closes it.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// The code that opens it now, for the screen of the box; `None` once it was used or its time is over.
    pub fn code(&self) -> Option<String> {
        let opened = self.lock();
        opened.as_ref().filter(|opened| opened.is_good()).map(|opened| opened.code.clone())
    }

    /// Whether `typed` opens it: asked before the costly hash of the password is made.
    pub(crate) fn is_code(&self, typed: &str) -> bool {
        self.lock().as_ref().is_some_and(|opened| opened.is_opened_by(typed))
    }

    /// Uses the code up, if `typed` is it: true for one caller alone.
    pub(crate) fn take(&self, typed: &str) -> bool {
        let mut opened = self.lock();
        let Some(opened) = opened.as_mut().filter(|opened| opened.is_opened_by(typed)) else { return false };
        opened.is_taken = true;
        true
    }

    /// Whoever took the code could not make use of it. A code that has come since stays as it is.
    pub(crate) fn give_back(&self, code: &str) {
        let mut opened = self.lock();
        if let Some(opened) = opened.as_mut().filter(|opened| secret::is_console_code(code, &opened.code)) {
            opened.is_taken = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn is_good(&self) -> bool {
        !self.is_taken && Instant::now() < self.until
    }

    fn is_opened_by(&self, typed: &str) -> bool {
        self.is_good() && secret::is_console_code(typed, &self.code)
    }
}

/// No log shows the code.
impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recovery(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_code_is_taken_once_and_can_be_given_back() {
        let door = Recovery::default();
        assert!(door.code().is_none() && !door.take(""));
        door.open(LONG);
        let code = door.code().unwrap();
        assert!(!door.take("AAAA-AAAA") && door.take(&code.to_lowercase()));
        assert!(door.code().is_none() && !door.is_code(&code) && !door.take(&code));
        door.give_back(&code);
        assert!(door.take(&code));
    }

    #[test]
    fn a_code_ends_with_its_time_with_the_next_one_and_when_the_door_closes() {
        let door = Recovery::default();
        door.open(Duration::ZERO);
        assert!(door.code().is_none());
        door.open(LONG);
        let first = door.code().unwrap();
        door.open(LONG);
        assert!(!door.is_code(&first));
        let second = door.code().unwrap();
        assert!(door.take(&second));
        door.close();
        door.give_back(&second);
        assert!(door.code().is_none());
    }

    #[test]
    fn a_log_does_not_show_it() {
        let door = Recovery::default();
        door.open(LONG);
        assert!(!format!("{door:?}").contains(&door.code().unwrap()));
    }
}
