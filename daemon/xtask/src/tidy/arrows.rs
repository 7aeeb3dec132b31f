//! The crates' dependencies point the way `daemon/ARCHITECTURE.md` draws them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use super::Finding;
use crate::workspace::Workspace;

/// Which crates of the workspace a crate may use. Those that later issues add are here already.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &["engine", "text", "store"]),
    ("update", &["weights", "store"]),
    ("backup", &["store"]),
    ("engine", &["model", "text"]),
    ("model", &["gpu", "shaders", "kernels", "experts", "weights", "tensor"]),
    ("gpu", &["shaders", "tensor"]),
    ("experts", &["weights", "tensor"]),
    ("kernels", &["tensor"]),
    ("weights", &["tensor"]),
    ("shaders", &["tensor"]),
    ("tensor", &[]),
    ("text", &[]),
    ("store", &[]),
    ("xtask", &[]),
    ("hw-tests", &[]),
    (FIXTURES, &["weights", "tensor"]),
];
/// Reference data: every crate's tests may read it.
const FIXTURES: &str = "fixtures";
/// Wiring: it may use whatever lies below it.
const BINARY: &str = "wels";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let daemon = workspace.join("daemon");
    let mut findings = Vec::new();
    for entry in fs::read_dir(&daemon).with_context(|| format!("cannot list {}", daemon.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let manifest = daemon.join(&name).join("Cargo.toml");
        if name == "fuzz" || !manifest.is_file() {
            continue;
        }
        let text =
            fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        findings.extend(check_manifest(&name, &text));
    }
    findings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(findings)
}

fn check_manifest(name: &str, manifest: &str) -> Vec<Finding> {
    let path = format!("daemon/{name}/Cargo.toml");
    let Some(allowed) = allowed(name) else {
        return vec![Finding::error(
            path,
            0,
            format!("tidy knows no arrows of the crate {name}: add them, and draw them"),
        )];
    };
    let Ok(manifest) = manifest.parse::<toml::Table>() else {
        return vec![Finding::error(path, 0, "is not TOML: cargo says where")];
    };
    let below = below(name);
    let wrong = |table: &str, allowed: &BTreeSet<&str>| -> Vec<Finding> {
        let uses =
            manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
        let wrong = uses.filter(|used| is_ours(used) && !allowed.contains(used.as_str()));
        wrong
            .map(|used| Finding::error(&path, 0, format!("{table}: no arrow leads from {name} to {used}")))
            .collect()
    };
    // Tests may set up anything below the crate, not only what it uses itself.
    let mut findings = wrong("dependencies", &allowed);
    findings.extend(wrong("build-dependencies", &allowed));
    findings.extend(wrong("dev-dependencies", &below.into_iter().chain([FIXTURES]).collect()));
    findings
}

fn is_ours(name: &str) -> bool {
    name == BINARY || ARROWS.iter().any(|(from, _)| *from == name)
}

fn allowed(name: &str) -> Option<BTreeSet<&'static str>> {
    if name == BINARY {
        return Some(below(BINARY));
    }
    ARROWS.iter().find(|(from, _)| *from == name).map(|(_, to)| to.iter().copied().collect())
}

/// Every crate that an arrow or a chain of arrows leads to.
fn below(name: &str) -> BTreeSet<&'static str> {
    let top = ["api", "update", "backup", "engine", "model", "store"];
    let mut queue: Vec<&'static str> = if name == BINARY { top.to_vec() } else { direct(name).to_vec() };
    let mut found = BTreeSet::new();
    while let Some(next) = queue.pop() {
        if found.insert(next) {
            queue.extend(direct(next));
        }
    }
    found
}

fn direct(name: &str) -> &'static [&'static str] {
    ARROWS.iter().find(|(from, _)| *from == name).map_or(&[], |(_, to)| to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, manifest: &str) -> Vec<String> {
        check_manifest(name, manifest).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_only_point_down() {
        assert!(findings("api", "[dependencies]\nengine.workspace = true\nserde = \"1\"").is_empty());
        let up = findings("tensor", "[dependencies]\nkernels.workspace = true");
        assert_eq!(up, ["daemon/tensor/Cargo.toml: dependencies: no arrow leads from tensor to kernels"]);
    }

    #[test]
    fn tests_may_use_what_lies_further_below() {
        assert_eq!(findings("api", "[dependencies]\nmodel.workspace = true").len(), 1);
        assert!(findings("api", "[dev-dependencies]\nmodel.workspace = true").is_empty());
    }

    #[test]
    fn the_binary_uses_what_it_wires_and_not_xtask() {
        assert!(findings("wels", "[dependencies]\ntensor.workspace = true").is_empty());
        assert_eq!(findings("wels", "[dependencies]\nxtask.workspace = true").len(), 1);
    }

    #[test]
    fn a_new_crate_must_be_drawn() {
        assert!(findings("oracle", "")[0].contains("knows no arrows"));
    }

    #[test]
    fn no_arrow_leads_back() {
        for (name, _) in ARROWS {
            assert!(!below(name).contains(name), "{name} reaches itself");
        }
    }
}
