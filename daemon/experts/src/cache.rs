//! Which experts are in memory: slots, and who gives way.
//!
//! ```text
//! experts   0   1   2   3 ...      each: worth, the slot it is in, whether it may give way
//! classes   experts with records of the same size; slots are made, reused and counted per class
//! ```
//! The budget is in bytes and is never exceeded: a class has a fixed number of slots, as many as make the part of its experts
//! that fits the same as in every other class. A part of them is on loan: long steps take its memory.

use tracing::warn;

use crate::{Error, Policy, Slot, slot};

/// Experts in memory, within a budget.
#[derive(Debug)]
pub(crate) struct Cache {
    policy: Policy,
    /// Steps so far: the policy's time.
    now: f64,
    /// The step reads whole layers: a long prompt.
    sweep: bool,
    /// The slots on loan are gone.
    gave_back: bool,
    entries: Vec<Entry>,
    classes: Vec<Class>,
}

/// One expert of the model.
#[derive(Debug)]
struct Entry {
    class: usize,
    worth: f64,
    /// Tokens that used it.
    uses: u64,
    /// The step of the last use.
    used_at: f64,
    slot: Option<Slot>,
    /// May not give way: somebody computes with it, or will.
    held: bool,
    /// Never gives way.
    pinned: bool,
}

/// Experts with records of one size.
#[derive(Debug)]
struct Class {
    slot_bytes: usize,
    n_experts: usize,
    n_slots: usize,
    /// Those on loan, beside the others.
    n_lent: usize,
    /// Slots without a record, the last one used on top.
    free: Vec<Slot>,
    /// Experts in memory, in no order.
    resident: Vec<u32>,
}

impl Cache {
    /// A cache of at most `budget` bytes for experts whose records take `record_bytes` each, `reserved` bytes of it for others,
    /// `lent` bytes of it on loan.
    ///
    /// # Errors
    /// Fewer than `slots_min` records of some size fit; the system has no address space left.
    pub(crate) fn new(
        policy: Policy,
        record_bytes: &[usize],
        (budget, reserved, lent): (u64, u64, u64),
        slots_min: usize,
    ) -> Result<Self, Error> {
        let mut sizes = record_bytes.to_vec();
        sizes.sort_unstable();
        sizes.dedup();
        let class = |&slot_bytes: &usize| {
            let n_experts = record_bytes.iter().filter(|&&bytes| bytes == slot_bytes).count();
            let n_slots = slots_min.min(n_experts);
            Class { slot_bytes, n_experts, n_slots, n_lent: 0, free: Vec::new(), resident: Vec::new() }
        };
        let mut classes: Vec<Class> = sizes.iter().map(class).collect();
        let least = reserved + lent + classes.iter().map(Class::bytes).sum::<u64>();
        match budget.checked_sub(least) {
            Some(left) => {
                share_out(&mut classes, left);
                let n_own: Vec<usize> = classes.iter().map(|class| class.n_slots).collect();
                share_out(&mut classes, lent);
                for (class, n_own) in classes.iter_mut().zip(n_own) {
                    class.n_lent = class.n_slots - n_own;
                    class.n_slots = n_own;
                }
            }
            None => {
                let n_sizes = classes.len();
                return Err(Error::Budget { budget, wanted: least, slots_min, n_sizes });
            }
        }
        for class in &mut classes {
            class.free = Slot::many(class.slot_bytes, class.n_slots)?;
            class.free.extend(Slot::many_lent(class.slot_bytes, class.n_lent)?);
        }
        slot::get_memory(classes.iter().flat_map(|class| &class.free).filter(|slot| !slot.is_lent()));
        let entry = |bytes: &usize| Entry {
            class: sizes.binary_search(bytes).expect("sizes are made from these"),
            worth: Policy::UNUSED,
            uses: 0,
            used_at: f64::NEG_INFINITY,
            slot: None,
            held: false,
            pinned: false,
        };
        Ok(Self {
            policy,
            now: 0.0,
            sweep: false,
            gave_back: false,
            entries: record_bytes.iter().map(entry).collect(),
            classes,
        })
    }

    /// The next step of the model begins. A sweep, which wants nearly all experts of each layer once, says nothing about
    /// which will be wanted next: it leaves the order of the others as it is. True if a sweep has just ended.
    pub(crate) fn begin_step(&mut self, sweep: bool) -> bool {
        self.now += 1.0;
        std::mem::replace(&mut self.sweep, sweep) && !sweep
    }

    /// Gives back the memory on loan, with the experts in it. None of them is held, and no read is under way.
    pub(crate) fn give_loan_back(&mut self) {
        self.gave_back = true;
        for class in &mut self.classes {
            class.free.retain(|slot| !slot.is_lent());
            let entries = &mut self.entries;
            class.resident.retain(|&expert| {
                let slot = &mut entries[expert as usize].slot;
                slot.take_if(|slot| slot.is_lent()).is_none()
            });
        }
    }

    /// Takes the loan again.
    pub(crate) fn take_loan(&mut self) {
        self.gave_back = false;
        for class in &mut self.classes {
            match Slot::many_lent(class.slot_bytes, class.n_lent) {
                Ok(slots) => class.free.extend(slots),
                Err(error) => warn!(%error, "the cache of experts stays smaller until the next long prompt"),
            }
        }
    }

    /// Whether the memory on loan was given back.
    pub(crate) fn gave_loan_back(&self) -> bool {
        self.gave_back
    }

    pub(crate) fn is_sweep(&self) -> bool {
        self.sweep
    }

    /// Steps so far.
    pub(crate) fn now(&self) -> f64 {
        self.now
    }

    /// Whether a step from `step` on used an expert.
    pub(crate) fn is_used_since(&self, expert: u32, step: f64) -> bool {
        self.entries[expert as usize].used_at >= step
    }

    /// `n_tokens` of this step use an expert.
    pub(crate) fn touch(&mut self, expert: u32, n_tokens: u32) {
        let entry = &mut self.entries[expert as usize];
        if !self.sweep {
            entry.worth = self.policy.touched(entry.worth, self.now);
        }
        entry.uses += u64::from(n_tokens);
        entry.used_at = self.now;
    }

    /// The record of an expert that is in memory.
    pub(crate) fn get(&self, expert: u32) -> Option<&[u8]> {
        self.entries[expert as usize].slot.as_deref()
    }

    pub(crate) fn is_resident(&self, expert: u32) -> bool {
        self.entries[expert as usize].slot.is_some()
    }

    /// Whether an expert must stay while somebody computes with it.
    pub(crate) fn hold(&mut self, expert: u32, held: bool) {
        self.entries[expert as usize].held = held;
    }

    /// Memory for an expert's record: unused, or that of an expert that gives way. `None` where all are held.
    ///
    /// In a sweep, experts of layers that are still to come give way only if `urgent`.
    pub(crate) fn take_slot(&mut self, expert: u32, urgent: bool) -> Option<Slot> {
        let class = &mut self.classes[self.entries[expert as usize].class];
        if let Some(slot) = class.free.pop() {
            return Some(slot);
        }
        let (nth, passed) = self.least(expert)?;
        if self.sweep && !passed && !urgent {
            return None;
        }
        let class = &mut self.classes[self.entries[expert as usize].class];
        let evicted = class.resident.swap_remove(nth);
        self.entries[evicted as usize].slot.take()
    }

    /// Memory for a record that may be of use: unused, or, in a sweep, that of an expert that the step is through with.
    pub(crate) fn take_spare(&mut self, expert: u32) -> Option<Slot> {
        let unused = !self.classes[self.entries[expert as usize].class].free.is_empty();
        if unused || self.sweep { self.take_slot(expert, false) } else { None }
    }

    /// Experts by number, those used by most tokens first; without those never used.
    pub(crate) fn most_used(&self) -> Vec<u32> {
        let used = (0u32..).zip(&self.entries).filter(|(_, entry)| entry.uses > 0);
        let mut used: Vec<(u32, u64)> = used.map(|(expert, entry)| (expert, entry.uses)).collect();
        used.sort_by_key(|&(expert, uses)| (std::cmp::Reverse(uses), expert));
        used.into_iter().map(|(expert, _)| expert).collect()
    }

    /// Lets the first of `experts` never give way, as many of each size as this share of its slots, all but two at most.
    pub(crate) fn pin(&mut self, experts: &[u32], share: f64) {
        let n_pinned =
            |class: &Class| ((class.n_slots as f64 * share) as usize).min(class.n_slots.saturating_sub(2));
        let mut left: Vec<usize> = self.classes.iter().map(n_pinned).collect();
        for &expert in experts {
            let entry = &mut self.entries[expert as usize];
            entry.pinned = left[entry.class] > 0;
            left[entry.class] = left[entry.class].saturating_sub(1);
        }
    }

    /// Tokens that each expert was used by.
    pub(crate) fn uses(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.uses)
    }

    /// Uses that were counted before.
    pub(crate) fn set_uses(&mut self, uses: impl Iterator<Item = u64>) {
        self.entries.iter_mut().zip(uses).for_each(|(entry, uses)| entry.uses = uses);
    }

    /// Who gives way for `expert`: its position among the residents of the class, and whether the step is through with it.
    ///
    /// The one worth least; in a sweep one that the step is through with, as it will be wanted again last of all.
    fn least(&self, expert: u32) -> Option<(usize, bool)> {
        let class = &self.classes[self.entries[expert as usize].class];
        let entry = |resident: &u32| &self.entries[*resident as usize];
        let passed = |entry: &Entry| entry.used_at == self.now;
        let yielding = class.resident.iter().map(entry).enumerate().filter(|(_, e)| !e.held && !e.pinned);
        let rank = |e: &Entry| (!(self.sweep && passed(e)), e.worth);
        let (nth, least) = yielding.min_by(|(_, a), (_, b)| {
            let ((a_later, a), (b_later, b)) = (rank(a), rank(b));
            a_later.cmp(&b_later).then(a.total_cmp(&b))
        })?;
        Some((nth, passed(least)))
    }

    /// An expert's record has come.
    pub(crate) fn put(&mut self, expert: u32, slot: Slot) {
        let entry = &mut self.entries[expert as usize];
        let class = &mut self.classes[entry.class];
        assert!(entry.slot.is_none(), "what is in memory is not read again");
        entry.slot = Some(slot);
        class.resident.push(expert);
    }

    /// Memory comes back without a record in it.
    pub(crate) fn give_back(&mut self, expert: u32, slot: Slot) {
        self.classes[self.entries[expert as usize].class].free.push(slot);
    }

    /// Bytes of all slots that are there.
    pub(crate) fn slot_bytes(&self) -> u64 {
        let lent = |class: &Class| if self.gave_back { 0 } else { class.lent_bytes() };
        self.classes.iter().map(|class| class.bytes() + lent(class)).sum()
    }
}

impl Class {
    /// Of its own slots.
    fn bytes(&self) -> u64 {
        (self.n_slots * self.slot_bytes) as u64
    }

    /// Of those on loan.
    fn lent_bytes(&self) -> u64 {
        (self.n_lent * self.slot_bytes) as u64
    }
}

/// Gives out `left` bytes, slot by slot, so that of every class the same part of its experts fits.
fn share_out(classes: &mut [Class], mut left: u64) {
    let part = |class: &Class| class.n_slots as f64 / class.n_experts as f64;
    loop {
        let wanting = classes.iter_mut().filter(|c| c.n_slots < c.n_experts && c.slot_bytes as u64 <= left);
        let Some(poorest) = wanting.min_by(|a, b| part(a).total_cmp(&part(b))) else { return };
        poorest.n_slots += 1;
        left -= poorest.slot_bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = crate::PAGE_BYTES;

    /// Room for `n_slots` of `n_experts` of one size.
    fn cache(policy: Policy, n_experts: usize, n_slots: usize) -> Cache {
        Cache::new(policy, &vec![PAGE; n_experts], ((n_slots * PAGE) as u64, 0, 0), 1)
            .expect("at least one slot")
    }

    /// A step that uses `experts`, one after the other; the misses.
    fn step(cache: &mut Cache, sweep: bool, experts: &[u32]) -> Vec<u32> {
        cache.begin_step(sweep);
        let mut missed = Vec::new();
        for &expert in experts {
            cache.touch(expert, 1);
            if !cache.is_resident(expert) {
                missed.push(expert);
                let slot = cache.take_slot(expert, true).expect("nothing is held");
                cache.put(expert, slot);
            }
        }
        missed
    }

    #[test]
    fn memory_on_loan_goes_with_what_is_in_it_and_comes_back() {
        let sizes = [PAGE; 8];
        let mut cache =
            Cache::new(Policy::Lru, &sizes, (5 * PAGE as u64, 0, 3 * PAGE as u64), 1).expect("room");
        step(&mut cache, false, &[0, 1, 2, 3, 4]);
        assert_eq!(cache.slot_bytes(), 5 * PAGE as u64);
        cache.give_loan_back();
        let n_left = (0..8).filter(|&expert| cache.is_resident(expert)).count();
        assert_eq!((n_left, cache.slot_bytes()), (2, 2 * PAGE as u64));
        assert_eq!(step(&mut cache, false, &[5, 6, 7, 5]), [5, 6, 7, 5], "there is room for two");
        cache.take_loan();
        assert_eq!(step(&mut cache, false, &[7, 0, 1, 2, 5, 7]), [0, 1, 2]);
        let too_little = Cache::new(Policy::Lru, &sizes, (3 * PAGE as u64, 0, 3 * PAGE as u64), 1);
        assert!(too_little.is_err(), "nothing is left while the loan is given back");
    }

    #[test]
    fn least_recently_used_gives_way() {
        let mut cache = cache(Policy::Lru, 4, 2);
        assert_eq!(step(&mut cache, false, &[0]), [0]);
        assert_eq!(step(&mut cache, false, &[1]), [1]);
        assert!(step(&mut cache, false, &[0]).is_empty());
        assert_eq!(step(&mut cache, false, &[2]), [2]);
        assert!(cache.is_resident(0) && !cache.is_resident(1));
        assert_eq!(cache.slot_bytes(), 2 * PAGE as u64);
    }

    #[test]
    fn often_used_outlives_just_used() {
        let mut cache = cache(Policy::Lfru { half_life: 100.0 }, 4, 2);
        (0..3).for_each(|_| drop(step(&mut cache, false, &[0])));
        step(&mut cache, false, &[1]);
        assert_eq!(step(&mut cache, false, &[2]), [2]);
        assert!(cache.is_resident(0) && !cache.is_resident(1));
    }

    #[test]
    fn what_is_held_stays() {
        let mut cache = cache(Policy::Lru, 3, 1);
        step(&mut cache, false, &[0]);
        cache.hold(0, true);
        assert!(cache.take_slot(1, true).is_none());
        cache.hold(0, false);
        assert!(cache.take_slot(1, true).is_some());
        assert!(!cache.is_resident(0));
    }

    #[test]
    fn a_sweep_reuses_what_it_is_through_with() {
        // Six experts in order, as the layers of a long prompt want them, and room for four: what was there and is still to
        // come is not thrown away for what was just read.
        let mut cache = cache(Policy::Lru, 6, 4);
        step(&mut cache, false, &[2, 3, 4, 5]);
        let missed = step(&mut cache, true, &[0, 1, 2, 3, 4, 5]);
        assert_eq!(missed.len(), 3, "0, 1 and the one that 0 took the place of: {missed:?}");
        assert!(missed.starts_with(&[0, 1]));
    }

    #[test]
    fn a_sweep_leaves_experts_to_come_unless_it_must() {
        let mut cache = cache(Policy::Lru, 3, 1);
        step(&mut cache, false, &[2]);
        cache.begin_step(true);
        assert!(cache.take_slot(0, false).is_none());
        assert!(cache.take_slot(0, true).is_some());
    }

    #[test]
    fn every_size_has_its_share_of_the_budget() {
        let sizes = [PAGE, 2 * PAGE, PAGE, 2 * PAGE, PAGE, 2 * PAGE];
        let mut cache = Cache::new(Policy::Lru, &sizes, (6 * PAGE as u64, 0, 0), 1).expect("room");
        step(&mut cache, false, &[0, 1, 2, 3, 4, 5]);
        assert_eq!(cache.slot_bytes(), 6 * PAGE as u64, "two of each size");
        let resident = (0..6).filter(|&expert| cache.is_resident(expert));
        assert_eq!(resident.collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn a_budget_below_one_record_of_each_size_is_refused() {
        let new = |budget| Cache::new(Policy::Lru, &[PAGE, 2 * PAGE, PAGE], (budget, 0, 0), 1).map(drop);
        let Err(Error::Budget { wanted, n_sizes, .. }) = new(3 * PAGE as u64 - 1) else {
            panic!("it is too small")
        };
        assert_eq!((wanted, n_sizes), (3 * PAGE as u64, 2));
        new(wanted).expect("what was asked for is enough");
    }

    #[test]
    fn all_that_fits_is_used_and_no_more() {
        let mut sizes = vec![PAGE; 20];
        sizes.extend([7 * PAGE; 3]);
        for pages in 8..=41 {
            let cache = Cache::new(Policy::Lru, &sizes, ((pages * PAGE) as u64, 0, 0), 1).expect("room");
            let bytes: u64 = cache.classes.iter().map(Class::bytes).sum();
            assert!(bytes <= (pages * PAGE) as u64, "{pages}");
            assert!(bytes as usize + PAGE > pages * PAGE || cache.classes[0].n_slots == 20, "{pages}");
        }
    }
}
