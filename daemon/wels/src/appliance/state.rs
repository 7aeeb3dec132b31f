//! What the daemon tells the console and the gate of the boot: one small file in its runtime folder.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{name, version};

/// The file's name in the runtime folder. It goes with the folder when the daemon ends.
const FILE: &str = "box.json";
/// Bytes that a reader takes.
const BYTES_MAX: u64 = 64 << 10;

/// The box as its daemon knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BoxState {
    pub(crate) name: String,
    /// What the box calls itself where another device has its name.
    pub(crate) unique_name: Option<String>,
    pub(crate) version: String,
    /// Until somebody has claimed the box.
    pub(crate) claim_code: Option<String>,
    /// While somebody who has lost the password may be at the box.
    #[serde(default)]
    pub(crate) recovery_code: Option<String>,
    pub(crate) model: ModelState,
    /// What an installation does, or did last; and whether a stick waits for a word.
    #[serde(default)]
    pub(crate) update: UpdateState,
}

/// What of updates the console shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct UpdateState {
    /// The stick that was plugged in, in words.
    pub(crate) stick: Option<String>,
    pub(crate) progress: Option<update::Progress>,
}

/// Where the daemon's parts say how they are, and whoever shows it looks. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Board(Arc<watch::Sender<BoxState>>);

impl Board {
    pub(crate) fn new(state: BoxState) -> Self {
        Self(Arc::new(watch::channel(state).0))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut BoxState)) {
        self.0.send_modify(change);
    }

    /// Those who look are told only where `change` says that something changed.
    pub(crate) fn change_if(&self, change: impl FnOnce(&mut BoxState) -> bool) {
        self.0.send_if_modified(change);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<BoxState> {
        self.0.subscribe()
    }
}

/// The model's part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum ModelState {
    /// None is installed.
    None,
    /// It has said a word.
    Ready { name: String },
    /// One is installed and can't be served.
    Failed { reason: String },
}

impl BoxState {
    pub(crate) fn new(name: String, claim_code: Option<String>, model: ModelState) -> Self {
        let unique_name = name::unique(&name);
        Self {
            unique_name,
            name,
            version: version(),
            claim_code,
            recovery_code: None,
            model,
            update: UpdateState::default(),
        }
    }

    /// Writes it whole or not at all.
    pub(crate) fn write(&self, runtime: &Path) -> Result<()> {
        let (path, part) = (runtime.join(FILE), runtime.join(format!("{FILE}.part")));
        let what = || format!("cannot write {}", path.display());
        let mut file = fs::File::create(&part).with_context(what)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush().with_context(what)?;
        fs::rename(&part, &path).with_context(what)
    }

    pub(crate) fn read(runtime: &Path) -> Result<Self> {
        use std::io::Read;
        let path = runtime.join(FILE);
        let file = fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        serde_json::from_reader(file.take(BYTES_MAX))
            .with_context(|| format!("cannot read {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(BoxState::read(dir.path()).is_err());
        let failed = ModelState::Failed { reason: "no".into() };
        let state = BoxState::new("wels".into(), Some("ABCD-EFGH".into()), failed);
        state.write(dir.path()).unwrap();
        assert_eq!(BoxState::read(dir.path()).unwrap(), state);
    }
}
