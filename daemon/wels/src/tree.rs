//! Small files of the system's trees (`/sys`, `/proc`), read with limits: what isn't there, or is nonsense, is nothing.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a file that are read: `/proc/cpuinfo` of a machine with hundreds of processors is the longest.
const BYTES_MAX: u64 = 4 << 20;
/// Entries of a folder that are looked at.
const ENTRIES_MAX: usize = 4096;

/// A file's text.
pub(crate) fn text(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

/// A file's text, unless it is empty.
pub(crate) fn words(path: &Path) -> Option<String> {
    text(path).filter(|text| !text.is_empty())
}

/// The number that a file holds.
pub(crate) fn number(path: &Path) -> Option<i64> {
    text(path)?.parse().ok()
}

/// What lies in a folder and is called as wanted, in the order of names; nothing of a folder that isn't there.
pub(crate) fn entries(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.take(ENTRIES_MAX).filter_map(Result::ok);
    let wanted = entries.filter(|entry| entry.file_name().to_str().is_some_and(&is_wanted));
    let mut paths: Vec<_> = wanted.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Whether a name is `prefix` and a number: `cpu12`.
pub(crate) fn is_numbered(name: &str, prefix: &str) -> bool {
    let digits = name.strip_prefix(prefix).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
