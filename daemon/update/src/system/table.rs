//! The box's own partition table: read from whichever copy is whole, and changed so that one copy is whole at any moment.
//!
//! ```text
//! sector   1        2 … 33     usable …                   … n-1
//!          header   entries    wels-esp, wels-root-a, …   entries, header
//!          first copy                                     second copy
//! ```
//!
//! Firmware, kernel (with `gpt` on its command line) and udev take the first copy where its sums are right, else the second.
//! So the copy that is damaged is written first, otherwise the second, then the other one, with a sync after each.
//!
//! Source: UEFI 2.10, chapter 5.3.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::Problem;
use crate::gpt::{self, SECTOR, is_labelled, read_copy, u32_at, u64_at};

/// Where a partition lies, in bytes, and how it is called in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) range: Range<u64>,
    /// As it lies on the disk.
    pub(super) guid: [u8; 16],
    /// Number of its entry.
    entry: usize,
}

impl Part {
    pub(super) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Where a copy of the table lies, in sectors.
#[derive(Clone, Copy, Debug)]
struct Place {
    header: u64,
    entries: u64,
}

/// A table that was read from one of its copies.
#[derive(Debug)]
pub(super) struct Table {
    header: [u8; SECTOR as usize],
    entries: Vec<u8>,
    entry_bytes: usize,
    /// Sectors of partitions.
    usable: Range<u64>,
    places: [Place; 2],
    /// The first copy's sums are right.
    is_first_whole: bool,
}

impl Table {
    /// Reads the table of a disk of `bytes`.
    ///
    /// # Errors
    /// Neither copy can be believed.
    pub(super) fn read(read_at: &gpt::ReadAt<'_>, bytes: u64) -> Result<Self, gpt::Problem> {
        let sectors = bytes / SECTOR;
        if sectors < 4 {
            return Err(gpt::Problem::Damaged("too small for one"));
        }
        let first = read_copy(read_at, sectors, 1);
        let is_first_whole = first.is_ok();
        let copy = match first {
            Err(gpt::Problem::Damaged(_)) => read_copy(read_at, sectors, sectors - 1).or(first)?,
            first => first?,
        };
        let (own, other) = (u64_at(&copy.header, 24), u64_at(&copy.header, 32));
        let n_sectors = (copy.entries.len() as u64).div_ceil(SECTOR);
        let second = if is_first_whole { other } else { own };
        let entries = if is_first_whole { u64_at(&copy.header, 72) } else { 2 };
        let places = [
            Place { header: 1, entries },
            Place { header: second, entries: second.saturating_sub(n_sectors) },
        ];
        let usable = u64_at(&copy.header, 40)..u64_at(&copy.header, 48).saturating_add(1);
        let is_sound = second < sectors
            && places[0].entries >= 2
            && places[0].entries + n_sectors <= usable.start
            && usable.start < usable.end
            && usable.end <= places[1].entries;
        if !is_sound {
            return Err(gpt::Problem::Damaged("its parts overlap"));
        }
        let gpt::Copy { header, entries, entry_bytes } = copy;
        Ok(Self { header, entries, entry_bytes, usable, places, is_first_whole })
    }

    fn entry(&self, i: usize) -> &[u8] {
        &self.entries[i * self.entry_bytes..][..self.entry_bytes]
    }

    /// First sector of an entry's partition, and the one behind its last.
    fn sectors(&self, i: usize) -> Range<u64> {
        u64_at(self.entry(i), 32)..u64_at(self.entry(i), 40).saturating_add(1)
    }

    /// The one partition of this label.
    ///
    /// # Errors
    /// There is none, there are several, or it lies where another one does.
    pub(super) fn part(&self, label: &'static str) -> Result<Part, Problem> {
        let n = self.entries.len() / self.entry_bytes;
        let ours: Vec<usize> = (0..n).filter(|&i| is_labelled(self.entry(i), label)).collect();
        let [entry] = ours[..] else { return Err(Problem::Partitions { label, n: ours.len() }) };
        let own = self.sectors(entry);
        let is_used = |i: &usize| *i != entry && self.entry(*i)[..16] != [0; 16];
        let is_shared = (0..n).filter(is_used).map(|i| self.sectors(i)).any(|other| overlap(&own, &other));
        if own.start >= own.end || own.start < self.usable.start || own.end > self.usable.end || is_shared {
            return Err(Problem::Table(gpt::Problem::Damaged("a partition is out of bounds")));
        }
        let guid = self.entry(entry)[16..32].try_into().expect("16 bytes");
        Ok(Part { range: own.start * SECTOR..own.end * SECTOR, guid, entry })
    }

    /// Calls a partition otherwise, in memory.
    pub(super) fn rename(&mut self, part: &Part, guid: [u8; 16]) {
        let at = part.entry * self.entry_bytes + 16;
        self.entries[at..at + 16].copy_from_slice(&guid);
    }

    /// Writes both copies, one after the other.
    pub(super) fn write(&self, disk: &File) -> io::Result<()> {
        let order = if self.is_first_whole { [1, 0] } else { [0, 1] };
        for which in order {
            let place = self.places[which];
            disk.write_all_at(&self.entries, place.entries * SECTOR)?;
            disk.write_all_at(&self.header(which), place.header * SECTOR)?;
            disk.sync_all()?;
        }
        Ok(())
    }

    /// The header of a copy, its sums right.
    fn header(&self, which: usize) -> [u8; SECTOR as usize] {
        let (own, other) = (self.places[which], self.places[1 - which]);
        let mut header = self.header;
        header[24..32].copy_from_slice(&own.header.to_le_bytes());
        header[32..40].copy_from_slice(&other.header.to_le_bytes());
        header[72..80].copy_from_slice(&own.entries.to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&self.entries).to_le_bytes());
        header[16..20].fill(0);
        // Between 92 and 512: it was read.
        let crc = crc32fast::hash(&header[..u32_at(&header, 12) as usize]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
