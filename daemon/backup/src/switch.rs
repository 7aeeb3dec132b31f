//! What was restored takes the place of what was there: by renaming only, when nothing is open.
//!
//! ```text
//! .restore/                    no mark       it came in part, and is removed
//!   parts/  before/
//!   ready                      1. what is in the state folder    ──> before/
//!                              2. ready ──> placing
//!   placing                    3. parts/  ──> the state folder
//!                              4. before/ ──> before-restore/, which replaces an earlier one
//!                              5. placing is removed, then .restore/
//! ```
//!
//! Every step can be done twice, and a mark moves on only when all before it is on the disk: cut off anywhere, the next start goes
//! on where it was. Nothing is written, so a full disk doesn't matter.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::contents::{CARRIED, DATABASE};
use crate::files::{self, Lock};
use crate::{Error, Info};

/// The folder beside the state where a restore keeps what was there.
pub const BEFORE: &str = "before-restore";
const FOLDER: &str = ".restore";
/// What SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Puts what was restored in its place, if a restore is ready: before the store is opened, at each start. What was there goes
/// to [`BEFORE`]. Returns the backup's description where it did. A restore that a newer version made ready, from which
/// the system fell back, waits for that version.
///
/// # Errors
/// The file system refused: the next call goes on from there.
pub fn finish_restore(state: &Path) -> Result<Option<Info>, Error> {
    finish(state, &mut || Ok(()))
}

/// Called before each change; may fail as the power may.
type Change<'a> = dyn FnMut() -> Result<(), Error> + 'a;

fn finish(state: &Path, change: &mut Change<'_>) -> Result<Option<Info>, Error> {
    let staged = Staged::of(state);
    if !staged.folder.exists() {
        return Ok(None);
    }
    let _lock = match Lock::take(state) {
        // One is coming just now.
        Err(Error::Busy { .. }) => return Ok(None),
        lock => lock?,
    };
    let info = match staged.mark() {
        Ok(Some(info)) if info.schema > store::SCHEMA_VERSION && !staged.has_begun() => return Ok(None),
        Err(Error::NewerFormat { .. }) if !staged.has_begun() => return Ok(None),
        mark => mark?,
    };
    if info.is_some() {
        staged.set_aside(state, change)?;
        staged.place(state, change)?;
    }
    change()?;
    staged.discard()?;
    Ok(info)
}

/// Names in the state folder that a restore replaces, in the backup or not.
fn replaced() -> impl Iterator<Item = String> {
    let beside = BESIDE.iter().map(|suffix| format!("{DATABASE}{suffix}"));
    beside.chain(CARRIED.iter().map(|(name, _)| (*name).to_owned()))
}

/// What came, beside the state.
pub(crate) struct Staged {
    folder: PathBuf,
}

impl Staged {
    pub(crate) fn of(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    fn ready(&self) -> PathBuf {
        self.folder.join("ready")
    }

    fn placing(&self) -> PathBuf {
        self.folder.join("placing")
    }

    fn before(&self) -> PathBuf {
        self.folder.join("before")
    }

    /// Whether some of what was there is moved already.
    pub(crate) fn has_begun(&self) -> bool {
        let moved = fs::read_dir(self.before()).is_ok_and(|mut names| names.next().is_some());
        moved || self.placing().exists()
    }

    /// What is ready, or half-way in its place; `None` where it came in part.
    fn mark(&self) -> Result<Option<Info>, Error> {
        let path = if self.placing().exists() { self.placing() } else { self.ready() };
        match fs::read(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Info::parse(&bytes.map_err(Error::io(&path, "read"))?).map(Some),
        }
    }

    /// 1 and 2: as long as the mark is `ready`, whatever is in the state folder is old.
    fn set_aside(&self, state: &Path, change: &mut Change<'_>) -> Result<(), Error> {
        if !self.ready().exists() {
            return Ok(());
        }
        for name in replaced() {
            change()?;
            files::rename(&state.join(&name), &self.before().join(&name))?;
        }
        files::sync(&self.before())?;
        files::sync(state)?;
        change()?;
        files::rename(&self.ready(), &self.placing())?;
        files::sync(&self.folder)
    }

    /// 3 to 5: what isn't in `parts/` any more is in its place.
    fn place(&self, state: &Path, change: &mut Change<'_>) -> Result<(), Error> {
        for (name, _) in CARRIED {
            change()?;
            files::rename(&self.part(name), &state.join(name))?;
        }
        files::sync(state)?;
        if self.before().exists() {
            change()?;
            files::remove_folder(&state.join(BEFORE))?;
            change()?;
            files::rename(&self.before(), &state.join(BEFORE))?;
            files::sync(state)?;
        }
        change()?;
        files::remove_file(&self.placing())?;
        files::sync(&self.folder)
    }

    /// Empty folders; what came earlier goes, its mark first.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        self.discard()?;
        files::new_folder(&self.folder)?;
        files::new_folder(&self.folder.join("parts"))?;
        files::new_folder(&self.before())
    }

    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.folder.join("parts").join(name)
    }

    /// All is there and checked: from now on the next start switches.
    pub(crate) fn mark_ready(&self, info: &Info) -> Result<(), Error> {
        files::sync(&self.folder.join("parts"))?;
        let coming = self.folder.join("coming");
        files::write_synced(&coming, &info.to_json())?;
        files::sync(&self.folder)?;
        files::sync(files::parent(&self.folder))?;
        files::rename(&coming, &self.ready())?;
        files::sync(&self.folder)
    }

    /// The mark goes first: half of a restore is none.
    pub(crate) fn discard(&self) -> Result<(), Error> {
        if self.ready().exists() {
            files::remove_file(&self.ready())?;
            files::sync(&self.folder)?;
        }
        files::remove_folder(&self.folder)
    }
}

#[cfg(test)]
mod tests;
