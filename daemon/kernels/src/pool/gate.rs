//! How workers come and go.
//!
//! ```text
//! gate: | region number | SHUTDOWN | WAITING | OPEN | workers inside |
//!          bits 13..32       12         11      10       0..10
//! worker:  gate is OPEN and its number is new --compare-exchange--> inside + 1, work, inside - 1
//! caller:  number + 1, OPEN; works; clears OPEN; spins until inside = 0, then sleeps with WAITING set
//! ```
#![expect(unsafe_code, reason = "lends stack closures to other threads for the length of a region")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

const INSIDE: u32 = (1 << 10) - 1;
const OPEN: u32 = 1 << 10;
const WAITING: u32 = 1 << 11;
const SHUTDOWN: u32 = 1 << 12;
const REGION_ONE: u32 = 1 << 13;

/// Threads a pool may have, the caller included.
pub const THREADS_MAX: usize = INSIDE as usize;

/// Polls before a worker sleeps: about 100 us, longer than any serial part of a decode step (`examples/kernels.rs`).
const SPINS_BEFORE_SLEEP: u32 = 2500;
/// Polls before the caller sleeps until the last worker has left.
const SPINS_BEFORE_WAIT: u32 = 10_000;

/// A closure of the current region; the lifetime is erased, the region bounds it.
type Work = *const (dyn Fn(usize) + Sync);

/// Keeps the atomics on cache lines of their own.
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

/// Where the caller lets workers into a region, and waits for them to leave.
pub(super) struct Gate {
    state: Line<AtomicU32>,
    sleepers: Line<AtomicUsize>,
    work: UnsafeCell<Option<Work>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    lock: Mutex<()>,
    wake: Condvar,
    left: Condvar,
}

// SAFETY: `work` is written by the caller only while the gate is closed with nobody inside, and read only by workers
// inside an open region; the closure behind it is Sync. Everything else is atomic or locked.
unsafe impl Sync for Gate {}
// SAFETY: as above; the pointer is never followed outside a region.
unsafe impl Send for Gate {}

/// An open region; dropping it closes the gate and waits until the last worker has left.
pub(super) struct Region<'a>(&'a Gate);

impl Drop for Region<'_> {
    fn drop(&mut self) {
        self.0.close();
        if thread::panicking() {
            // The caller's own panic goes on; a worker's must not turn up in the next region.
            self.0.take_panic();
        }
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            state: Line(AtomicU32::new(0)),
            sleepers: Line(AtomicUsize::new(0)),
            work: UnsafeCell::new(None),
            panic: Mutex::new(None),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            left: Condvar::new(),
        }
    }

    /// What a worker panicked with in the last region.
    pub(super) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        locked(&self.panic).take()
    }

    /// Ends all workers' [`serve`](Gate::serve).
    pub(super) fn shut_down(&self) {
        self.state.0.fetch_or(SHUTDOWN, Ordering::SeqCst);
        self.wake_sleepers();
    }

    /// Lets workers in, to run `work(worker)` each. Only the pool's owner calls this, one region at a time.
    pub(super) fn open<'a>(&'a self, work: &'a (dyn Fn(usize) + Sync)) -> Region<'a> {
        let work: *const (dyn Fn(usize) + Sync + '_) = work;
        // SAFETY: only the lifetime changes; the region is closed, with nobody inside, before the closure is gone.
        let work: Work = unsafe { std::mem::transmute(work) };
        // SAFETY: the gate is closed with nobody inside (the last region's drop saw to it): no reader.
        unsafe { *self.work.get() = Some(work) };
        let region = (self.state.0.load(Ordering::Relaxed) & !(REGION_ONE - 1)).wrapping_add(REGION_ONE);
        self.state.0.store(region | OPEN, Ordering::SeqCst);
        self.wake_sleepers();
        Region(self)
    }

    fn close(&self) {
        let mut gate = self.state.0.fetch_and(!OPEN, Ordering::AcqRel);
        for _ in 0..SPINS_BEFORE_WAIT {
            if gate & INSIDE == 0 {
                return;
            }
            std::hint::spin_loop();
            gate = self.state.0.load(Ordering::Acquire);
        }
        let mut guard = locked(&self.lock);
        self.state.0.fetch_or(WAITING, Ordering::SeqCst);
        while self.state.0.load(Ordering::Acquire) & INSIDE != 0 {
            guard = self.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.state.0.fetch_and(!WAITING, Ordering::Relaxed);
    }

    /// Sequentially consistent with `sleep`: either this sees the sleeper or the sleeper sees the new gate.
    fn wake_sleepers(&self) {
        if self.sleepers.0.load(Ordering::SeqCst) > 0 {
            let _guard = locked(&self.lock);
            self.wake.notify_all();
        }
    }

    /// A worker's life: wait for an open gate, join, work, leave.
    pub(super) fn serve(&self, worker: usize) {
        let mut seen = 0;
        loop {
            let gate = self.next_region(seen);
            if gate & SHUTDOWN != 0 {
                return;
            }
            let joined =
                self.state.0.compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if joined {
                seen = region_of(gate);
                self.work_inside(worker);
            }
        }
    }

    fn work_inside(&self, worker: usize) {
        // SAFETY: inside an open region the caller does not write `work`.
        let work = unsafe { *self.work.get() }.expect("set before the gate opened");
        // SAFETY: the caller keeps the closure until nobody is inside.
        let work = unsafe { &*work };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work(worker))) {
            locked(&self.panic).get_or_insert(payload);
        }
        let before = self.state.0.fetch_sub(1, Ordering::AcqRel);
        if before & WAITING != 0 && before & INSIDE == 1 {
            let _guard = locked(&self.lock);
            self.left.notify_one();
        }
    }

    /// The gate, once it is open for a region other than `seen`, or shut down: spins first, then sleeps.
    fn next_region(&self, seen: u32) -> u32 {
        let is_new = |gate: u32| gate & SHUTDOWN != 0 || (gate & OPEN != 0 && region_of(gate) != seen);
        for _ in 0..SPINS_BEFORE_SLEEP {
            let gate = self.state.0.load(Ordering::Acquire);
            if is_new(gate) {
                return gate;
            }
            std::hint::spin_loop();
        }
        let mut guard = locked(&self.lock);
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        let gate = loop {
            let gate = self.state.0.load(Ordering::SeqCst);
            if is_new(gate) {
                break gate;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.0.fetch_sub(1, Ordering::SeqCst);
        gate
    }
}

fn region_of(gate: u32) -> u32 {
    gate & !(REGION_ONE - 1)
}

/// The lock, also where a panic passed through it: it guards no invariant.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
