//! The serial console: a file that QEMU writes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::say;

const LOOK_EVERY: Duration = Duration::from_millis(300);
/// A word now and then, so that nobody thinks it hangs.
const SAY_EVERY: Duration = Duration::from_secs(60);
const TAIL_LINES: usize = 40;

/// What has been written since the box was switched on.
pub(crate) struct Console {
    path: PathBuf,
}

impl Console {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read(&self.path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Waits for `words`; `alive` says no when there is nobody left to write them.
    pub(crate) fn wait_for(
        &self,
        words: &str,
        limit: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<String> {
        let (start, mut said) = (Instant::now(), Instant::now());
        loop {
            let text = self.text();
            if text.contains(words) {
                return Ok(text);
            }
            alive()?;
            if start.elapsed() > limit {
                bail!("the console did not show {words:?} within {} s", limit.as_secs());
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                let last = text.lines().map(plain).rfind(|line| !line.trim().is_empty()).unwrap_or_default();
                say::note(&format!("{:.0} s: {last}", start.elapsed().as_secs_f64()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Without what moves and colours.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\x1b' {
            // Up to the letter that ends the sequence.
            letters.by_ref().skip(1).find(|letter| letter.is_ascii_alphabetic());
        } else if !letter.is_control() {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out() {
        assert_eq!(plain("\x1b[2J\x1b[H[\x1b[0;32m  OK  \x1b[0m] Started\r"), "[  OK  ] Started");
    }
}
