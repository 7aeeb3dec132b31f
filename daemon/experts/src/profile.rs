//! Which experts a box used: kept over restarts, so that the cache starts with what is wanted most.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Of the format.
const VERSION: u32 = 1;
/// Largest file read: R1's has some 200 KB.
const BYTES_MAX: u64 = 16 << 20;

/// Tokens that each routed expert of a model was used by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    version: u32,
    /// Layers that have routed experts.
    layers: Vec<u32>,
    /// Experts of each.
    n_experts: u32,
    /// Tokens, layer by layer.
    uses: Vec<u64>,
}

impl Profile {
    pub(crate) fn new(layers: Vec<u32>, n_experts: u32, uses: Vec<u64>) -> Self {
        Self { version: VERSION, layers, n_experts, uses }
    }

    /// Reads a profile; `None` where there is none yet.
    ///
    /// # Errors
    /// The file can't be read, or is none of a model with these layers.
    pub(crate) fn read(path: &Path, layers: &[u32], n_experts: u32) -> Result<Option<Self>, Error> {
        let problem = |what: String| Error::Profile { path: path.into(), what };
        let bytes = match fs::metadata(path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(problem(cause.to_string())),
            Ok(meta) if meta.len() > BYTES_MAX => {
                return Err(problem(format!("{} bytes are too many", meta.len())));
            }
            Ok(_) => fs::read(path).map_err(|cause| problem(cause.to_string()))?,
        };
        let profile: Self = serde_json::from_slice(&bytes).map_err(|cause| problem(cause.to_string()))?;
        if profile.version != VERSION {
            return Err(problem(format!("version {} is not {VERSION}", profile.version)));
        }
        let fits = profile.layers == layers
            && profile.n_experts == n_experts
            && profile.uses.len() == layers.len() * n_experts as usize;
        if fits { Ok(Some(profile)) } else { Err(problem("it is of another model".into())) }
    }

    /// Writes beside the file, then renames: a cut cord leaves the old one.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let beside = PathBuf::from(format!("{}.new", path.display()));
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut file = fs::File::create(&beside)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&beside, path)
        });
        written.map_err(|cause| Error::Profile { path: path.into(), what: cause.to_string() })
    }

    /// Tokens by expert, those of before the restart counting half: habits change.
    pub(crate) fn aged(self) -> impl Iterator<Item = u64> {
        self.uses.into_iter().map(|uses| uses / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_written_and_counts_half() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new/profile.json");
        assert_eq!(Profile::read(&path, &[1, 2], 3).expect("none yet"), None);
        let profile = Profile::new(vec![1, 2], 3, vec![9, 0, 1, 4, 8, 1]);
        profile.write(&path).expect("written");
        let read = Profile::read(&path, &[1, 2], 3).expect("read").expect("there");
        assert_eq!(read, profile);
        assert_eq!(read.aged().collect::<Vec<_>>(), [4, 0, 0, 2, 4, 0]);
    }

    #[test]
    fn what_is_no_profile_of_the_model_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("profile.json");
        Profile::new(vec![1, 2], 3, vec![0; 6]).write(&path).expect("written");
        Profile::read(&path, &[1], 6).expect_err("other layers");
        Profile::new(vec![1, 2], 3, vec![0; 5]).write(&path).expect("written");
        Profile::read(&path, &[1, 2], 3).expect_err("too few numbers");
        fs::write(&path, b"{").expect("written");
        let error = Profile::read(&path, &[1, 2], 3).expect_err("no JSON").to_string();
        assert!(error.contains("profile.json"), "{error}");
    }
}
