//! A model that ends the daemon while it is loaded would end it again at every start, and nobody could reach the page that goes
//! back to another: after a few times in a row it is left alone until the machine is switched on anew, or another serves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// In the state folder, while a model is loaded.
const FILE: &str = "starting.json";
const STARTS_MAX: u32 = 3;
/// Changes whenever the machine is switched on: a cut cord is no fault of the model's.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Starting {
    pack: PathBuf,
    boot: String,
    begun: u32,
}

/// Begins the model in `pack`, unless that has ended this daemon too often.
///
/// # Errors
/// It has, or `begin` fails.
pub(crate) fn guard(state: &Path, pack: &Path, begin: impl FnOnce() -> Result<()>) -> Result<()> {
    let (file, boot) = (state.join(FILE), fs::read_to_string(BOOT_ID).unwrap_or_default());
    let before = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Starting>(&bytes).ok());
    let before = before.filter(|before| before.pack == pack && before.boot == boot);
    let begun = before.map_or(0, |before| before.begun);
    if begun >= STARTS_MAX {
        bail!(
            "the daemon ended {begun} times in a row while it loaded {}: go back to the model before or bring another; to try it \
             again, restart the box",
            pack.display()
        );
    }
    let starting = Starting { pack: pack.to_owned(), boot, begun: begun + 1 };
    // A full disk is no reason not to serve.
    let noted = fs::write(&file, serde_json::to_vec(&starting).expect("plain data"));
    let outcome = begin();
    if let Err(error) = noted.and_then(|()| fs::remove_file(&file)) {
        warn!(file = %file.display(), %error, "starts are not counted");
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn dies(state: &Path, pack: &str) {
        let start = || guard(state, Path::new(pack), || panic!("the daemon ends"));
        catch_unwind(AssertUnwindSafe(start)).unwrap_err();
    }

    #[test]
    fn what_ends_the_daemon_again_and_again_is_left_alone_and_another_is_not() {
        let dir = tempfile::tempdir().unwrap();
        (0..STARTS_MAX).for_each(|_| dies(dir.path(), "a/1"));
        let refused = guard(dir.path(), Path::new("a/1"), || Ok(())).unwrap_err().to_string();
        assert!(refused.contains("3 times") && refused.contains("a/1"), "{refused}");
        guard(dir.path(), Path::new("a/2"), || Ok(())).unwrap();
        guard(dir.path(), Path::new("a/1"), || Ok(())).expect("the row has ended");
    }

    #[test]
    fn a_model_serves_where_nothing_can_be_noted() {
        let dir = tempfile::tempdir().unwrap();
        guard(&dir.path().join("absent"), Path::new("a/1"), || Ok(())).unwrap();
    }

    #[test]
    fn an_error_is_no_end_of_the_daemon_and_a_cut_cord_is_none_of_the_models_doing() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..=STARTS_MAX {
            guard(dir.path(), Path::new("a/1"), || bail!("damaged")).unwrap_err();
        }
        let earlier =
            Starting { pack: "a/1".into(), boot: "before the cord was cut".into(), begun: STARTS_MAX };
        fs::write(dir.path().join(FILE), serde_json::to_vec(&earlier).unwrap()).unwrap();
        guard(dir.path(), Path::new("a/1"), || Ok(())).unwrap();
    }
}
