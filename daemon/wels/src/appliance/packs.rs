//! Installed models.
//!
//! ```text
//! DIR/.installed.json       what is served, written by who installs bundles (`update`)
//! DIR/smollm2/1/            a pack
//! DIR/smollm2/2/            a later version
//! DIR/smollm2/current       without that file, what is served: a link to the version's folder, or a file with its name
//! ```

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use engine::{Event, Handle, Request, Sampling};

/// The pointer's name.
const CURRENT: &str = "current";
/// Bytes of a pointer that is a file.
const POINTER_MAX: u64 = 256;
/// Folders looked at.
const MODELS_MAX: usize = 1024;
/// Time for the first word: the largest model on the slowest drive reads a few experts of each layer.
const WORD_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// The pack to serve: the one that was installed from a bundle last, else the one whose pointer was written last; `None` where
/// none is installed.
///
/// # Errors
/// The folder can't be read, or what it names is no pack.
pub(crate) fn served(folder: &Path) -> Result<Option<PathBuf>> {
    let installed = update::Installed::read(folder).context("install the model again")?;
    let Some(version) = installed.line(update::Kind::Model).current.as_ref() else { return pointed(folder) };
    let pack = version.folder(folder);
    if !pack.is_dir() {
        bail!("{} is not there; install the model again", pack.display());
    }
    Ok(Some(pack))
}

/// The pack whose pointer was written last.
fn pointed(folder: &Path) -> Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
    };
    let pointers = entries.take(MODELS_MAX).filter_map(|entry| {
        let pointer = entry.ok()?.path().join(CURRENT);
        let written = fs::symlink_metadata(&pointer).ok()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some((written, pointer))
    });
    // Two of the same moment: the later name, so that it is always the same one.
    pointers.max().map(|(_, pointer)| follow(&pointer)).transpose()
}

fn follow(pointer: &Path) -> Result<PathBuf> {
    let what = || format!("{} leads nowhere; install the model again", pointer.display());
    let found = fs::symlink_metadata(pointer).with_context(what)?;
    let version = if found.is_symlink() {
        fs::read_link(pointer).with_context(what)?
    } else {
        let mut text = String::new();
        fs::File::open(pointer)
            .with_context(what)?
            .take(POINTER_MAX)
            .read_to_string(&mut text)
            .with_context(what)?;
        PathBuf::from(text.trim_end())
    };
    let mut parts = version.components();
    let (Some(Component::Normal(version)), None) = (parts.next(), parts.next()) else {
        bail!("{} names no folder beside it; install the model again", pointer.display());
    };
    let pack = pointer.with_file_name(version);
    if !pack.is_dir() {
        bail!(what());
    }
    Ok(pack)
}

/// Waits for the model's first token: whoever says it serves has to have said something.
///
/// # Errors
/// It doesn't come.
pub(crate) async fn first_word(engine: &Handle) -> Result<()> {
    let request = Request {
        prompt: vec![0],
        max_tokens: 1,
        stop_ids: Vec::new(),
        sampling: Sampling::greedy(),
        logprobs: None,
        owner: 0,
    };
    let mut generation = engine.submit(request)?;
    let word = async {
        loop {
            match generation.next().await.context("the engine stopped")? {
                Event::Token { .. } => return Ok(()),
                Event::Finished { .. } => bail!("it ended before the first token"),
                Event::Failed { message } => bail!(message),
                Event::Queued { .. } | Event::Prefill { .. } => {}
            }
        }
    };
    tokio::time::timeout(WORD_TIME_MAX, word).await.context("no token came")?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_pointer_written_last_is_served() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(served(dir.path()).unwrap(), None);
        assert_eq!(served(&dir.path().join("absent")).unwrap(), None);
        let old = dir.path().join("old");
        let new = dir.path().join("new");
        for version in [old.join("1"), new.join("7")] {
            fs::create_dir_all(version).unwrap();
        }
        fs::write(old.join(CURRENT), "1\n").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        symlink("7", new.join(CURRENT)).unwrap();
        assert_eq!(served(dir.path()).unwrap(), Some(new.join("7")));
        fs::remove_file(new.join(CURRENT)).unwrap();
        assert_eq!(served(dir.path()).unwrap(), Some(old.join("1")));
    }

    #[test]
    fn what_a_bundle_installed_goes_before_pointers() {
        let dir = tempfile::tempdir().unwrap();
        let by_hand = dir.path().join("old");
        fs::create_dir_all(by_hand.join("1")).unwrap();
        fs::write(by_hand.join(CURRENT), "1\n").unwrap();
        let id = "ab".repeat(32);
        let text = format!(r#"{{"model":{{"current":{{"name":"new","version":3,"id":"{id}"}}}}}}"#);
        fs::write(dir.path().join(".installed.json"), text).unwrap();
        assert!(served(dir.path()).unwrap_err().to_string().contains("install the model again"));
        fs::create_dir_all(dir.path().join("new/3")).unwrap();
        assert_eq!(served(dir.path()).unwrap(), Some(dir.path().join("new/3")));
    }

    #[test]
    fn a_pointer_leads_no_further_than_beside_itself() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("m");
        fs::create_dir(&model).unwrap();
        for version in ["..", "/etc", "a/b", "", "absent", &"x".repeat(1000)] {
            fs::write(model.join(CURRENT), version).unwrap();
            assert!(served(dir.path()).unwrap_err().to_string().contains("install"), "{version}");
        }
    }
}
