//! Paths of a bundle's files: plain names, at most one folder deep, no two that any file system takes for one.

use std::collections::HashSet;

use crate::install::BUNDLE_FILES;

/// Characters of a path's part.
const PART_CHARS_MAX: usize = 100;
/// A folder and a name.
const PARTS_MAX: usize = 2;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Absolute, `..`, hidden, or with characters that some file system or terminal takes for something else.
    #[error(
        "it must be made of letters, digits, '.', '_' and '-', start with a letter or digit, and be at most one folder deep"
    )]
    NotPlain,
    /// Names that differ in case only included.
    #[error("it occurs twice, or once in another case")]
    Twice,
    /// A file cannot be a folder too.
    #[error("it is a folder elsewhere in the list")]
    IsFolder,
    /// The installer keeps its own files there.
    #[error("the name is taken by the installer")]
    Reserved,
}

/// Checks all paths of a bundle; the first that is refused comes back.
pub(crate) fn check<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Result<(), (&'a str, PathProblem)> {
    let mut files = HashSet::new();
    let mut folders = HashSet::new();
    for path in paths.clone() {
        check_one(path).map_err(|problem| (path, problem))?;
        if !files.insert(path.to_ascii_lowercase()) {
            return Err((path, PathProblem::Twice));
        }
        if let Some((folder, _)) = path.split_once('/') {
            let differs = |known: &&str| known.eq_ignore_ascii_case(folder) && *known != folder;
            if folders.iter().any(differs) {
                return Err((path, PathProblem::Twice));
            }
            folders.insert(folder);
        }
    }
    let is_folder = |path: &&str| folders.iter().any(|folder| folder.eq_ignore_ascii_case(path));
    paths.clone().find(is_folder).map_or(Ok(()), |path| Err((path, PathProblem::IsFolder)))
}

fn check_one(path: &str) -> Result<(), PathProblem> {
    let parts: Vec<_> = path.split('/').take(PARTS_MAX + 1).collect();
    if parts.len() > PARTS_MAX || !parts.iter().all(|part| is_plain(part)) {
        return Err(PathProblem::NotPlain);
    }
    if BUNDLE_FILES.iter().any(|taken| taken.eq_ignore_ascii_case(path)) {
        return Err(PathProblem::Reserved);
    }
    Ok(())
}

fn is_plain(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.len() <= PART_CHARS_MAX
        && !part.ends_with('.')
        && part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(paths: &[&str]) -> Option<PathProblem> {
        check(paths.iter().copied()).err().map(|(_, problem)| problem)
    }

    #[test]
    fn plain_names_are_taken_one_folder_deep() {
        assert_eq!(problem(&["pack.json", "dense.bin", "EFI/wels_3+3.efi", "EFI/other"]), None);
    }

    #[test]
    fn paths_that_climb_or_hide_are_refused() {
        let long = "x".repeat(101);
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "a/",
            "/a",
            "a//b",
            "a/b/c",
            ".hidden",
            "a\\b",
            "a\0",
            "a b",
            "a\nb",
            "C:",
            "名字",
            "a/.b",
            "-rf",
            "a.",
            &long,
        ] {
            assert_eq!(problem(&[path]), Some(PathProblem::NotPlain), "{path:?}");
        }
    }

    #[test]
    fn two_names_for_one_file_are_refused() {
        assert_eq!(problem(&["a", "a"]), Some(PathProblem::Twice));
        assert_eq!(problem(&["Dense.bin", "dense.BIN"]), Some(PathProblem::Twice));
        assert_eq!(problem(&["a/x", "A/y"]), Some(PathProblem::Twice));
        assert_eq!(problem(&["a/x", "A"]), Some(PathProblem::IsFolder));
        for taken in BUNDLE_FILES {
            assert_eq!(problem(&[taken]), Some(PathProblem::Reserved));
        }
    }
}
