//! Where Debian's packages come from: wherever this machine's apt takes them, in the release that the image is made of.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result, bail};

use crate::process::Tool;
use crate::workspace::Workspace;

/// The image's release of Debian.
pub(super) const RELEASE: &str = "trixie";
/// Signs all of Debian's releases.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const FORMAT: &str = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)";

/// An entry as apt reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    uri: String,
    suite: String,
    component: String,
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, suite, component } = self;
        writeln!(
            out,
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {component}\nSigned-By: {KEYRING}\n"
        )
    }
}

/// This machine's own sources of Debian, turned to the image's release.
///
/// # Errors
/// apt has none.
pub(super) fn sources(workspace: &Workspace) -> Result<Vec<Source>> {
    let os = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let own = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    let list =
        Tool::new(workspace, "apt-get").args(["indextargets", "--format", FORMAT, "Created-By: Packages"]);
    let list = list.remedy("the image is built on Debian: apt has to work here").output()?;
    let sources = of_targets(&list, own);
    if sources.is_empty() {
        bail!(
            "apt knows no source of Debian's {own} main; add one to /etc/apt/sources.list, run apt-get update, try again"
        );
    }
    Ok(sources)
}

/// From apt's list: those of Debian, for this machine's release (`bookworm`, `bookworm-security`) or already for the image's.
fn of_targets(list: &str, own: &str) -> Vec<Source> {
    let entries = list.lines().filter_map(|line| {
        let mut fields = line.split('|');
        let (origin, uri, suite, component) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let part = [own, RELEASE].iter().find_map(|name| suite.strip_prefix(name))?;
        let is_ours =
            origin == "Debian" && component == "main" && matches!(part, "" | "-updates" | "-security");
        let suite = format!("{RELEASE}{part}");
        is_ours.then(|| Source { uri: uri.to_owned(), suite, component: component.to_owned() })
    });
    entries.collect::<BTreeSet<_>>().into_iter().collect()
}

/// How this machine's apt gets through to its mirrors, as configuration.
pub(super) fn proxies(workspace: &Workspace) -> Result<String> {
    let all = Tool::new(workspace, "apt-config").arg("dump").output()?;
    let wanted = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["acquire::http::", "acquire::https::", "acquire::retries"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    Ok(all.lines().filter(wanted).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_move_to_the_images_release() {
        let list = "Debian|http://mirror.example/debian/|bookworm|main\n\
                    Debian|http://mirror.example/debian/|bookworm|main\n\
                    Debian|http://mirror.example/debian-security/|bookworm-security|main\n\
                    Debian|http://mirror.example/debian/|bookworm-backports|main\n\
                    Debian|http://mirror.example/debian/|bookworm|contrib\n\
                    Docker|http://other.example/|bookworm|stable\n";
        let found: Vec<_> =
            of_targets(list, "bookworm").into_iter().map(|source| (source.uri, source.suite)).collect();
        let mirror = |path: &str, suite: &str| (format!("http://mirror.example/{path}/"), suite.to_owned());
        assert_eq!(found, [mirror("debian-security", "trixie-security"), mirror("debian", "trixie")]);
    }
}
