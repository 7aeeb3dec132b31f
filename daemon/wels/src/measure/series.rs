//! Work and heat over time: a sample for each stretch of it.

use std::time::Duration;

use serde::Serialize;

use super::sensors::Reading;

/// A sample.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// How soon a wish to stop is seen.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A shorter last stretch says nothing.
const STRETCH_MIN: Duration = Duration::from_secs(1);

/// A stretch of time: what was done in it, and what sensors showed at its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// When it ended, seconds since the beginning.
    pub(super) at_s: f64,
    /// How long it was.
    pub(super) seconds: f64,
    /// Work done, a second: tokens, or operations.
    pub(super) rate: f64,
    #[serde(flatten)]
    pub(super) reading: Reading,
}

/// What a series is made with.
pub(super) struct Hands<'a> {
    /// Time since some moment.
    pub(super) now: &'a dyn Fn() -> Duration,
    pub(super) rest: &'a dyn Fn(Duration),
    /// Work done since some moment.
    pub(super) done: &'a dyn Fn() -> f64,
    pub(super) read: &'a dyn Fn() -> Reading,
    pub(super) is_over: &'a dyn Fn() -> bool,
    pub(super) tell: &'a dyn Fn(Sample),
}

/// Samples until the time is up or it is over: no more than the time has stretches, and one.
pub(super) fn series(time: Duration, hands: &Hands<'_>) -> Vec<Sample> {
    let mut samples = Vec::with_capacity((time.as_secs() / EVERY.as_secs()) as usize + 1);
    let begin = (hands.now)();
    let first = (hands.read)();
    let mut last = (begin, (hands.done)());
    loop {
        (hands.rest)(LOOK_EVERY);
        let (now, done) = ((hands.now)(), (hands.done)());
        let is_end = now - begin >= time || (hands.is_over)();
        let stretch = now - last.0;
        if stretch >= EVERY || (is_end && stretch >= STRETCH_MIN) {
            let reading = (hands.read)();
            // What happened before has nothing to do with it.
            let since = |count: i64, before: i64| count.saturating_sub(before).max(0);
            let throttled =
                reading.throttled.zip(first.throttled).map(|(count, before)| since(count, before));
            let seconds = stretch.as_secs_f64();
            let sample = Sample {
                at_s: (now - begin).as_secs_f64(),
                seconds,
                rate: (done - last.1) / seconds,
                reading: Reading { throttled, ..reading },
            };
            samples.push(sample);
            (hands.tell)(sample);
            last = (now, done);
        }
        if is_end {
            return samples;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A machine that does 50 a second, and half of it once it is hot.
    struct Fake {
        now: Cell<Duration>,
        stop_at: Duration,
        told: RefCell<Vec<Sample>>,
    }

    impl Fake {
        fn run(time_s: u64, stop_at_s: f64) -> (Vec<Sample>, Vec<Sample>) {
            let stop_at = Duration::from_secs_f64(stop_at_s);
            let fake = Self { now: Cell::default(), stop_at, told: RefCell::default() };
            let s = || fake.now.get().as_secs_f64();
            let hands = Hands {
                now: &|| fake.now.get(),
                rest: &|time| fake.now.set(fake.now.get() + time),
                done: &|| 50.0 * s() - 25.0 * (s() - 20.0).max(0.0),
                read: &|| Reading {
                    processor_c: Some(40.0 + s()),
                    throttled: Some(5 + (s() >= 20.0) as i64),
                    ..Reading::default()
                },
                is_over: &|| fake.now.get() >= fake.stop_at,
                tell: &|sample| fake.told.borrow_mut().push(sample),
            };
            let samples = series(Duration::from_secs(time_s), &hands);
            (samples, fake.told.into_inner())
        }
    }

    #[test]
    fn each_stretch_has_its_work_and_its_heat() {
        let (samples, told) = Fake::run(40, f64::MAX / 1e300);
        assert_eq!(samples, told);
        let rates: Vec<_> = samples.iter().map(|sample| sample.rate.round()).collect();
        assert_eq!(rates, [50.0, 50.0, 25.0, 25.0]);
        let heat: Vec<_> = samples.iter().filter_map(|sample| sample.reading.processor_c).collect();
        assert_eq!(heat.iter().map(|c| c.round()).collect::<Vec<_>>(), [50.0, 60.0, 70.0, 80.0]);
        let throttled: Vec<_> = samples.iter().filter_map(|sample| sample.reading.throttled).collect();
        assert_eq!(throttled, [0, 1, 1, 1]);
    }

    #[test]
    fn what_is_stopped_keeps_what_it_has() {
        let (samples, _) = Fake::run(600, 14.95);
        assert_eq!(samples.len(), 2);
        assert!((4.9..5.2).contains(&samples[1].seconds), "{samples:?}");
        assert!(Fake::run(600, 0.5).0.is_empty());
    }
}
