//! Worker threads that meet for microseconds at a time.
//!
//! A step of a model is some hundred short parallel regions. The caller opens a region, works along as worker 0, and
//! leaves when every worker that came is done. A worker that was not scheduled in time is not waited for: items are
//! claimed from a shared counter, so the others do its share.
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
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Error;

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
struct Line<T>(T);

struct Shared {
    gate: Line<AtomicU32>,
    next: Line<AtomicUsize>,
    sleepers: Line<AtomicUsize>,
    work: UnsafeCell<Option<Work>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    lock: Mutex<()>,
    wake: Condvar,
    left: Condvar,
}

// SAFETY: `work` is written by the caller only while the gate is closed with nobody inside, and read only by workers
// inside an open region; the closure behind it is Sync. Everything else is atomic or locked.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is never followed outside a region.
unsafe impl Send for Shared {}

/// Threads that run closures together. The caller is worker 0.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `n_threads - 1` threads; with `pin`, worker `i` stays on the `i`-th processor this process may use
    /// (best effort: a refusal is logged, not an error).
    ///
    /// # Errors
    /// The number is 0 or above [`THREADS_MAX`], or the system refuses a thread.
    pub fn new(n_threads: usize, pin: bool) -> Result<Self, Error> {
        if !(1..=THREADS_MAX).contains(&n_threads) {
            return Err(Error::Threads { threads: n_threads, max: THREADS_MAX });
        }
        let shared = Arc::new(Shared {
            gate: Line(AtomicU32::new(0)),
            next: Line(AtomicUsize::new(0)),
            sleepers: Line(AtomicUsize::new(0)),
            work: UnsafeCell::new(None),
            panic: Mutex::new(None),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            left: Condvar::new(),
        });
        let mut pool = Self { shared, threads: Vec::with_capacity(n_threads - 1) };
        for worker in 1..n_threads {
            let shared = Arc::clone(&pool.shared);
            let body = move || {
                if pin {
                    pin_to(worker);
                }
                shared.serve(worker);
            };
            let thread = thread::Builder::new().name(format!("kernels-{worker}")).spawn(body);
            pool.threads.push(thread.map_err(|source| Error::Spawn { worker, source })?);
        }
        Ok(pool)
    }

    /// Workers, the caller included.
    pub fn n_threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `work(worker)` on the caller (worker 0) and on every worker that arrives before the caller is done.
    ///
    /// # Panics
    /// Passes on a panic of `work`, after all workers have left.
    pub fn run(&mut self, work: &(dyn Fn(usize) + Sync)) {
        if self.threads.is_empty() {
            return work(0);
        }
        let region = self.shared.open(work);
        work(0);
        drop(region);
        if let Some(payload) = locked(&self.shared.panic).take() {
            resume_unwind(payload);
        }
    }

    /// Covers `0..n_items` with calls of `work(worker, range)`, each of at most `grain` items, in no order.
    ///
    /// Ranges are claimed from a shared counter: a worker on a busy core takes fewer.
    pub fn for_each_chunk(
        &mut self,
        n_items: usize,
        grain: usize,
        work: impl Fn(usize, Range<usize>) + Sync,
    ) {
        assert!(grain > 0, "chunks of no items never end");
        if n_items <= grain {
            if n_items > 0 {
                work(0, 0..n_items);
            }
            return;
        }
        let shared = Arc::clone(&self.shared);
        shared.next.0.store(0, Ordering::Relaxed);
        self.run(&|worker| {
            loop {
                let start = shared.next.0.fetch_add(grain, Ordering::Relaxed);
                if start >= n_items {
                    return;
                }
                work(worker, start..n_items.min(start + grain));
            }
        });
    }

    /// Like [`for_each_chunk`](Pool::for_each_chunk), with a state of its own for every worker.
    ///
    /// # Panics
    /// There are fewer states than workers.
    pub fn for_each_chunk_with<T: Send>(
        &mut self,
        states: &mut [T],
        n_items: usize,
        grain: usize,
        work: impl Fn(&mut T, Range<usize>) + Sync,
    ) {
        assert!(states.len() >= self.n_threads(), "a state for every worker");
        let states = SharedOut(states.as_mut_ptr());
        self.for_each_chunk(n_items, grain, |worker, range| {
            // SAFETY: `worker` is below the number of states, no two threads are the same worker, and a worker runs
            // one chunk at a time.
            let state = unsafe { &mut *states.at(worker) };
            work(state, range);
        });
    }

    /// Covers `data` with calls of `work(range, &mut data[range])`, each of at most `grain` elements, in no order.
    pub fn for_each_slice<'a, T: Send>(
        &mut self,
        data: &'a mut [T],
        grain: usize,
        work: impl Fn(Range<usize>, &'a mut [T]) + Sync,
    ) {
        let n = data.len();
        let data = SharedOut(data.as_mut_ptr());
        self.for_each_chunk(n, grain, |_, range| {
            // SAFETY: the range is in bounds, and every element is in one range, claimed once; the data stays
            // borrowed for 'a.
            let slice = unsafe { std::slice::from_raw_parts_mut(data.at(range.start), range.len()) };
            work(range, slice);
        });
    }
}

/// Elements that threads share out among themselves: no two touch the same.
struct SharedOut<T>(*mut T);

impl<T> SharedOut<T> {
    fn at(&self, idx: usize) -> *mut T {
        self.0.wrapping_add(idx)
    }
}

// SAFETY: each element is used by one thread, to which it may be sent.
unsafe impl<T: Send> Sync for SharedOut<T> {}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.gate.0.fetch_or(SHUTDOWN, Ordering::SeqCst);
        self.shared.wake_sleepers();
        for thread in self.threads.drain(..) {
            thread.join().expect("workers catch panics of the work");
        }
    }
}

/// An open region; dropping it closes the gate and waits until the last worker has left.
struct Region<'a>(&'a Shared);

impl Drop for Region<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn open(&self, work: &(dyn Fn(usize) + Sync)) -> Region<'_> {
        let work: *const (dyn Fn(usize) + Sync + '_) = work;
        // SAFETY: only the lifetime changes; the region is closed, with nobody inside, before the closure is gone.
        let work: Work = unsafe { std::mem::transmute(work) };
        // SAFETY: the gate is closed with nobody inside (the last region's drop saw to it): no reader.
        unsafe { *self.work.get() = Some(work) };
        let region = (self.gate.0.load(Ordering::Relaxed) & !(REGION_ONE - 1)).wrapping_add(REGION_ONE);
        self.gate.0.store(region | OPEN, Ordering::SeqCst);
        self.wake_sleepers();
        Region(self)
    }

    fn close(&self) {
        let mut gate = self.gate.0.fetch_and(!OPEN, Ordering::AcqRel);
        for _ in 0..SPINS_BEFORE_WAIT {
            if gate & INSIDE == 0 {
                return;
            }
            std::hint::spin_loop();
            gate = self.gate.0.load(Ordering::Acquire);
        }
        let mut guard = locked(&self.lock);
        self.gate.0.fetch_or(WAITING, Ordering::SeqCst);
        while self.gate.0.load(Ordering::Acquire) & INSIDE != 0 {
            guard = self.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.gate.0.fetch_and(!WAITING, Ordering::Relaxed);
    }

    /// Sequentially consistent with `sleep`: either this sees the sleeper or the sleeper sees the new gate.
    fn wake_sleepers(&self) {
        if self.sleepers.0.load(Ordering::SeqCst) > 0 {
            let _guard = locked(&self.lock);
            self.wake.notify_all();
        }
    }

    /// A worker's life: wait for an open gate, join, work, leave.
    fn serve(&self, worker: usize) {
        let mut seen = 0;
        loop {
            let gate = self.next_region(seen);
            if gate & SHUTDOWN != 0 {
                return;
            }
            let joined =
                self.gate.0.compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
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
        let before = self.gate.0.fetch_sub(1, Ordering::AcqRel);
        if before & WAITING != 0 && before & INSIDE == 1 {
            let _guard = locked(&self.lock);
            self.left.notify_one();
        }
    }

    /// The gate, once it is open for a region other than `seen`, or shut down: spins first, then sleeps.
    fn next_region(&self, seen: u32) -> u32 {
        let is_new = |gate: u32| gate & SHUTDOWN != 0 || (gate & OPEN != 0 && region_of(gate) != seen);
        for _ in 0..SPINS_BEFORE_SLEEP {
            let gate = self.gate.0.load(Ordering::Acquire);
            if is_new(gate) {
                return gate;
            }
            std::hint::spin_loop();
        }
        let mut guard = locked(&self.lock);
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        let gate = loop {
            let gate = self.gate.0.load(Ordering::SeqCst);
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

/// Keeps the calling thread on the `nth` processor that this process may use.
fn pin_to(nth: usize) {
    let pinned = sched_getaffinity(Pid::from_raw(0)).and_then(|allowed| {
        let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).collect();
        let mut set = CpuSet::new();
        set.set(cpus[nth % cpus.len()])?;
        sched_setaffinity(Pid::from_raw(0), &set)
    });
    if let Err(errno) = pinned {
        tracing::warn!(worker = nth, %errno, "could not pin a worker thread");
    }
}
