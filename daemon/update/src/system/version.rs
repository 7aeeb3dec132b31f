//! A system's version as the boot loader compares it: numbers between dots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Numbers of a version.
const NUMBERS_MAX: usize = 4;
/// Digits of a number.
const DIGITS_MAX: usize = 9;

/// `0.1.0`. Newer is greater; with more numbers is newer than with fewer.
///
/// Less than the loader would take, so that there is one spelling and nothing in a file's name that means something else.
/// Source: UAPI.10 Version Format Specification.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SystemVersion(Vec<u32>);

impl FromStr for SystemVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let is_number = |part: &str| {
            let has_digits = !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
            has_digits && part.len() <= DIGITS_MAX && (part == "0" || !part.starts_with('0'))
        };
        let number = |part: &str| if is_number(part) { part.parse().ok() } else { None };
        let numbers: Option<Vec<u32>> = text.split('.').take(NUMBERS_MAX + 1).map(number).collect();
        numbers.filter(|numbers| numbers.len() <= NUMBERS_MAX).map(Self).ok_or(NoVersion)
    }
}

/// Text that is no version of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a system's version is one to four numbers between dots: 0.1.0")]
pub struct NoVersion;

impl fmt::Display for SystemVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            write!(f, "{dot}{number}")?;
        }
        Ok(())
    }
}

impl Serialize for SystemVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SystemVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_loader_does() {
        let version = |text: &str| text.parse::<SystemVersion>().unwrap();
        let ordered = ["0.1", "0.1.0", "0.1.9", "0.1.10", "0.2", "1", "1.0.0.1", "10.0"];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("0.1.10").to_string(), "0.1.10");
    }

    #[test]
    fn what_could_mean_something_else_in_a_name_is_no_version() {
        for text in ["", ".", "1.", "01", "1..2", "1+3", "1-2", "v1", "1.2.3.4.5", "1/2", "１", "1234567890"]
        {
            assert_eq!(text.parse::<SystemVersion>(), Err(NoVersion), "{text}");
        }
    }
}
