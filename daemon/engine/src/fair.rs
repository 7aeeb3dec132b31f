//! Fair share by owner: a virtual token counter.
//!
//! Source: Sheng et al. 2023, "Fairness in Serving Large Language Models", arXiv:2401.00588. Each owner has a counter of
//! the work done for it; the owner with the smallest counter goes next. An owner that comes back from idleness is lifted
//! to the smallest counter among those waiting, so that idleness saves up nothing.

use std::collections::HashMap;

/// A generated token costs about as much as this many prompt tokens.
const DECODE_WEIGHT: u64 = 4;

/// Owners remembered; beyond it the idle ones are forgotten.
const OWNERS_MAX: usize = 4096;

/// Work done for each owner, in prompt tokens.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    served: HashMap<u64, u64>,
}

impl Shares {
    /// `owner` has something to do again, beside `active` owners who already had.
    pub(crate) fn arrive(&mut self, owner: u64, active: impl Iterator<Item = u64>) {
        let floor = active.filter(|&other| other != owner).map(|other| self.of(other)).min();
        if self.served.len() >= OWNERS_MAX {
            self.served.clear();
        }
        let counter = self.served.entry(owner).or_default();
        *counter = (*counter).max(floor.unwrap_or(0));
    }

    /// Work done for `owner`.
    pub(crate) fn of(&self, owner: u64) -> u64 {
        self.served.get(&owner).copied().unwrap_or(0)
    }

    pub(crate) fn charge_prompt(&mut self, owner: u64, n_tokens: usize) {
        *self.served.entry(owner).or_default() += n_tokens as u64;
    }

    pub(crate) fn charge_decode(&mut self, owner: u64, n_tokens: usize) {
        *self.served.entry(owner).or_default() += n_tokens as u64 * DECODE_WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idleness_saves_up_nothing() {
        let mut shares = Shares::default();
        shares.arrive(1, [].into_iter());
        shares.charge_decode(1, 1000);
        shares.arrive(2, [1].into_iter());
        assert_eq!(shares.of(2), shares.of(1));
    }

    #[test]
    fn the_lighter_owner_stays_lighter() {
        let mut shares = Shares::default();
        shares.arrive(1, [].into_iter());
        shares.arrive(2, [1].into_iter());
        shares.charge_prompt(1, 500);
        shares.charge_prompt(2, 20);
        shares.arrive(1, [2].into_iter());
        assert!(shares.of(2) < shares.of(1));
    }
}
