//! How a box reads its drive: the smallest queue that is as fast as the fastest.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Disk, PreadPool, Uring};
use crate::Error;

/// Part of the best speed that is as good as the best: a deeper queue only makes the first expert come later.
const GOOD_ENOUGH: f64 = 0.97;

/// Who waits for the drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A thread for each read: [`PreadPool`].
    Pread,
    /// The kernel: [`Uring`].
    Uring,
}

/// How to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// By what means.
    pub method: Method,
    /// Reads at the drive at once.
    pub depth: usize,
}

/// The drives that a model's files are on.
#[derive(Clone, Copy, Debug)]
pub struct Drive;

impl Drive {
    /// Opens files, in the order that extents count them, to be read as was chosen. Where io_uring is chosen and has become
    /// unavailable, as many threads read.
    ///
    /// # Errors
    /// A file can't be opened, or the system gives no threads.
    pub fn open<P: AsRef<Path>>(paths: &[P], choice: Choice) -> Result<Box<dyn Disk>, Error> {
        if choice.method == Method::Uring {
            match Uring::open(paths, choice.depth) {
                Err(error @ Error::NoUring { .. }) => tracing::warn!(%error, "reading with threads instead"),
                uring => return Ok(Box::new(uring?)),
            }
        }
        Ok(Box::new(PreadPool::open(paths, choice.depth)?))
    }
}

/// What one way of reading reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// The way.
    pub choice: Choice,
    /// Median of the rounds, in bytes a second.
    pub bytes_per_s: f64,
}

/// What a measurement has found.
#[derive(Debug)]
pub struct Measured {
    /// Bytes a read.
    pub record_bytes: usize,
    /// Rounds that every way was given.
    pub n_rounds: usize,
    /// All ways that were tried.
    pub speeds: Vec<Speed>,
    /// Why io_uring was not tried.
    pub no_uring: Option<Error>,
    /// What to use.
    pub choice: Choice,
}

impl Measured {
    /// Bytes a second of what was chosen.
    pub fn bytes_per_s(&self) -> f64 {
        self.speeds.iter().find(|speed| speed.choice == self.choice).map_or(0.0, |speed| speed.bytes_per_s)
    }
}

/// The smallest depth that is within 3 % of the best; of two such ways, the faster. `None` of none.
pub(super) fn choose(speeds: &[Speed]) -> Option<Choice> {
    let best = speeds.iter().map(|speed| speed.bytes_per_s).fold(0.0, f64::max);
    let good = speeds.iter().filter(|speed| speed.bytes_per_s >= best * GOOD_ENOUGH);
    let order = |a: &&Speed, b: &&Speed| {
        let by_depth = a.choice.depth.cmp(&b.choice.depth);
        by_depth.then(b.bytes_per_s.total_cmp(&a.bytes_per_s))
    };
    good.min_by(order).map(|speed| speed.choice)
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pread => "pread",
            Self::Uring => "io_uring",
        })
    }
}

/// A table, a row for each depth.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.record_bytes as f64 / 1e6;
        writeln!(f, "reads of {megabytes:.1} MB, GB/s, medians of {} rounds", self.n_rounds)?;
        writeln!(f, "{:>5} {:>9} {:>9}", "depth", Method::Pread, Method::Uring)?;
        let mut depths: Vec<_> = self.speeds.iter().map(|speed| speed.choice.depth).collect();
        depths.sort_unstable();
        depths.dedup();
        for depth in depths {
            write!(f, "{depth:>5}")?;
            for method in [Method::Pread, Method::Uring] {
                let is_it = |speed: &&Speed| speed.choice == Choice { method, depth };
                match self.speeds.iter().find(is_it) {
                    Some(speed) => write!(f, " {:>9.2}", speed.bytes_per_s / 1e9)?,
                    None => write!(f, " {:>9}", "-")?,
                }
            }
            writeln!(f)?;
        }
        if let Some(error) = &self.no_uring {
            writeln!(f, "{error}")?;
        }
        write!(f, "chosen: {}, depth {}", self.choice.method, self.choice.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(speeds: &[(Method, usize, f64)]) -> Option<(Method, usize)> {
        let speed = |&(method, depth, bytes_per_s)| Speed { choice: Choice { method, depth }, bytes_per_s };
        let speeds: Vec<_> = speeds.iter().map(speed).collect();
        choose(&speeds).map(|choice| (choice.method, choice.depth))
    }

    #[test]
    fn the_smallest_depth_near_the_best_is_chosen() {
        use Method::{Pread, Uring};
        let speeds = [(Pread, 1, 1.0), (Pread, 4, 1.98), (Uring, 4, 1.99), (Uring, 2, 1.93), (Pread, 8, 2.0)];
        assert_eq!(chosen(&speeds), Some((Uring, 4)), "2 is slower by 3.5 %");
        assert_eq!(chosen(&[(Uring, 8, 1.0), (Pread, 1, 0.97)]), Some((Pread, 1)));
        assert_eq!(chosen(&[(Uring, 8, 1.0), (Pread, 1, 0.96)]), Some((Uring, 8)));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_choice_is_kept_as_json() {
        let choice = Choice { method: Method::Uring, depth: 4 };
        let json = serde_json::to_string(&choice).expect("serializes");
        assert_eq!(json, r#"{"method":"uring","depth":4}"#);
        assert_eq!(serde_json::from_str::<Choice>(&json).expect("parses"), choice);
    }

    #[test]
    fn the_table_names_what_was_not_tried() {
        let choice = Choice { method: Method::Pread, depth: 2 };
        let speeds = vec![Speed { choice, bytes_per_s: 2.5e9 }];
        let cause = std::io::Error::from_raw_os_error(libc::EPERM);
        let no_uring = Some(Error::NoUring { cause });
        let table = Measured { record_bytes: 5_200_000, n_rounds: 3, speeds, no_uring, choice }.to_string();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "reads of 5.2 MB, GB/s, medians of 3 rounds");
        assert_eq!(lines[2], "    2      2.50         -");
        assert!(lines[3].starts_with("no io_uring: Operation not permitted"), "{table}");
        assert_eq!(lines[4], "chosen: pread, depth 2");
    }
}
