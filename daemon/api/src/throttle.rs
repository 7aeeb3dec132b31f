//! Slows down guessing of codes and passwords: by account and by address, exponentially, never for good.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Tries before there is any delay.
const FREE_TRIES: u32 = 5;

/// The delay after the first try too many; doubled by each after it.
const DELAY_FIRST: Duration = Duration::from_secs(1);

/// The longest delay: an attacker can slow the owner down by this much, not shut him out.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// After so long a rest all is forgotten.
const MEMORY: Duration = Duration::from_secs(3600);

/// Sources remembered; beyond it the ones that rest longest are forgotten.
const SOURCES_MAX: usize = 4096;

/// Failed tries by source.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    tries: Mutex<HashMap<String, Tries>>,
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    count: u32,
    last: Instant,
}

impl Throttle {
    /// Counts a try from every one of `sources` before it is made, so that parallel tries count too; or says how long to
    /// wait. A try that succeeds is taken back with [`Self::forgive`].
    pub(crate) fn attempt(&self, sources: &[String]) -> Result<(), Duration> {
        self.attempt_at(sources, Instant::now())
    }

    fn attempt_at(&self, sources: &[String], now: Instant) -> Result<(), Duration> {
        let mut tries = self.lock();
        tries.retain(|_, t| now.duration_since(t.last) < MEMORY);
        let wait = sources.iter().filter_map(|source| tries.get(source)).map(|t| t.wait(now)).max();
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        for source in sources {
            if tries.len() >= SOURCES_MAX && !tries.contains_key(source) {
                forget_oldest(&mut tries);
            }
            let entry = tries.entry(source.clone()).or_insert(Tries { count: 0, last: now });
            *entry = Tries { count: entry.count.saturating_add(1), last: now };
        }
        Ok(())
    }

    /// Forgets the tries of `sources`: the last one was right.
    pub(crate) fn forgive(&self, sources: &[String]) {
        let mut tries = self.lock();
        for source in sources {
            tries.remove(source);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Tries>> {
        self.tries.lock().expect("nothing panics while it holds the lock")
    }
}

impl Tries {
    fn wait(self, now: Instant) -> Duration {
        let Some(excess) = self.count.checked_sub(FREE_TRIES) else { return Duration::ZERO };
        let delay = DELAY_FIRST.saturating_mul(2u32.saturating_pow(excess)).min(DELAY_MAX);
        delay.saturating_sub(now.duration_since(self.last))
    }
}

fn forget_oldest(tries: &mut HashMap<String, Tries>) {
    let oldest = tries.iter().min_by_key(|(_, t)| t.last).map(|(source, _)| source.clone());
    if let Some(oldest) = oldest {
        tries.remove(&oldest);
    }
}

/// An address as a source: of IPv6 the network, since a guest may choose the rest.
pub(crate) fn address_source(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("address {v4}"),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("network {a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute_and_end() {
        let throttle = Throttle::default();
        let source = ["name ada".to_owned()];
        let mut now = Instant::now();
        for _ in 0..FREE_TRIES {
            throttle.attempt_at(&source, now).unwrap();
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = throttle.attempt_at(&source, now).unwrap_err();
            waits.push(wait.as_secs());
            now += wait;
            throttle.attempt_at(&source, now).unwrap();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        throttle.forgive(&source);
        throttle.attempt_at(&source, now).unwrap();
    }

    #[test]
    fn strangers_do_not_slow_each_other_and_are_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..SOURCES_MAX * 2 {
            throttle.attempt_at(&[n.to_string()], now).unwrap();
        }
        assert!(throttle.lock().len() <= SOURCES_MAX);
    }
}
