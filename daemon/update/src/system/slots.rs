//! The two slots of a disk, and which of them runs.
//!
//! A slot is two partitions: the system and its hashes (dm-verity). Which version lies in it, their ids in the table say: the
//! first and last 16 bytes of the root hash that the version's boot file has on its command line. By these ids the initrd
//! finds them, so a boot file starts its own slot or none.
//!
//! Source: systemd-veritysetup-generator(8), `roothash=`.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Problem;
use super::table::{Part, Table};
use crate::{Error, hash, stream};

/// Labels of a slot's partitions: system, hashes.
const LABELS: [(char, [&str; 2]); 2] =
    [('a', ["wels-root-a", "wels-root-a-verity"]), ('b', ["wels-root-b", "wels-root-b-verity"])];

/// What dm-verity checks a whole system against, and so which version it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash([u8; 32]);

impl RootHash {
    /// The hash of 64 hexadecimal digits in lower case.
    pub fn from_hex(text: &str) -> Option<Self> {
        hash::from_hex(text).map(Self)
    }

    /// The one on a kernel's command line, given once; `/proc/cmdline` has that of the version that runs.
    pub fn from_cmdline(cmdline: &str) -> Option<Self> {
        let mut found = cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix("roothash="));
        let hash = Self::from_hex(found.next()?)?;
        found.next().is_none().then_some(hash)
    }

    /// The ids of the system's partition and of its hashes', as they lie on the disk.
    pub(super) fn guids(&self) -> [[u8; 16]; 2] {
        [0, 16].map(|at| {
            let mut guid: [u8; 16] = self.0[at..at + 16].try_into().expect("16 bytes");
            // A GUID's first three fields lie the other way round.
            guid[..4].reverse();
            guid[4..6].reverse();
            guid[6..8].reverse();
            guid
        })
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::to_hex(&self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RootHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RootHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hash::deserialize_hex(deserializer).map(Self)
    }
}

/// A slot's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// `a` or `b`.
    pub name: char,
    pub(super) system: Part,
    pub(super) hashes: Part,
}

impl Slot {
    fn read(table: &Table, name: char, labels: [&'static str; 2]) -> Result<Self, Problem> {
        Ok(Self { name, system: table.part(labels[0])?, hashes: table.part(labels[1])? })
    }

    /// Whether the table says that this version lies in it.
    pub fn holds(&self, hash: &RootHash) -> bool {
        [self.system.guid, self.hashes.guid] == hash.guids()
    }
}

/// Which slot runs, and which may be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Never written to.
    pub running: Slot,
    /// What it holds may go.
    pub idle: Slot,
}

/// The box's whole drive, or an image of one.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    pub(super) file: File,
    table: Table,
}

impl Disk {
    /// Opens a drive for reading and writing, and reads its table.
    ///
    /// # Errors
    /// It can't be opened, or neither copy of its table can be believed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open(path).map_err(Error::io(path, "open"))?;
        let table = read_table(path, &file)?;
        Ok(Self { path: path.to_owned(), file, table })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its slots, told apart by the root hash of the version that runs.
    ///
    /// # Errors
    /// Partitions are missing; or not exactly one slot holds what runs: then nobody knows which one may be written to.
    pub fn slots(&self, running: &RootHash) -> Result<Slots, Error> {
        let [a, b] = LABELS.map(|(name, labels)| Slot::read(&self.table, name, labels));
        let [a, b] = [a.map_err(|problem| self.error(problem))?, b.map_err(|problem| self.error(problem))?];
        match (a.holds(running), b.holds(running)) {
            (true, false) => Ok(Slots { running: a, idle: b }),
            (false, true) => Ok(Slots { running: b, idle: a }),
            (is_a, _) => Err(self.error(Problem::Running { n: if is_a { 2 } else { 0 } })),
        }
    }

    /// From now on the table says that a slot holds this version.
    pub(super) fn name_slot(&mut self, slot: &Slot, hash: &RootHash) -> Result<(), Error> {
        for (part, guid) in [&slot.system, &slot.hashes].into_iter().zip(hash.guids()) {
            self.table.rename(part, guid);
        }
        self.table.write(&self.file).map_err(Error::io(&self.path, "write"))?;
        self.forget_cached();
        self.table = read_table(&self.path, &self.file)?;
        Ok(())
    }

    /// What the system remembers is not what is on the drive. A hint only.
    pub(super) fn forget_cached(&self) {
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    pub(super) fn error(&self, problem: Problem) -> Error {
        problem.at(&self.path)
    }
}

fn read_table(path: &Path, file: &File) -> Result<Table, Error> {
    let bytes = stream::device_bytes(file).map_err(Error::io(path, "read"))?;
    let table = Table::read(&|buffer, at| file.read_exact_at(buffer, at), bytes);
    table.map_err(|problem| Problem::Table(problem).at(path))
}
