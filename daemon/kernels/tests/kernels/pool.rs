//! The worker pool: every item once, whatever the threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kernels::{Error, Pool};

/// One thread, as many as cores, and more than this machine is likely to have free.
const THREADS: [usize; 4] = [1, 2, 5, 17];

#[test]
fn many_tiny_regions_cover_every_item_once() {
    for threads in THREADS {
        let mut pool = Pool::new(threads, false).expect("threads");
        let mut counts = vec![0_u32; 37];
        for region in 0..3000 {
            let grain = region % 5 + 1;
            pool.for_each_slice(&mut counts, grain, |_, counts| {
                counts.iter_mut().for_each(|count| *count += 1)
            });
        }
        assert!(counts.iter().all(|count| *count == 3000), "{threads} threads: {counts:?}");
    }
}

#[test]
fn sleeping_workers_wake_for_the_next_region() {
    let mut pool = Pool::new(3, false).expect("threads");
    let joined = AtomicUsize::new(0);
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(3));
        joined.store(0, Ordering::SeqCst);
        // Nobody leaves before all have come: ends only if sleepers are woken.
        pool.run(&|_| {
            joined.fetch_add(1, Ordering::SeqCst);
            while joined.load(Ordering::SeqCst) < 3 {
                thread::yield_now();
            }
        });
    }
}

#[test]
fn states_belong_to_one_worker_at_a_time() {
    for threads in THREADS {
        let mut pool = Pool::new(threads, false).expect("threads");
        let mut sums = vec![0_usize; threads];
        pool.for_each_chunk_with(&mut sums, 10_000, 3, |sum, range| *sum += range.sum::<usize>());
        assert_eq!(sums.iter().sum::<usize>(), 10_000 * 9_999 / 2, "{threads} threads");
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    for threads in THREADS {
        let mut pool = Pool::new(threads, false).expect("threads");
        for bad in [0, 50, 99] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each_chunk(100, 1, |_, range| assert!(!range.contains(&bad), "item {bad}"));
            }));
            let payload = caught.expect_err("an item panicked");
            assert_eq!(
                payload.downcast_ref::<String>().map(String::as_str),
                Some(format!("item {bad}").as_str())
            );
            let done = AtomicUsize::new(0);
            pool.for_each_chunk(100, 7, |_, range| {
                done.fetch_add(range.len(), Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 100, "{threads} threads, after item {bad}");
        }
    }
}

#[test]
fn a_worker_panic_beside_the_callers_does_not_reach_the_next_region() {
    let mut pool = Pool::new(3, false).expect("threads");
    for _ in 0..200 {
        let panics = || pool.run(&|worker| panic!("worker {worker}"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        pool.run(&|_| ());
    }
}

#[test]
fn pinned_workers_do_the_same() {
    let mut pool = Pool::new(4, true).expect("threads");
    let mut values: Vec<usize> = (0..1000).collect();
    pool.for_each_slice(&mut values, 10, |range, values| {
        assert_eq!(values.first(), Some(&range.start));
        values.iter_mut().for_each(|value| *value *= 2);
    });
    assert!(values.iter().enumerate().all(|(i, value)| *value == 2 * i));
}

#[test]
fn impossible_numbers_of_threads_are_refused() {
    for threads in [0, 1024, usize::MAX] {
        assert!(matches!(Pool::new(threads, false), Err(Error::Threads { .. })), "{threads}");
    }
}

#[test]
fn empty_work_is_done_at_once() {
    let mut pool = Pool::new(2, false).expect("threads");
    pool.for_each_chunk(0, 1, |_, _| panic!("no items"));
    pool.for_each_slice(&mut [0_u8; 0], 1, |_, _| panic!("no items"));
}
