//! Installed models: each lies at NAME/VERSION, and `.installed.json` says which is served. Who installs bundles (`update`)
//! writes both.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The pack to serve; `None` where none is installed.
///
/// # Errors
/// What is installed can't be read, or isn't there.
pub(crate) fn served(folder: &Path) -> Result<Option<PathBuf>> {
    let installed = update::Installed::read(folder).context("install the model again")?;
    let Some(version) = &installed.line(update::Kind::Model).current else { return Ok(None) };
    let pack = version.folder(folder);
    if !pack.is_dir() {
        bail!("{} is not there; install the model again", pack.display());
    }
    Ok(Some(pack))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_installed_is_served_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(served(dir.path()).unwrap(), None);
        assert_eq!(served(&dir.path().join("absent")).unwrap(), None);
        fs::create_dir_all(dir.path().join("old/1")).unwrap();
        assert_eq!(served(dir.path()).unwrap(), None, "a folder alone is a leftover");
        let id = "ab".repeat(32);
        let text = format!(r#"{{"model":{{"current":{{"name":"new","version":3,"id":"{id}"}}}}}}"#);
        fs::write(dir.path().join(".installed.json"), text).unwrap();
        assert!(served(dir.path()).unwrap_err().to_string().contains("install the model again"));
        fs::create_dir_all(dir.path().join("new/3")).unwrap();
        assert_eq!(served(dir.path()).unwrap(), Some(dir.path().join("new/3")));
        fs::write(dir.path().join(".installed.json"), "{").unwrap();
        assert!(served(dir.path()).is_err());
    }
}
