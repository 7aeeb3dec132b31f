//! What mkosi reads: `os-image/` and what only this machine knows.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::mirrors::{self, Source};
use super::{Tree, lock};
use crate::console;
use crate::process::Tool;
use crate::workspace::Workspace;

/// Parts of `os-image/` that are configuration.
const PARTS: &[&str] = &["mkosi.conf", "mkosi.extra", "mkosi.images", "mkosi.repart"];

/// Makes the folder that mkosi runs in.
pub(super) fn make(workspace: &Workspace, tree: &Tree, sources: &[Source], any_version: bool) -> Result<()> {
    let stage = tree.work().join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot remove {}", stage.display()))?;
    }
    for part in PARTS {
        copy(&workspace.join("os-image").join(part), &stage.join(part))?;
    }
    let apt = stage.join("mkosi.sandbox/etc/apt");
    // mkosi's own list, which has this name, would add archives that mirrors rarely have.
    write(
        &apt.join("sources.list.d/mkosi.sources"),
        &sources.iter().map(ToString::to_string).collect::<String>(),
    )?;
    write(&apt.join("apt.conf.d/50-wels-mirror.conf"), &mirrors::proxies(workspace)?)?;
    if !any_version {
        write(&apt.join("preferences.d/50-wels-lock.pref"), &lock::preferences(workspace)?)?;
    }
    let daemon = stage.join("daemon/usr/bin/wels");
    copy(&workspace.target().join("release/wels"), &daemon)?;
    Ok(fs::set_permissions(&daemon, fs::Permissions::from_mode(0o755))?)
}

/// Where the image has its maker's root key.
const ROOT_KEY: &str = "usr/share/wels/root.pub";

/// Adds the key whose owner names those that sign systems.
pub(super) fn add_root_key(tree: &Tree, key: Option<&Path>) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let text = fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?;
    let found: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if found["role"] != "root" || found["public_key"].as_str().is_none() || found.get("secret_key").is_some()
    {
        bail!(
            "{} is no public root key; give the .pub file of `wels bundle keygen --role root`",
            key.display()
        );
    }
    write(&tree.work().join("stage/daemon").join(ROOT_KEY), &text)
}

/// Builds the image. All that mkosi says is in a log; its steps are shown.
pub(super) fn mkosi(workspace: &Workspace, tree: &Tree, version: &str) -> Result<()> {
    for name in ["out", "cache", "workspace"] {
        fs::create_dir_all(tree.work().join(name))?;
    }
    let log_path = workspace.target().join("image/mkosi.log");
    let mut log =
        fs::File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let mkosi = tree.tool("mkosi").args(["--directory=/wels/stage", "--output-directory=/wels/out"]);
    let mkosi = mkosi.args(["--package-cache-dir=/wels/cache", "--workspace-directory=/wels/workspace"]);
    let mkosi =
        mkosi.args(["--extra-tree=/wels/stage/daemon", "--force", "--image-version", version, "build"]);
    let mkosi = mkosi.env("SOURCE_DATE_EPOCH", commit_time(workspace)?);
    mkosi.remedy(format!("all of it is in {}", workspace.shown(&log_path))).follow(|line| {
        // A log that can't be written is no reason to stop.
        let _ = writeln!(log, "{line}");
        if let Some(step) = line.strip_prefix("‣") {
            console::note(step.trim());
        }
    })
}

/// All times in the image: the last commit's.
fn commit_time(workspace: &Workspace) -> Result<String> {
    let git = Tool::new(workspace, "git").args(["log", "-1", "--format=%ct"]);
    Ok(git.remedy("the image's date is the last commit's: build in a clone").output()?.trim().to_owned())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().expect("a file lies in a folder"))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Copies a file or a folder, with permissions.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().expect("a file lies in a folder"))?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
