//! Why the box is not what it was to become, if it isn't: written by `wels-fallback.service`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

/// The file in the state folder.
const FILE: &str = "fallback.txt";
/// Bytes of a reason that is shown.
const REASON_MAX: u64 = 4096;

/// A version of the system that was not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FellBack {
    pub(crate) version: String,
    pub(crate) reason: String,
}

/// The last one; `None` where none was.
pub(crate) fn fell_back(state: &Path) -> Option<FellBack> {
    let mut text = Vec::new();
    File::open(state.join(FILE)).ok()?.take(REASON_MAX).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let version = text.lines().find_map(|line| line.strip_prefix("version "))?.to_owned();
    let reason = text.lines().rev().find(|line| !line.trim().is_empty())?.to_owned();
    Some(FellBack { version, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_fallback_is_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fell_back(dir.path()), None);
        std::fs::write(dir.path().join(FILE), "version 3\nboot indeterminate\nerror: no store\n\n").unwrap();
        let found = fell_back(dir.path()).unwrap();
        assert_eq!((found.version.as_str(), found.reason.as_str()), ("3", "error: no store"));
    }
}
