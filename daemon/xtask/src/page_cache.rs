//! The page cache: what is in it was not read from the drive, and belongs to nobody's limit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::process::{self, Tool};
use crate::size;
use crate::workspace::Workspace;

/// A file may keep so much: pages that wait in some processor's list.
const LEFT_BYTES_MAX: u64 = 16 << 20;
/// Such lists empty themselves.
const TRIES_MAX: usize = 3;

/// Drops the pages of a file, or of the files in a folder, and looks whether they are gone where `fincore` is installed.
///
/// # Errors
/// Another program holds them in memory.
pub(crate) fn drop_pages(workspace: &Workspace, model: &Path) -> Result<()> {
    for file in files(model)? {
        let mut left = 0;
        for _ in 0..TRIES_MAX {
            drop_once(&file).with_context(|| format!("cannot drop {} from the cache", file.display()))?;
            left = cached_bytes(workspace, &file)?;
            if left <= LEFT_BYTES_MAX {
                break;
            }
        }
        if left > LEFT_BYTES_MAX {
            let (file, left) = (file.display(), size::format(left));
            bail!("{left} of {file} stay in the page cache: another program has it mapped");
        }
    }
    Ok(())
}

fn files(model: &Path) -> Result<Vec<PathBuf>> {
    if !model.is_dir() {
        return Ok(vec![model.to_owned()]);
    }
    let entries = fs::read_dir(model).with_context(|| format!("cannot read {}", model.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

fn drop_once(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    // Pages that were not written yet would stay.
    file.sync_all()?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    Ok(())
}

fn cached_bytes(workspace: &Workspace, file: &Path) -> Result<u64> {
    if !process::on_path(workspace, "fincore") {
        return Ok(0);
    }
    let fincore = Tool::new(workspace, "fincore").args(["--bytes", "--noheadings", "--output", "RES"]);
    fincore.arg(file).output()?.trim().parse().context("fincore prints no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        assert_eq!(files(folder.path()).unwrap(), [folder.path().join("a")]);
        assert_eq!(files(&folder.path().join("a")).unwrap(), [folder.path().join("a")]);
        assert!(drop_once(&folder.path().join("a")).is_ok());
    }
}
