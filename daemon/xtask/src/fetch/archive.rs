//! Packages as archives: downloaded by the index's own client, which knows the machine's mirror, and unpacked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::sets::Index;
use crate::process::Tool;
use crate::workspace::Workspace;

/// Unpacks a package into the empty folder `into`; of a tar archive only `members`, or everything if there are none.
pub(super) fn fetch(
    workspace: &Workspace,
    index: Index,
    name: &str,
    version: &str,
    members: &BTreeSet<&str>,
    into: &Path,
) -> Result<()> {
    download(workspace, index, name, version, into)?;
    let Some(archive) = only_file(into)? else {
        bail!("the package index gave no file for {name} {version}")
    };
    let is_wheel = archive.extension().is_some_and(|extension| extension == "whl");
    let tool = if is_wheel {
        python(workspace).args(["-m", "zipfile", "-e"]).arg(&archive).arg(into)
    } else {
        Tool::new(workspace, "tar").arg("-xzf").arg(&archive).arg("-C").arg(into).args(members)
    };
    tool.remedy("the download may be damaged: run the same command again").output()?;
    fs::remove_file(archive)?;
    Ok(())
}

fn download(workspace: &Workspace, index: Index, name: &str, version: &str, into: &Path) -> Result<()> {
    let tool = match index {
        Index::PyPi => {
            let pip =
                python(workspace).args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
            pip.args(["--no-deps", "--no-cache-dir", "--dest"]).arg(into).arg(format!("{name}=={version}"))
        }
        Index::Npm => {
            let npm = Tool::new(workspace, "npm").args(["pack", "--silent", "--pack-destination"]);
            npm.arg(into).arg(format!("{name}@{version}"))
        }
    };
    let remedy = "check that the package index can be reached, then run the same command again: it goes on where it was";
    tool.remedy(remedy).output()?;
    Ok(())
}

fn only_file(folder: &Path) -> Result<Option<PathBuf>> {
    let first = fs::read_dir(folder)?.next().transpose()?;
    Ok(first.map(|entry| entry.path()))
}

fn python(workspace: &Workspace) -> Tool {
    Tool::new(workspace, workspace.venv().join("bin/python"))
}
