//! Every choice at every size, on the cores there are.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::belady::Future;
use super::cache::Cache;
use super::profile::Profile;
use super::table::{Counts, Outcome, Row, Table};
use super::{Error, Kind, Setup, scored_from, slots_of};
use crate::Policy;
use crate::trace::Trace;

/// Uses whose worths are computed at once, for all sizes and pins of a policy.
const CHUNK_USES: usize = 16 << 10;

/// Compares all choices of the setup at all its sizes.
///
/// # Errors
/// The trace is too short, or a cache has no size or more than the model.
///
/// # Panics
/// The setup is for another number of layers, or a share is none: a programmer's error.
pub fn replay(trace: &Trace, setup: &Setup) -> Result<Table, Error> {
    let header = trace.header();
    assert!(setup.classes.len() == header.layers.len(), "a class for each layer");
    assert!(setup.record_bytes.len() == header.layers.len(), "bytes for each layer");
    assert!(setup.choices.iter().all(|choice| (0.0..=1.0).contains(&choice.pinned_share)), "a share");
    check(trace, setup)?;
    let n_experts = header.n_experts as usize;
    let n_records = header.layers.len() * n_experts;
    let slots = |&records: &usize| slots_of(records, &setup.classes, n_experts);
    let sizes: Vec<_> = setup.records.iter().map(slots).collect();
    let profile = Profile::of(trace, &setup.classes);
    let work = Work { trace, setup, sizes: &sizes, profile: &profile, n_records };
    let (rows, belady, unbounded) = work.run();
    Ok(Table { sizes: setup.records.clone(), n_records, rows, belady, unbounded })
}

fn check(trace: &Trace, setup: &Setup) -> Result<(), Error> {
    let max = setup.classes.len() * trace.header().n_experts as usize;
    if let Some(&records) = setup.records.iter().find(|&&records| records == 0 || records > max) {
        return Err(Error::Size { records, max });
    }
    let wants = |step: &crate::trace::Step<'_>| step.visits().any(|visit| !visit.experts.is_empty());
    let scored = trace.steps().skip(scored_from(trace)).filter(wants).count();
    if scored == 0 || trace.n_steps() < 2 {
        return Err(Error::Short { steps: trace.n_steps(), scored });
    }
    Ok(())
}

struct Work<'a> {
    trace: &'a Trace,
    setup: &'a Setup,
    /// Slots of each pool, for each size.
    sizes: &'a [Vec<usize>],
    profile: &'a Profile,
    n_records: usize,
}

/// What one thread does at a time.
#[derive(Clone, Copy)]
enum Job {
    /// All choices of one policy.
    Policy(Policy),
    /// The bounds for one kind of step.
    Bound(Kind),
}

impl Work<'_> {
    fn run(&self) -> (Vec<Row>, Vec<Outcome>, Outcome) {
        let mut rows: Vec<_> =
            self.setup.choices.iter().map(|&choice| Row { choice, outcomes: Vec::new() }).collect();
        let n_sizes = self.sizes.len();
        // The last one is for a cache without limit.
        let mut belady = vec![Outcome::default(); n_sizes + 1];
        for (job, outcomes) in self.run_jobs() {
            match job {
                Job::Policy(policy) => {
                    let of_policy = rows.iter_mut().filter(|row| row.choice.policy == policy);
                    of_policy
                        .zip(outcomes.chunks_exact(n_sizes))
                        .for_each(|(row, outcomes)| row.outcomes = outcomes.to_vec());
                }
                Job::Bound(kind) => belady
                    .iter_mut()
                    .zip(outcomes)
                    .for_each(|(bound, mut outcome)| *bound.of(kind) = *outcome.of(kind)),
            }
        }
        let unbounded = belady.pop().expect("one more than sizes");
        (rows, belady, unbounded)
    }

    fn run_jobs(&self) -> Vec<(Job, Vec<Outcome>)> {
        let mut jobs = vec![Job::Bound(Kind::Decode), Job::Bound(Kind::Prefill)];
        for choice in &self.setup.choices {
            if !jobs.iter().any(|job| matches!(job, Job::Policy(policy) if *policy == choice.policy)) {
                jobs.push(Job::Policy(choice.policy));
            }
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let next = || jobs.get(next.fetch_add(1, Ordering::Relaxed));
            let done = std::iter::from_fn(|| next().map(|&job| (job, self.run_job(job))));
            done.collect::<Vec<_>>()
        };
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|t| t.join().expect("a simulation does not panic")).collect()
        })
    }

    fn run_job(&self, job: Job) -> Vec<Outcome> {
        match job {
            Job::Policy(policy) => self.policy(policy),
            Job::Bound(kind) => {
                let future = Future::of(self.trace, kind);
                let everything = slots_of(self.n_records, &self.setup.classes, self.n_experts());
                let sizes = self.sizes.iter().chain([&everything]);
                sizes.map(|slots| future.bound(self.trace, self.setup, slots)).collect()
            }
        }
    }

    fn n_experts(&self) -> usize {
        self.trace.header().n_experts as usize
    }

    /// Outcomes of the policy's choices, all sizes of the first, then of the next.
    ///
    /// The worth of a record depends on its uses alone, not on the cache: it is computed once for all of them.
    fn policy(&self, policy: Policy) -> Vec<Outcome> {
        let choices = self.setup.choices.iter().filter(|choice| choice.policy == policy);
        let caches = choices.flat_map(|choice| {
            let cache = |slots: &Vec<usize>| {
                let pins = self.profile.pins(choice.pinned_share, slots);
                Cache::new(self.n_records, self.n_experts(), slots, &self.setup.classes, pins)
            };
            self.sizes.iter().map(cache)
        });
        let mut caches: Vec<_> = caches.map(|cache| (cache, Outcome::default())).collect();
        let mut latest = vec![Policy::UNUSED; self.n_records];
        let mut worths = Vec::new();
        let mut from = 0;
        while from < self.trace.n_steps() {
            worths.clear();
            let mut to = from;
            while to < self.trace.n_steps() && worths.len() < CHUNK_USES {
                self.touch(policy, to, &mut latest, &mut worths);
                to += 1;
            }
            for (cache, outcome) in &mut caches {
                self.steps(from..to, &worths, cache, outcome);
            }
            from = to;
        }
        caches.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// The worths of what a step wants, in order.
    fn touch(&self, policy: Policy, step: usize, latest: &mut [f64], worths: &mut Vec<f64>) {
        let now = step as f64;
        for visit in self.trace.step(step).visits() {
            for &expert in visit.experts {
                let worth = &mut latest[visit.place * self.n_experts() + usize::from(expert)];
                *worth = policy.touched(*worth, now);
                worths.push(*worth);
            }
        }
    }

    fn steps(&self, steps: Range<usize>, mut worths: &[f64], cache: &mut Cache, outcome: &mut Outcome) {
        for idx in steps {
            let step = self.trace.step(idx);
            let mut counts = Counts::default();
            counts.add_step(step.n_tokens);
            for visit in step.visits() {
                let (here, later) = worths.split_at(visit.experts.len());
                worths = later;
                let misses = cache.visit(&visit, self.setup.classes[visit.place], here);
                counts.add_visit(visit.experts.len(), misses, self.setup.record_bytes[visit.place]);
            }
            if idx >= scored_from(self.trace) {
                outcome.of(Kind::of(step.n_tokens)).add(&counts);
            }
        }
    }
}
