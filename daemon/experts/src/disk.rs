//! The border to the drives: reads that take a slot along and bring it back.
//!
//! ```text
//! submit --> | waiting in line | --> at the drive, `depth` of them --> checksum --> next
//!                    |
//!                    +--> cancel
//! ```
//!
//! [`Drive::open`] gives what [`measure`] found fastest on the box: [`PreadPool`] or [`Uring`]. [`sim::SimDisk`] is the
//! simulated one. All share how an extent comes piece by piece and how a read ends.

mod choose;
mod files;
mod line;
mod measure;
mod pread;
mod priority;
mod random;
pub mod sim;
mod transfer;
mod uring;

use std::sync::Arc;
use std::time::Instant;

pub use choose::{Choice, Drive, Measured, Method, Speed};
pub use measure::{Load, measure};
pub use pread::PreadPool;
pub use uring::Uring;
pub use weights::Extent;

use crate::Slot;

/// Reads at the drive at once, at most: more than any drive gains from at the size of an expert.
pub const DEPTH_MAX: usize = 64;

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
    /// What to do with them then.
    pub unpack: Option<Unpack>,
}

/// Decodes what was read, in the reader's thread.
pub struct Unpack {
    /// Where the record goes.
    pub into: Slot,
    /// Decodes the read's slot into it.
    pub decode: Decode,
}

/// Decodes bytes into others.
pub type Decode = Box<dyn FnOnce(&[u8], &mut [u8]) -> Result<(), weights::pack::Problem> + Send>;

impl std::fmt::Debug for Unpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpack").field("into", &self.into).finish_non_exhaustive()
    }
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
    /// The record; its content means something only if the read went well.
    pub slot: Slot,
    /// What was read, where the record was decoded from it.
    pub read: Option<Slot>,
    /// How it went.
    pub result: Result<(), ReadError>,
    /// When the drive was through with it: checks and decoding come after.
    pub ended: Instant,
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
    /// No read at all: a programmer's error, reported instead of harming other reads.
    #[error("no read: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The bytes are those that were written, and no record.
    #[error("{0}")]
    Coding(weights::pack::Problem),
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
/// Reads are started in order and end in any order. The disk does not retry: the streamer decides. Dropping it drops the
/// reads that wait in line and lets those at the drive run to their end.
pub trait Disk: Send {
    /// Reads that are worth having under way at once.
    fn depth(&self) -> usize;

    /// Starts a read. Never blocks for the drive; more than [`depth`](Self::depth) reads wait in line, which is as long as
    /// there are slots: every read brings its own.
    fn submit(&mut self, read: Read);

    /// A read that has ended; `None` where none has, or, if asked to wait, where none is under way or the drive's threads
    /// have broken down.
    fn next(&mut self, wait: bool) -> Option<Done>;

    /// Takes back the first read of that name that still waits in line: it never ends. `None` where none waits: a read at
    /// the drive runs to its end.
    fn cancel(&mut self, tag: u64) -> Option<Read>;
}

impl Check {
    /// Compares the slot's content.
    ///
    /// # Errors
    /// It differs.
    ///
    /// # Panics
    /// A part ends outside the slot.
    pub fn run(&self, slot: &[u8]) -> Result<(), ReadError> {
        let parts: Vec<_> =
            self.parts.iter().map(|part| weights::pack::Hash::of(&slot[part.clone()])).collect();
        let (got, want) = (weights::pack::Hash::of_parts(&parts), self.want);
        if got == want { Ok(()) } else { Err(ReadError::Checksum { got, want }) }
    }
}
