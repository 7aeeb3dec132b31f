//! How backups are called, and which lie on a stick.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::Error;

/// Backups listed of a folder.
const FOUND_MAX: usize = 100;
/// Names looked at in a folder.
const NAMES_MAX: usize = 10_000;
/// Backups of one day.
const OF_A_DAY_MAX: u32 = 1000;

const PREFIX: &str = "wels-backup-";
const SUFFIX: &str = ".age";

/// A file that calls itself a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, unix ms, as its file system says.
    pub created_ms: u64,
}

/// A name for a backup made at `made_ms` that is not taken in `folder`: `wels-backup-2026-05-31.age`, or with a number behind
/// the date.
pub fn file_name(folder: &Path, made_ms: u64) -> String {
    let date = date(made_ms);
    let name = |number: u32| match number {
        1 => format!("{PREFIX}{date}{SUFFIX}"),
        number => format!("{PREFIX}{date}-{number}{SUFFIX}"),
    };
    // The last one may be taken: then making it says so.
    let free = (1..OF_A_DAY_MAX).find(|&number| !folder.join(name(number)).exists());
    name(free.unwrap_or(OF_A_DAY_MAX))
}

/// The backups in a folder, the newest first.
///
/// # Errors
/// The folder can't be read.
pub fn found(folder: &Path) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))?.take(NAMES_MAX) {
        let entry = entry.map_err(Error::io(folder, "read"))?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        if !is_name(&file) {
            continue;
        }
        // Never through a link: what a stick points to is not on it.
        let metadata = entry.metadata().map_err(Error::io(&entry.path(), "look at"))?;
        if metadata.is_file() {
            let modified = metadata.modified().unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH);
            let created_ms = modified.map_or(0, |since| since.as_millis() as u64);
            found.push(Found { file, bytes: metadata.len(), created_ms });
        }
    }
    found.sort_by(|a, b| (b.created_ms, &b.file).cmp(&(a.created_ms, &a.file)));
    found.truncate(FOUND_MAX);
    Ok(found)
}

/// What [`file_name`] makes, and what people make of it: no other letters than those of plain names.
fn is_name(name: &str) -> bool {
    let middle = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_. ()".contains(c);
    middle.is_some_and(|middle| middle.chars().all(plain)) && name.len() < 100
}

/// For people: `2026-05-31 14:02 UTC`.
pub fn time(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    format!("{} {:02}:{:02} UTC", date(unix_ms), minutes / 60 % 24, minutes % 60)
}

/// The day in UTC.
fn date(unix_ms: u64) -> String {
    // Years begin in March, so that a leap day is a year's last; 400 years have 146,097 days.
    let days = unix_ms / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let days = [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_604, "2026-05-31")];
        let more = [(20_818, "2026-12-31"), (47_541, "2100-03-01")];
        for (day, want) in days.into_iter().chain(more) {
            assert_eq!(time(day * 86_400_000 + 86_399_999), format!("{want} 23:59 UTC"));
        }
    }

    #[test]
    fn the_second_of_a_day_has_a_number_and_all_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for want in ["wels-backup-1970-01-01.age", "wels-backup-1970-01-01-2.age"] {
            let name = file_name(folder.path(), 0);
            assert_eq!(name, want);
            fs::write(folder.path().join(&name), name).unwrap();
        }
        for other in ["wels-backup-.txt", "notes.age", "wels-backup-\u{202e}.age", "wels-backup-x.age.part"] {
            fs::write(folder.path().join(other), "").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("wels-backup-link.age")).unwrap();
        fs::create_dir(folder.path().join("wels-backup-folder.age")).unwrap();
        let mut found: Vec<String> =
            found(folder.path()).unwrap().into_iter().map(|found| found.file).collect();
        found.sort();
        assert_eq!(found, ["wels-backup-1970-01-01-2.age", "wels-backup-1970-01-01.age"]);
    }
}
