//! Which chunks of a copy are on the disk: appended after their data was synced, so that what it says holds after a power
//! cut. A torn end is cut off.
//!
//! ```text
//! record: [ chunk number, its top bit set where the chunk turned out wrong: u32 ] [ CRC-32 of number and bundle: u32 ]
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::manifest::CHUNKS_MAX;
use crate::{Error, Sha256};

const RECORD_BYTES: usize = 8;
/// Marks a chunk that is to be copied again.
const WRONG: u32 = 1 << 31;
/// Every chunk a few times over.
const BYTES_MAX: u64 = 8 * (CHUNKS_MAX * RECORD_BYTES) as u64;

/// A journal, open for more.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    id: Sha256,
    /// Chunks that are on the disk.
    pub(super) done: Vec<bool>,
    /// Records to be written.
    pending: Vec<u8>,
}

impl Journal {
    /// Opens or makes the journal of a bundle with `n_chunks`.
    pub(super) fn open(path: &Path, id: Sha256, n_chunks: usize) -> Result<Self, Error> {
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options().map_err(Error::io(path, "open"))?;
        let mut bytes = Vec::new();
        (&mut file).take(BYTES_MAX).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
        let mut done = vec![false; n_chunks];
        let valid = replay(&bytes, id, &mut done);
        let cut = |mut file: &File| -> io::Result<()> {
            file.set_len(valid)?;
            file.seek(SeekFrom::Start(valid))?;
            file.sync_all()
        };
        cut(&file).map_err(Error::io(path, "write"))?;
        Ok(Self { path: path.to_owned(), file, id, done, pending: Vec::new() })
    }

    /// Reads which chunks a journal says are done, without touching it.
    pub(super) fn peek(path: &Path, id: Sha256, n_chunks: usize) -> Vec<bool> {
        let mut bytes = Vec::new();
        let mut done = vec![false; n_chunks];
        // One that can't be read says nothing; the copy will say why.
        if let Ok(file) = File::open(path)
            && file.take(BYTES_MAX).read_to_end(&mut bytes).is_ok()
        {
            replay(&bytes, id, &mut done);
        }
        done
    }

    /// A chunk was written; it counts from the next [`Self::commit`] on.
    pub(super) fn add(&mut self, chunk: usize) {
        self.done[chunk] = true;
        self.push(chunk as u32);
    }

    /// A chunk turned out wrong.
    pub(super) fn forget(&mut self, chunk: usize) {
        self.done[chunk] = false;
        self.push(chunk as u32 | WRONG);
    }

    /// Writes what is pending. The chunks' data is on the disk: the caller synced it.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.pending).map_err(Error::io(&self.path, "write"))?;
        self.file.sync_data().map_err(Error::io(&self.path, "write"))?;
        self.pending.clear();
        Ok(())
    }

    fn push(&mut self, number: u32) {
        self.pending.extend(number.to_le_bytes());
        self.pending.extend(crc(number, self.id).to_le_bytes());
    }
}

/// Follows the records; returns the bytes up to the first that isn't one.
fn replay(bytes: &[u8], id: Sha256, done: &mut [bool]) -> u64 {
    let mut valid = 0;
    for record in bytes.chunks_exact(RECORD_BYTES) {
        let (number, sum) = record.split_at(4);
        let number = u32::from_le_bytes(number.try_into().expect("4 bytes"));
        let chunk = (number & !WRONG) as usize;
        if sum != crc(number, id).to_le_bytes() || chunk >= done.len() {
            break;
        }
        done[chunk] = number & WRONG == 0;
        valid += RECORD_BYTES as u64;
    }
    valid
}

fn crc(number: u32, id: Sha256) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&id.0);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_end_is_cut_off_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, id) = (folder.path().join("journal"), Sha256::of(b"bundle"));
        let mut journal = Journal::open(&path, id, 5).unwrap();
        [0, 1, 4].into_iter().for_each(|chunk| journal.add(chunk));
        journal.commit().unwrap();
        journal.forget(1);
        journal.commit().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in [&whole[..whole.len() - 3], &[&whole[..], &[7; 11]].concat()] {
            std::fs::write(&path, torn).unwrap();
            let mut journal = Journal::open(&path, id, 5).unwrap();
            assert_eq!(journal.done, [true, torn.len() < whole.len(), false, false, true]);
            journal.add(2);
            journal.commit().unwrap();
            assert!(Journal::peek(&path, id, 5)[2]);
        }
    }

    #[test]
    fn another_bundles_journal_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, Sha256::of(b"one"), 5).unwrap();
        journal.add(3);
        journal.commit().unwrap();
        assert_eq!(Journal::peek(&path, Sha256::of(b"other"), 5), [false; 5]);
        assert_eq!(Journal::peek(&path, Sha256::of(b"one"), 3), [false; 3], "of another length");
    }
}
