//! The boot partition as it is mounted: which versions are on it, how they stand, and which one the boot loader takes next.
//!
//! ```text
//! EFI/Linux/wels_0.2.0+3.efi       new: three boots to prove itself
//! EFI/Linux/wels_0.2.0+2-1.efi     one of them taken, by the loader, before it starts the version
//! EFI/Linux/wels_0.2.0.efi         well: systemd-bless-boot renamed it, once boot-complete.target was reached
//! EFI/Linux/wels_0.2.0+0-3.efi     not well, three times
//! EFI/Linux/wels_0.1.0+0-1.efi     set aside by an administrator who went to the other version
//! EFI/Linux/wels_0.2.0.part        being copied: the loader passes over it
//! ```
//!
//! The loader takes the first of: versions with boots left or without a counter before those with none left; then the newest;
//! then, of one version, the one with more boots left. So a version comes next either because it is the newest, or because
//! all newer ones have none left.
//!
//! Source: UAPI.1 Boot Loader Specification, "Boot counting" and "Sorting"; Automatic Boot Assessment, systemd.io.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{BootFacts, Problem, RootHash, SystemVersion, boot_file};
use crate::{Error, files};

/// Where boot files lie on the partition.
const FOLDER: &str = "EFI/Linux";
const PREFIX: &str = "wels_";
const SUFFIX: &str = ".efi";
/// Behind a boot file's name while it is copied.
const PART: &str = ".part";
/// Boots that a version may take to prove itself.
pub(super) const TRIES: u32 = 3;
/// Files in the folder that are looked at.
const FILES_MAX: usize = 256;

/// A boot file's counter: boots left, boots taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counter {
    pub(super) left: u32,
    pub(super) done: u32,
}

impl Counter {
    /// A version that is to prove itself.
    pub(super) const FRESH: Self = Self { left: TRIES, done: 0 };
    /// A version that is not to be taken while there is another.
    pub(super) const ASIDE: Self = Self { left: 0, done: 1 };

    /// Another counter that means the same, for where a cut cord left the name to an earlier renaming.
    fn twin(self) -> Self {
        Self { done: self.done ^ 1, ..self }
    }
}

/// How a version stands with the boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It was well, once.
    Good,
    /// It has boots left to prove itself.
    Trial,
    /// It took all of its boots, and was not well.
    Failed,
    /// An administrator went to another version.
    Aside,
}

/// A version that the boot partition has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BootFile {
    pub(super) version: SystemVersion,
    pub(super) counter: Option<Counter>,
    pub(super) path: PathBuf,
    /// `None` where it can't be read.
    pub(super) facts: Option<BootFacts>,
}

impl BootFile {
    pub(super) fn standing(&self) -> Standing {
        match self.counter {
            None => Standing::Good,
            Some(Counter { left: 1.., .. }) => Standing::Trial,
            Some(Counter { left: 0, done: 0 | 1 }) => Standing::Aside,
            Some(_) => Standing::Failed,
        }
    }

    pub(super) fn boots(&self, hash: &RootHash) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.root_hash == *hash)
    }

    /// What the loader sorts by: the least comes next.
    fn order(&self) -> impl Ord + use<> {
        let left = self.counter.map_or(u32::MAX, |counter| counter.left);
        let done = self.counter.map_or(0, |counter| counter.done);
        (left == 0, Reverse(self.version.clone()), Reverse(left), done)
    }
}

/// The boot partition, mounted.
#[derive(Clone, Debug)]
pub(super) struct Esp {
    folder: PathBuf,
}

impl Esp {
    pub(super) fn new(mounted: &Path) -> Self {
        Self { folder: mounted.join(FOLDER) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its versions, in the order in which the loader takes them.
    pub(super) fn boot_files(&self) -> Result<Vec<BootFile>, Error> {
        let mut found = Vec::new();
        for path in self.paths()? {
            let Some((version, counter)) = path.file_name().and_then(parse) else { continue };
            let facts = File::open(&path).ok().and_then(|file| boot_file::read(&file).ok());
            found.push(BootFile { version, counter, path, facts });
        }
        found.sort_by_key(BootFile::order);
        Ok(found)
    }

    /// Copies that were not finished.
    pub(super) fn parts(&self) -> Result<Vec<PathBuf>, Error> {
        let is_part = |path: &PathBuf| {
            path.file_name()
                .and_then(OsStr::to_str)
                .is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(PART))
        };
        Ok(self.paths()?.into_iter().filter(is_part).collect())
    }

    fn paths(&self) -> Result<Vec<PathBuf>, Error> {
        let list = std::fs::read_dir(&self.folder).map_err(Error::io(&self.folder, "list"))?;
        let paths =
            list.take(FILES_MAX).map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>();
        paths.map_err(Error::io(&self.folder, "list"))
    }

    /// The boot files of the version that runs, and the others, each in the loader's order. Of one version there may be two
    /// names where the power went while it was renamed; which of them owns the bytes nobody knows, so both stay.
    ///
    /// # Errors
    /// Nothing there starts what runs: then nothing may be removed.
    pub(super) fn split(&self, running: &RootHash) -> Result<(Vec<BootFile>, Vec<BootFile>), Error> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.boot_files()?.into_iter().partition(|file| file.boots(running));
        if own.is_empty() { Err(Problem::NoBootFile.at(&self.folder)) } else { Ok((own, others)) }
    }

    /// Where a version's boot file lies while it is copied.
    pub(super) fn part(&self, version: &SystemVersion) -> PathBuf {
        self.folder.join(format!("{PREFIX}{version}{PART}"))
    }

    /// Gives a file the name by which the loader knows version and counter.
    pub(super) fn name(
        &self,
        file: &Path,
        version: &SystemVersion,
        counter: Option<Counter>,
    ) -> Result<(), Error> {
        let names =
            [counter, counter.map(Counter::twin)].map(|counter| self.folder.join(name(version, counter)));
        if names.iter().any(|to| to == file) {
            return Ok(());
        }
        // Not over another name: the bytes behind that would go, and may be the same.
        match names.iter().find(|to| !to.exists()) {
            Some(to) => files::rename(file, to),
            None => Err(Error::Exists { path: names[0].clone() }),
        }
    }

    pub(super) fn remove(&self, paths: impl IntoIterator<Item = PathBuf>) -> Result<(), Error> {
        paths.into_iter().try_for_each(|path| files::remove(&path))?;
        files::sync_folder(&self.folder)
    }
}

fn name(version: &SystemVersion, counter: Option<Counter>) -> String {
    let counter = match counter {
        None => String::new(),
        Some(Counter { left, done: 0 }) => format!("+{left}"),
        Some(Counter { left, done }) => format!("+{left}-{done}"),
    };
    format!("{PREFIX}{version}{counter}{SUFFIX}")
}

/// Version and counter in a boot file's name; `None` where it is none of ours.
fn parse(name: &OsStr) -> Option<(SystemVersion, Option<Counter>)> {
    let stem = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let Some((version, counter)) = stem.split_once('+') else { return Some((stem.parse().ok()?, None)) };
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?;
    Some((version.parse().ok()?, Some(Counter { left: number(left)?, done: number(done)? })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> BootFile {
        let (version, counter) = parse(name.as_ref()).unwrap();
        BootFile { version, counter, path: name.into(), facts: None }
    }

    #[test]
    fn a_name_says_version_and_counter_and_is_written_the_same() {
        for (text, standing) in [
            ("wels_0.2.0.efi", Standing::Good),
            ("wels_0.2.0+3.efi", Standing::Trial),
            ("wels_0.2.0+1-2.efi", Standing::Trial),
            ("wels_0.2.0+0-3.efi", Standing::Failed),
            ("wels_0.2.0+0-1.efi", Standing::Aside),
            ("wels_0.2.0+0.efi", Standing::Aside),
        ] {
            let file = file(text);
            assert_eq!(file.standing(), standing, "{text}");
            assert_eq!(name(&file.version, file.counter), text);
        }
        for other in
            ["wels_0.2.0.part", "linux.efi", "wels_.efi", "wels_0.2.0+x.efi", "wels_0.2.0+1-.efi", ".."]
        {
            assert_eq!(parse(other.as_ref()), None, "{other}");
        }
    }

    #[test]
    fn the_loader_takes_the_newest_that_has_boots_left() {
        let mut files = [
            "wels_0.3.0+0-3.efi",
            "wels_0.1.0.efi",
            "wels_0.2.0+2-1.efi",
            "wels_0.2.0.efi",
            "wels_0.10.0+0-1.efi",
        ]
        .map(file);
        files.sort_by_key(BootFile::order);
        let names = files.each_ref().map(|file| file.path.to_str().unwrap());
        let want = [
            "wels_0.2.0.efi",
            "wels_0.2.0+2-1.efi",
            "wels_0.1.0.efi",
            "wels_0.10.0+0-1.efi",
            "wels_0.3.0+0-3.efi",
        ];
        assert_eq!(names, want);
    }
}
