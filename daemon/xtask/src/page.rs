//! Building the page that the daemon carries, unless nothing of it has changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::console;
use crate::process::Tool;
use crate::workspace::Workspace;

/// What `npm run build` reads, below `web-ui`.
const INPUTS: &[&str] = &[
    "src",
    "public",
    "scripts",
    "index.html",
    "package-lock.json",
    "svelte.config.js",
    "tsconfig.json",
    "vite.config.ts",
];

/// Sees to it that `web-ui/dist` is built from what is there now.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let now = fingerprint(workspace)?;
    let stamp = workspace.target().join("tools/page.sha256");
    let built = workspace.web_ui().join("dist/index.html").is_file();
    if built && fs::read_to_string(&stamp).is_ok_and(|found| found == now) {
        console::note("the page has not changed since it was built");
        return Ok(());
    }
    npm(workspace, "build").output()?;
    fs::create_dir_all(stamp.parent().expect("the stamp lies in a folder"))?;
    fs::write(&stamp, now).with_context(|| format!("cannot write {}", stamp.display()))
}

/// `npm run SCRIPT` of the page.
pub(crate) fn npm(workspace: &Workspace, script: &str) -> Tool {
    let npm = Tool::new(workspace, "npm").dir(workspace.web_ui()).args(["run", "--silent", script]);
    // Its output is read by a program: without colours.
    npm.env("NO_COLOR", "1")
}

/// A hash over the names and bytes of everything the build reads.
fn fingerprint(workspace: &Workspace) -> Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        list(&workspace.web_ui().join(input), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.to_string_lossy().as_bytes());
        hash.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
            list(&entry?.path(), files)?;
        }
    } else if path.is_file() {
        files.push(path.to_owned());
    }
    Ok(())
}
