//! Versions of the image's packages: `os-image/packages.lock`, a line each.
//!
//! apt is told to take these where its mirror has them. A mirror keeps but the newest of a suite: once it has moved on, the
//! build says which packages differ, and either the lock is written anew (`--accept-packages`, a commit of its own), or apt is
//! pointed to a mirror of that day.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Files;
use crate::console;
use crate::workspace::Workspace;

/// Differences that are shown.
const SHOWN_MAX: usize = 20;

/// A package as mkosi lists it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
}

#[derive(Deserialize)]
struct Manifest {
    packages: Vec<Package>,
}

/// Everything that was installed: into the image, and into its initrd.
pub(super) fn installed(files: &Files) -> Result<Vec<Package>> {
    let mut all = BTreeMap::new();
    for path in [files.kind("manifest"), files.folder.join("initrd.manifest")] {
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend(manifest.packages.into_iter().map(|package| (package.name.clone(), package)));
    }
    Ok(all.into_values().collect())
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.join("os-image/packages.lock")
}

fn locked(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let path = path(workspace);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}; run `cargo xtask image --accept-packages` to write it",
            workspace.shown(&path)
        )
    })?;
    Ok(parse(&text))
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect()
}

/// The lock as apt's preferences. A version that the mirror no longer has is as if it weren't there.
pub(super) fn preferences(workspace: &Workspace) -> Result<String> {
    let pin = |(name, version)| format!("Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n");
    Ok(locked(workspace)?.into_iter().map(pin).collect())
}

/// Compares what was installed with the lock, or writes it.
///
/// # Errors
/// They differ: the mirror has moved on.
pub(super) fn compare(workspace: &Workspace, files: &Files, accept: bool) -> Result<()> {
    let found: BTreeMap<_, _> =
        installed(files)?.into_iter().map(|package| (package.name, package.version)).collect();
    if accept {
        let lines: String = found.iter().map(|(name, version)| format!("{name} {version}\n")).collect();
        let text = format!(
            "# Written by `cargo xtask image --accept-packages`: what the image is made of.\n{lines}"
        );
        fs::write(path(workspace), text).context("cannot write os-image/packages.lock")?;
        console::note(format_args!("{} packages written into os-image/packages.lock", found.len()));
        return Ok(());
    }
    let differences = differences(&locked(workspace)?, &found);
    if differences.is_empty() {
        console::note(format_args!(
            "{} packages, each of the version in os-image/packages.lock",
            found.len()
        ));
        return Ok(());
    }
    let shown = differences[..differences.len().min(SHOWN_MAX)].join("\n  ");
    bail!(
        "{} packages are not those of os-image/packages.lock; the mirror has moved on. Look at what is new, then run the same \
         command with --accept-packages and commit the lock; or point apt to a mirror of the day that the lock was \
         written, and build again:\n  {shown}",
        differences.len()
    )
}

fn differences(want: &BTreeMap<String, String>, got: &BTreeMap<String, String>) -> Vec<String> {
    let names = want.keys().chain(got.keys().filter(|name| !want.contains_key(*name)));
    let differing = names.filter_map(|name| match (want.get(name), got.get(name)) {
        (Some(want), Some(got)) if want == got => None,
        (Some(want), Some(got)) => Some(format!("{name}: {got}, the lock has {want}")),
        (Some(want), None) => Some(format!("{name}: gone, the lock has {want}")),
        (None, got) => Some(format!("{name}: {}, not in the lock", got.map_or("", String::as_str))),
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named() {
        let want = parse("# note\nbash 5.2-1\nkmod 34-2\nudev 257-1\n");
        let got = parse("bash 5.2-1\nkmod 34-3\nzstd 1.5\n");
        let found = differences(&want, &got);
        assert_eq!(
            found,
            ["kmod: 34-3, the lock has 34-2", "udev: gone, the lock has 257-1", "zstd: 1.5, not in the lock"]
        );
        assert!(differences(&want, &want).is_empty());
    }
}
