//! Where a measurement says how far it is, and hears that it is to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::series::Sample;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Limits,
    Drive,
    Card,
    Load,
    Again,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Progress {
    pub(super) step: Step,
    pub(super) minutes: u32,
    /// Of the load.
    pub(super) seconds_done: f64,
    pub(super) seconds_total: f64,
    pub(super) last: Option<Sample>,
}

/// Where a measurement says how far it is, and hears that it is to stop.
pub(crate) struct Watch {
    stop: AtomicBool,
    progress: Mutex<Progress>,
    observer: Box<dyn Fn(&Progress) + Send + Sync>,
}

impl Watch {
    pub(crate) fn new(minutes: u32, observer: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        let seconds_total = f64::from(minutes) * 60.0;
        let progress = Progress { step: Step::Limits, minutes, seconds_done: 0.0, seconds_total, last: None };
        Self { stop: AtomicBool::new(false), progress: Mutex::new(progress), observer: Box::new(observer) }
    }

    /// It ends soon, with what it has.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Progress)) {
        let progress = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut progress);
            *progress
        };
        (self.observer)(&progress);
    }

    /// Whether a step begins: not of what was stopped.
    pub(super) fn begins(&self, step: Step) -> bool {
        let goes_on = !self.is_stopped();
        if goes_on {
            self.change(|progress| progress.step = step);
        }
        goes_on
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({:?})", self.progress())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopped_before_it_begins_has_nothing() {
        let watch = Watch::new(5, |_| panic!("nothing moves"));
        watch.stop();
        assert!(!watch.begins(Step::Limits));
    }
}
