//! Where coded records wait to be decoded.

use weights::Record;

use crate::{Error, Slot};

/// Memory that coded records are read to.
pub(crate) struct Staging {
    slot_bytes: usize,
    n_slots: usize,
    free: Vec<Slot>,
}

impl Staging {
    /// For so many coded records at once; for none where no record is coded.
    ///
    /// # Errors
    /// The system has no address space left.
    pub(crate) fn new(records: &[Record], n_slots: usize) -> Result<Self, Error> {
        let coded = records.iter().filter(|record| record.is_coded).map(|record| record.read_bytes);
        let (slot_bytes, n_slots) = coded.max().map_or((0, 0), |slot_bytes| (slot_bytes, n_slots));
        Ok(Self { slot_bytes, n_slots, free: Slot::many(slot_bytes, n_slots)? })
    }

    /// Of all that it may take.
    pub(crate) fn bytes(&self) -> u64 {
        (self.slot_bytes * self.n_slots) as u64
    }

    /// Whether what a record needs is there.
    pub(crate) fn is_there(&self, record: &Record) -> bool {
        !record.is_coded || !self.free.is_empty()
    }

    /// Memory for a coded record.
    ///
    /// # Panics
    /// [`is_there`](Self::is_there) says no: a programmer's error.
    pub(crate) fn take(&mut self) -> Slot {
        self.free.pop().expect("asked before whether some is there")
    }

    pub(crate) fn put(&mut self, slot: Slot) {
        self.free.push(slot);
    }
}
