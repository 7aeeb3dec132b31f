//! How many tests passed and failed, read from what the runners print.

use std::fmt;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl Counts {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; ...`, one for each test binary.
pub(super) fn of_cargo(line: &str) -> Counts {
    if !line.starts_with("test result: ") {
        return Counts::default();
    }
    Counts { passed: before(line, " passed"), failed: before(line, " failed") }
}

/// `Tests  1 failed | 45 passed (46)`, once.
pub(super) fn of_vitest(line: &str) -> Counts {
    if !line.trim_start().starts_with("Tests ") {
        return Counts::default();
    }
    Counts { passed: before(line, " passed"), failed: before(line, " failed") }
}

/// `ok    signs in (12 ms)` or `FAIL  signs in`, one for each step.
pub(super) fn of_browser(line: &str) -> Counts {
    Counts { passed: usize::from(line.starts_with("ok ")), failed: usize::from(line.starts_with("FAIL ")) }
}

/// The number that stands before `word`; 0 if there is none.
fn before(line: &str, word: &str) -> usize {
    let number = line.split_once(word).and_then(|(start, _)| start.split_whitespace().next_back());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_runners_print() {
        let cargo = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s";
        assert_eq!(of_cargo(cargo), Counts { passed: 12, failed: 3 });
        assert_eq!(of_vitest("      Tests  1 failed | 45 passed (46)"), Counts { passed: 45, failed: 1 });
        assert_eq!(of_vitest("      Tests  45 passed (45)"), Counts { passed: 45, failed: 0 });
        assert_eq!(of_browser("ok    signs in (12 ms)"), Counts { passed: 1, failed: 0 });
        assert_eq!(of_browser("FAIL  signs in"), Counts { passed: 0, failed: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in ["", "running 12 tests", "test a ... ok", " Test Files  3 passed (3)", "okay then"] {
            assert_eq!(of_cargo(line), Counts::default());
            assert_eq!(of_vitest(line), Counts::default());
            assert_eq!(of_browser(line), Counts::default());
        }
    }
}
