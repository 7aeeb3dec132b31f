//! The border to the drives: reads that take a slot along and bring it back.

use std::sync::Arc;

use crate::Slot;

pub use weights::Extent;

/// One read: all extents of one record.
#[derive(Debug)]
pub struct Read {
    /// The caller's name for it.
    pub tag: u64,
    /// What to read.
    pub extents: Arc<[Extent]>,
    /// Where to.
    pub slot: Slot,
    /// What the bytes have to be; `None` where the file has no checksums.
    pub check: Option<Check>,
}

/// A record's checksum: XXH3-64 of the parts' XXH3-64s, see `weights::pack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Start and end of each part in the slot.
    pub parts: Arc<[std::ops::Range<usize>]>,
    /// What is to come out.
    pub want: weights::pack::Hash,
}

/// A read that has ended.
#[derive(Debug)]
pub struct Done {
    /// The read's.
    pub tag: u64,
    /// The memory; its content means something only if the read went well.
    pub slot: Slot,
    /// How it went.
    pub result: Result<(), ReadError>,
    /// When it ended.
    pub ended: std::time::Instant,
}

/// What can go wrong with a read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file ended, or the drive gave less than asked and then nothing.
    #[error("{got} of {needed} bytes came from offset {offset} of file {file}")]
    Short {
        /// Index of the file.
        file: usize,
        /// Where the extent starts.
        offset: u64,
        /// Bytes that came.
        got: usize,
        /// Bytes that had to come.
        needed: usize,
    },
    /// Other bytes than were written.
    #[error("checksum {got}, want {want}")]
    Checksum {
        /// Of the bytes that came.
        got: weights::pack::Hash,
        /// Of the bytes that were written.
        want: weights::pack::Hash,
    },
}

/// A drive, or something that behaves like one.
///
/// Reads are started in order and end in any order. The disk does not retry: the streamer decides.
pub trait Disk: Send {
    /// Reads that are worth having under way at once.
    fn depth(&self) -> usize;

    /// Starts a read. Never blocks for the drive; more than [`depth`](Self::depth) reads wait in line.
    fn submit(&mut self, read: Read);

    /// A read that has ended; `None` where none has, or, if asked to wait, where none is under way.
    fn next(&mut self, wait: bool) -> Option<Done>;
}

impl Check {
    /// Compares the slot's content.
    ///
    /// # Errors
    /// It differs.
    pub fn run(&self, slot: &[u8]) -> Result<(), ReadError> {
        let parts: Vec<_> =
            self.parts.iter().map(|part| weights::pack::Hash::of(&slot[part.clone()])).collect();
        let (got, want) = (weights::pack::Hash::of_parts(&parts), self.want);
        if got == want { Ok(()) } else { Err(ReadError::Checksum { got, want }) }
    }
}
