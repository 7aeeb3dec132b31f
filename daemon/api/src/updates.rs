//! The door between the page and whoever installs models and systems: a state that is shown, and wishes that are answered.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};

/// Wishes that may wait.
const WISHES_MAX: usize = 16;
/// Before the desk has said anything.
const NOTHING_MEASURED: &str = r#"{"progress":null,"report":null}"#;

/// What an administrator wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Install what was shown of a stick.
    Install {
        /// The stick that was shown.
        stick: String,
        /// The bundle that was shown on it.
        bundle: String,
        /// Even if it is older than what the box has had.
        allow_older: bool,
    },
    /// End the copy; what was copied is kept.
    Stop,
    /// Back to what served before.
    Rollback {
        /// Of what.
        kind: Kind,
    },
    /// Make room: a version that doesn't serve goes.
    Remove {
        /// Its name.
        name: String,
        /// Its counter.
        version: u64,
    },
    /// Start the box again.
    Restart,
    /// The last outcome was read.
    Dismiss,
    /// Believe the public key in this text of a file.
    AddKey {
        /// The file's text.
        text: String,
    },
    /// No longer believe a key.
    RemoveKey {
        /// Its fingerprint.
        fingerprint: String,
    },
    /// Write what the box knows to a stick.
    Backup {
        /// The stick that was shown.
        stick: String,
        /// Who has it can read the backup.
        passphrase: Passphrase,
    },
    /// Become what a backup holds.
    Restore {
        /// The stick that was shown.
        stick: String,
        /// The backup's name on it.
        file: String,
        /// What it was written with.
        passphrase: Passphrase,
    },
    /// Forget everything but the models.
    FactoryReset,
    /// Measure the box.
    Measure {
        /// How long it is kept busy.
        minutes: u32,
    },
    /// End the measurement, and keep what was measured.
    StopMeasure,
}

/// What is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The model.
    Model,
    /// The system.
    System,
}

/// A secret of a person's: no log shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Passphrase(pub String);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Why a wish is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs, and for translation.
    pub code: &'static str,
    /// For people: what, where, what to do.
    pub message: String,
}

/// A wish, and where its answer goes.
#[derive(Debug)]
pub struct Wished {
    /// What is wished.
    pub wish: Wish,
    /// Taken up, or refused. How it went is then part of the state.
    pub answer: oneshot::Sender<Result<(), Refusal>>,
}

/// The page's side of the door.
#[derive(Clone, Debug)]
pub struct Updates {
    /// JSON, whole each time: the page reads it as it is.
    pub(crate) state: watch::Receiver<Arc<str>>,
    /// JSON, likewise.
    pub(crate) measured: watch::Receiver<Arc<str>>,
    wishes: mpsc::Sender<Wished>,
}

/// The installing side of the door.
#[derive(Debug)]
pub struct Desk {
    /// What the page shows, as JSON.
    pub state: watch::Sender<Arc<str>>,
    /// How far a measurement of the box is, and the last one, as JSON.
    pub measured: watch::Sender<Arc<str>>,
    /// What its administrators wish.
    pub wishes: mpsc::Receiver<Wished>,
}

/// A door that shows `state` until the desk says more.
pub fn updates(state: Arc<str>) -> (Updates, Desk) {
    let (show, shown) = watch::channel(state);
    let (tell, told) = watch::channel(NOTHING_MEASURED.into());
    let (ask, wishes) = mpsc::channel(WISHES_MAX);
    (Updates { state: shown, measured: told, wishes: ask }, Desk { state: show, measured: tell, wishes })
}

impl Updates {
    /// Hands a wish over and waits until it is taken up or refused.
    pub(crate) async fn wish(&self, wish: Wish) -> Result<(), Refusal> {
        let gone =
            || Refusal { code: "ending", message: "the box is ending; ask again once it is back".into() };
        let (answer, answered) = oneshot::channel();
        self.wishes.send(Wished { wish, answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}
