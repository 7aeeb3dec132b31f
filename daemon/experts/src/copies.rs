//! Copies of the model's files on several drives: who reads a record, and what happens to bytes that have changed.
//!
//! ```text
//! files     0 .. n          n .. 2n         copy by copy, in the same order
//! a read    goes to the copy that will have it soonest: bytes under way / speed of its drive
//! a failure goes to another copy; bytes that differ from what was written are written again from one where they don't
//! ```

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{error, info};
use weights::{Extent, Record};

/// Where copies of the model's files are.
#[derive(Clone, Debug)]
pub struct Copies {
    /// The files of each copy, in the order of `Weights::files`. The disk's files are these, copy after copy.
    pub files: Vec<Vec<PathBuf>>,
    /// What each copy's drive reads, in bytes a second.
    pub bytes_per_s: Vec<f64>,
}

/// Chooses among copies.
#[derive(Debug)]
pub(crate) struct Chooser {
    copies: Copies,
    /// Bytes under way, by copy.
    under_way: Vec<u64>,
    /// Records whose bytes have changed, by expert and copy: not read while there is another.
    changed: BTreeSet<(u32, usize)>,
}

impl Chooser {
    pub(crate) fn new(copies: Copies) -> Self {
        let under_way = vec![0; copies.files.len()];
        Self { copies, under_way, changed: BTreeSet::new() }
    }

    pub(crate) fn n_copies(&self) -> usize {
        self.under_way.len()
    }

    /// The copy to read an expert of so many bytes from; `except` has just failed.
    pub(crate) fn begin(&mut self, expert: u32, bytes: u64, except: Option<usize>) -> usize {
        let soonest =
            |&copy: &usize| (self.under_way[copy] + bytes) as f64 / self.copies.bytes_per_s[copy].max(1.0);
        let rank = |&copy: &usize| (Some(copy) == except, self.changed.contains(&(expert, copy)));
        let order = |a: &usize, b: &usize| rank(a).cmp(&rank(b)).then(soonest(a).total_cmp(&soonest(b)));
        let copy = (0..self.n_copies()).min_by(order).expect("there is one copy at least");
        self.under_way[copy] += bytes;
        copy
    }

    /// A read of a copy has ended, or was taken back.
    pub(crate) fn end(&mut self, copy: usize, bytes: u64) {
        self.under_way[copy] -= bytes;
    }

    /// Extents of the first copy as those of another.
    pub(crate) fn extents(&self, extents: &Arc<[Extent]>, copy: usize) -> Arc<[Extent]> {
        let n_files = self.copies.files[0].len();
        match copy {
            0 => Arc::clone(extents),
            _ => extents
                .iter()
                .map(|extent| Extent { file: extent.file + copy * n_files, ..*extent })
                .collect(),
        }
    }

    /// A copy's bytes of an expert are not those that were written.
    pub(crate) fn mark_changed(&mut self, expert: u32, copy: usize) {
        self.changed.insert((expert, copy));
    }

    /// The file that a copy of a record is in.
    pub(crate) fn path(&self, record: &Record, copy: usize) -> &Path {
        &self.copies.files[copy][record.extents[0].file]
    }

    /// The right bytes of an expert have come: writes them where they had changed. Copies that are whole again.
    pub(crate) fn repair(&mut self, expert: u32, record: &Record, bytes: &[u8]) -> usize {
        let copies = 0..self.n_copies();
        let bad: Vec<usize> = copies.filter(|&copy| self.changed.contains(&(expert, copy))).collect();
        let mut n_repaired = 0;
        for copy in bad {
            let (key, path) = (record.key, self.path(record, copy).display().to_string());
            match self.write(record, copy, bytes) {
                Ok(()) => {
                    info!(%key, path, "an expert's bytes had changed on the drive and were written again");
                    self.changed.remove(&(expert, copy));
                    n_repaired += 1;
                }
                Err(cause) => {
                    error!(%key, path, %cause, "an expert's bytes have changed on the drive and cannot be written again");
                }
            }
        }
        n_repaired
    }

    fn write(&self, record: &Record, copy: usize, bytes: &[u8]) -> io::Result<()> {
        record.extents.iter().try_for_each(|extent| {
            let file = OpenOptions::new().write(true).open(&self.copies.files[copy][extent.file])?;
            file.write_all_at(&bytes[extent.at..extent.at + extent.needed], extent.offset)?;
            file.sync_data()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser(bytes_per_s: &[f64]) -> Chooser {
        let files = vec![vec![PathBuf::from("experts.bin")]; bytes_per_s.len()];
        Chooser::new(Copies { files, bytes_per_s: bytes_per_s.to_vec() })
    }

    #[test]
    fn drives_get_reads_by_their_speed() {
        let mut chooser = chooser(&[3e9, 1e9]);
        let mut counts = [0; 2];
        (0..40).for_each(|expert| counts[chooser.begin(expert, 1 << 20, None)] += 1);
        assert_eq!(counts, [30, 10]);
    }

    #[test]
    fn a_copy_that_failed_is_the_last_choice() {
        let mut chooser = chooser(&[3e9, 1e9]);
        assert_eq!(chooser.begin(7, 1, Some(0)), 1);
        chooser.mark_changed(8, 0);
        assert_eq!(chooser.begin(8, 1, None), 1);
        assert_eq!(chooser.begin(9, 1, None), 0);
        let mut alone = self::chooser(&[1e9]);
        alone.mark_changed(1, 0);
        assert_eq!(alone.begin(1, 1, Some(0)), 0, "there is no other");
    }
}
