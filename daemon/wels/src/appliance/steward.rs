//! What the daemon may not do itself: the boot partition, the idle slot, restarting. It asks the steward, a process of its own for
//! each wish, which believes nothing that the daemon says.
//!
//! ```text
//! daemon                                   wels steward (root, started by wels-steward.socket)
//!   {"do":"write_system","folder":"…"} ──>
//!                          <── {"moved":{"step":"settle","done":4096,"total":1073741824}}  …
//!                          <── {"done":…} or {"failed":{"code":"…","message":"…"}}
//! ```
//!
//! The daemon hanging up ends what can be ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};
use update::system::BootState;
use update::{Failure, Monitor, Step};

/// Its socket.
const SOCKET: &str = "/run/wels-steward.sock";
/// Bytes of a line.
pub(crate) const LINE_BYTES_MAX: u64 = 64 << 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Ask {
    /// What runs, and what starts next.
    Look,
    /// Put a staged version into the slot that doesn't run: its folder below the models'.
    WriteSystem { folder: String },
    /// The other version starts next.
    RollBack,
    /// Start the box again.
    Restart,
    /// Forget everything but the models, and start again.
    FactoryReset,
}

/// What is answered: any number of moves, then the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Moved {
        step: Step,
        done: u64,
        total: u64,
    },
    /// With what runs and what starts next, where that was asked or has changed.
    Done(Option<BootState>),
    Failed(Failure),
}

/// Whether there is a steward: on a box there is.
pub(crate) fn is_there() -> bool {
    Path::new(SOCKET).exists()
}

/// Asks, and waits for the end; the monitor is told of what moves, and may stop it.
///
/// # Errors
/// There is no steward, it hangs up, or says why it failed.
pub(crate) fn ask(ask: &Ask, monitor: Option<&Monitor>) -> Result<Option<BootState>, Failure> {
    let lost = |error: std::io::Error| Failure {
        code: "no_steward".into(),
        message: format!("{SOCKET}: {error}; only a box of its own can do that"),
    };
    let mut link = UnixStream::connect(SOCKET).map_err(lost)?;
    let line = serde_json::to_string(ask).expect("plain data") + "\n";
    link.write_all(line.as_bytes()).map_err(lost)?;
    let mut lines = BufReader::new(link);
    loop {
        let mut line = String::new();
        lines.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).map_err(lost)?;
        match serde_json::from_str(&line).map_err(|error| lost(error.into()))? {
            Answer::Moved { step, done, total } => {
                if let Some(monitor) = monitor {
                    monitor.follow(step, done, total).map_err(|error| Failure::from(&error))?;
                }
            }
            Answer::Done(boots) => return Ok(boots),
            Answer::Failed(failure) => return Err(failure),
        }
    }
}
