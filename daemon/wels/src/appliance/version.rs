//! The version of the box's system.

use std::fs;
use std::path::Path;

/// What the image calls itself; on somebody's computer, which has no image of ours, the daemon's own version.
pub(crate) fn version() -> String {
    of_image(Path::new("/usr/lib/os-release")).unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

/// `IMAGE_VERSION` of an `os-release` whose `IMAGE_ID` is ours. Source: os-release(5).
fn of_image(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    value("IMAGE_ID").filter(|id| id == "wels")?;
    value("IMAGE_VERSION")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_image_of_ours_has_a_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("os-release");
        let of = |text: &str| {
            fs::write(&path, text).unwrap();
            of_image(&path)
        };
        assert_eq!(of("ID=debian\nIMAGE_ID=\"wels\"\nIMAGE_VERSION=\"0.1.1\"\n").as_deref(), Some("0.1.1"));
        assert_eq!(of("IMAGE_ID=wels\nIMAGE_VERSION=2\n").as_deref(), Some("2"));
        assert_eq!(of("ID=debian\nIMAGE_ID=other\nIMAGE_VERSION=3\n"), None);
        assert_eq!(of("ID=debian\nVERSION_ID=13\n"), None);
        assert_eq!(of_image(&dir.path().join("absent")), None);
    }
}
