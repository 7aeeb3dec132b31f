//! Which cached expert gives way: a policy is one number a use.

use std::fmt;
use std::str::FromStr;

/// An order of eviction: each use gives an expert a new worth, the least worth goes first.
///
/// Worths compare at any time without being touched: they are logarithms, and time moves all of them alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// Least recently used.
    Lru,
    /// Least frequently used, where a use counts half after `half_life` steps: recency and frequency combined. Towards 0 it
    /// is LRU, towards infinity LFU.
    ///
    /// worth = log2(sum over uses i of 2^(t_i / half_life)). Source: Lee et al. 2001, "LRFU: a spectrum of policies that
    /// subsumes the LRU and LFU policies", IEEE Transactions on Computers 50(12).
    Lfru {
        /// Steps of the model, above 0.
        half_life: f64,
    },
}

impl Policy {
    /// The worth of an expert that was never used.
    pub const UNUSED: f64 = f64::NEG_INFINITY;

    /// The worth after a use at step `now`, from the worth before it.
    pub fn touched(self, worth: f64, now: f64) -> f64 {
        match self {
            Self::Lru => now,
            Self::Lfru { half_life } => {
                let use_now = now / half_life;
                let (high, low) = if worth > use_now { (worth, use_now) } else { (use_now, worth) };
                high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2
            }
        }
    }
}

/// What is best at small sizes of the cache and nowhere much worse than the best, by `wels replay --synthetic`: plain LRU hits
/// nothing where less fits than a step wants.
impl Default for Policy {
    fn default() -> Self {
        Self::Lfru { half_life: 16.0 }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lru => f.write_str("lru"),
            Self::Lfru { half_life } => write!(f, "lfru:{half_life}"),
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text:?} is no policy: lru, or lfru:STEPS (a use counts half after STEPS)");
        match text.split_once(':') {
            None if text == "lru" => Ok(Self::Lru),
            Some(("lfru", steps)) => match steps.parse::<f64>() {
                Ok(half_life) if half_life.is_finite() && half_life > 0.0 => Ok(Self::Lfru { half_life }),
                _ => Err(wanted()),
            },
            _ => Err(wanted()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_uses_count_more_and_many_uses_add_up() {
        let policy = Policy::Lfru { half_life: 10.0 };
        let once = policy.touched(Policy::UNUSED, 20.0);
        let earlier = policy.touched(Policy::UNUSED, 10.0);
        assert!((once - earlier - 1.0).abs() < 1e-12, "half as much after a half-life");
        let twice = policy.touched(earlier, 10.0);
        assert!((twice - once).abs() < 1e-12, "two uses a half-life ago are worth one now");
        assert_eq!(Policy::Lru.touched(twice, 21.0), 21.0);
    }

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["lru", "lfru:64", "lfru:0.5"] {
            assert_eq!(text.parse::<Policy>().expect("a policy").to_string(), text);
        }
        for text in ["", "lfu", "lfru", "lfru:0", "lfru:-1", "lfru:nan", "lru:1"] {
            text.parse::<Policy>().expect_err(text);
        }
    }
}
