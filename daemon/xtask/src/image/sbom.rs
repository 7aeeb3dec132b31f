//! What the image is made of, for whoever has to know: CycloneDX, beside the image.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::mirrors::RELEASE;
use super::{Files, lock};
use crate::console;
use crate::process::Tool;
use crate::workspace::Workspace;

/// Writes Debian's packages, the daemon's crates and what the page is made of.
pub(super) fn write(workspace: &Workspace, files: &Files) -> Result<()> {
    let mut components = debian(files)?;
    components.extend(crates(workspace)?);
    components.extend(npm(workspace)?);
    let n = components.len();
    let sbom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": { "type": "operating-system", "name": "wels", "version": files.version } },
        "components": components,
    });
    let path = files.kind("cdx.json");
    let text = serde_json::to_string_pretty(&sbom)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    console::note(format_args!("{n} components in {}", workspace.shown(&path)));
    Ok(())
}

fn component(name: &str, version: &str, purl: String, licence: Option<&str>) -> Value {
    let mut component = json!({ "type": "library", "name": name, "version": version, "purl": purl });
    if let Some(licence) = licence {
        component["licenses"] = json!([{ "expression": licence }]);
    }
    component
}

fn debian(files: &Files) -> Result<Vec<Value>> {
    let of = |package: lock::Package| {
        let lock::Package { name, version, architecture } = package;
        // As package URLs want it: these two may stand in a version of Debian's and not in theirs.
        let escaped = version.replace('+', "%2B").replace(':', "%3A");
        let purl = format!("pkg:deb/debian/{name}@{escaped}?arch={architecture}&distro={RELEASE}");
        component(&name, &version, purl, None)
    };
    Ok(lock::installed(files)?.into_iter().map(of).collect())
}

/// The crates that are in the binary: those that its dependencies reach without tests and build scripts.
fn crates(workspace: &Workspace) -> Result<Vec<Value>> {
    let args = ["tree", "--package", "wels", "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}"];
    let list = Tool::cargo(workspace).args(args).args(["--target", "x86_64-unknown-linux-gnu"]).output()?;
    Ok(of_tree(&list))
}

/// `serde v1.0.1 (proc-macro)|MIT OR Apache-2.0 (*)` is a crate of that version and licence.
fn of_tree(list: &str) -> Vec<Value> {
    let crates: BTreeSet<_> = list
        .lines()
        .filter_map(|line| {
            let (package, licence) = line.split_once('|')?;
            let mut words = package.split_whitespace();
            let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
            let is_ours = words.next().is_some_and(|place| place.starts_with("(/"));
            let licence = licence.trim_end_matches(" (*)").replace('/', " OR ");
            (!is_ours).then(|| (name.to_owned(), version.to_owned(), licence))
        })
        .collect();
    let of = |(name, version, licence): (String, String, String)| {
        component(
            &name,
            &version,
            format!("pkg:cargo/{name}@{version}"),
            Some(licence.trim()).filter(|text| !text.is_empty()),
        )
    };
    crates.into_iter().map(of).collect()
}

/// The page's packages, tools that build it left out.
fn npm(workspace: &Workspace) -> Result<Vec<Value>> {
    let path = workspace.web_ui().join("package-lock.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Value =
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let packages = lock["packages"].as_object().into_iter().flatten();
    let of = |(path, package): (&String, &Value)| {
        let name = path.rsplit_once("node_modules/")?.1;
        let (version, is_tool) =
            (package["version"].as_str()?, package["dev"] == true || package["optional"] == true);
        let purl = format!("pkg:npm/{}@{version}", name.replace('@', "%40"));
        (!is_tool).then(|| component(name, version, purl, package["license"].as_str()))
    };
    Ok(packages.filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_the_tree_are_named_once_and_ours_not_at_all() {
        let list = "wels v0.1.0 (/src/daemon/wels)|Apache-2.0 OR MIT\nserde v1.0.2|MIT/Apache-2.0\n\
                    serde_derive v1.0.2 (proc-macro)|MIT\nserde v1.0.2|MIT/Apache-2.0 (*)\n";
        let found = of_tree(list);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0]["purl"], "pkg:cargo/serde@1.0.2");
        assert_eq!(found[0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
