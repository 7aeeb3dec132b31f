//! Worker threads that meet for microseconds at a time.
//!
//! A step of a model is some hundred short parallel regions. The caller opens a region, works along as worker 0, and
//! leaves when every worker that came is done. A worker that was not scheduled in time is not waited for: whoever is
//! done with his own share takes chunks of the others'.
//!
//! ```text
//! items:    | share of worker 0 | share of worker 1 | ...      contiguous: hardware prefetchers follow
//! cursors:  ^ next unclaimed     ^ next unclaimed
//! ```
#![expect(unsafe_code, reason = "shares slices out among threads")]

mod gate;

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

pub use self::gate::THREADS_MAX;
use self::gate::{Gate, Line};
use crate::Error;

/// Threads that run closures together. The caller is worker 0.
pub struct Pool {
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    /// Of each worker's share of the items, the first that nobody has claimed.
    cursors: Vec<Line<AtomicUsize>>,
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
        let cursors = (0..n_threads).map(|_| Line(AtomicUsize::new(0))).collect();
        let mut pool =
            Self { gate: Arc::new(Gate::new()), threads: Vec::with_capacity(n_threads - 1), cursors };
        for worker in 1..n_threads {
            let gate = Arc::clone(&pool.gate);
            let body = move || {
                if pin {
                    pin_to(worker);
                }
                gate.serve(worker);
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
        self.region(work);
    }

    /// One region; the callers' exclusive borrow keeps them from nesting.
    fn region(&self, work: &(dyn Fn(usize) + Sync)) {
        if self.threads.is_empty() {
            return work(0);
        }
        let region = self.gate.open(work);
        work(0);
        drop(region);
        if let Some(payload) = self.gate.take_panic() {
            resume_unwind(payload);
        }
    }

    /// Covers `0..n_items` with calls of `work(worker, range)`, each of `grain` items or the rest, in no order;
    /// chunks begin at multiples of `grain`.
    ///
    /// Every worker goes through a contiguous share, then helps with the others': one on a busy core does less.
    pub fn for_each_chunk(
        &mut self,
        n_items: usize,
        grain: usize,
        work: impl Fn(usize, Range<usize>) + Sync,
    ) {
        assert!(grain > 0, "chunks of no items never end");
        if n_items <= grain || self.threads.is_empty() {
            let starts = (0..n_items).step_by(grain);
            return starts.for_each(|start| work(0, start..n_items.min(start + grain)));
        }
        let share = n_items.div_ceil(self.n_threads()).next_multiple_of(grain);
        for (worker, cursor) in self.cursors.iter().enumerate() {
            cursor.0.store(worker * share, Ordering::Relaxed);
        }
        self.region(&|worker| {
            for owner in (0..self.cursors.len()).map(|i| (worker + i) % self.cursors.len()) {
                let end = n_items.min((owner + 1) * share);
                loop {
                    let start = self.cursors[owner].0.fetch_add(grain, Ordering::Relaxed);
                    if start >= end {
                        break;
                    }
                    work(worker, start..end.min(start + grain));
                }
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
        self.gate.shut_down();
        for thread in self.threads.drain(..) {
            thread.join().expect("workers catch panics of the work");
        }
    }
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
