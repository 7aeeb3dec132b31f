//! Where coded records wait to be decoded.

use weights::Record;

use crate::Slot;

/// Memory that coded records are read to.
pub(crate) struct Staging {
    slot_bytes: usize,
    n_max: usize,
    n_made: usize,
    free: Vec<Slot>,
}

impl Staging {
    /// For so many coded records at once; for none where no record is coded.
    pub(crate) fn new(records: &[Record], n_max: usize) -> Self {
        let coded = records.iter().filter(|record| record.is_coded).map(|record| record.read_bytes);
        let (slot_bytes, n_max) = coded.max().map_or((0, 0), |slot_bytes| (slot_bytes, n_max));
        Self { slot_bytes, n_max, n_made: 0, free: Vec::new() }
    }

    /// Of all that it may take.
    pub(crate) fn bytes(&self) -> u64 {
        (self.slot_bytes * self.n_max) as u64
    }

    /// Whether what a record needs is there.
    pub(crate) fn is_there(&self, record: &Record) -> bool {
        !record.is_coded || !self.free.is_empty() || self.n_made < self.n_max
    }

    pub(crate) fn take(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.n_made += 1;
            Slot::new(self.slot_bytes).expect("address space for what the budget has")
        })
    }

    pub(crate) fn put(&mut self, slot: Slot) {
        self.free.push(slot);
    }
}
