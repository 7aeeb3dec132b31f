//! The README and the map of the daemon name every crate.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Finding, Source};

const PAGES: &[&str] = &["README.md", "daemon/ARCHITECTURE.md"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let crates: BTreeSet<_> = sources.iter().filter_map(|source| crate_of(&source.path)).collect();
    PAGES.iter().flat_map(|page| check_page(page, sources, &crates)).collect()
}

/// `tensor` for `daemon/tensor/Cargo.toml`.
fn crate_of(path: &Path) -> Option<&str> {
    let mut parts = path.iter().map(|part| part.to_str());
    match (parts.next()??, parts.next()??, parts.next()??, parts.next()) {
        ("daemon", name, "Cargo.toml", None) => Some(name),
        _ => None,
    }
}

fn check_page(page: &str, sources: &[Source], crates: &BTreeSet<&str>) -> Vec<Finding> {
    let Some(source) = sources.iter().find(|source| source.path == Path::new(page)) else {
        return vec![Finding::error(page, 0, "is missing")];
    };
    let words: BTreeSet<_> =
        source.text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').collect();
    let unnamed = crates.iter().filter(|name| !words.contains(**name));
    unnamed.map(|name| Finding::error(page, 0, format!("does not name the crate {name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_forgets_a_crate_is_found() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        let sources = [
            source("daemon/tensor/Cargo.toml", ""),
            source("README.md", "`daemon/tensor`: types"),
            source("daemon/ARCHITECTURE.md", "no word of it"),
        ];
        let found: Vec<_> = check(&sources).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["daemon/ARCHITECTURE.md: does not name the crate tensor"]);
    }
}
