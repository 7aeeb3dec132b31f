//! What can go wrong before the first kernel runs; afterwards only programmer's errors remain.

use crate::Level;

/// The CPU executor could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `WELS_CPU` or a caller named an unknown level.
    #[error("unknown CPU level {name:?}; known: scalar, avx2, avx512, amx")]
    UnknownLevel {
        /// The name.
        name: String,
    },
    /// The processor lacks what the level asks for.
    #[error("this processor cannot run level {wanted}; the best it can run is {best}")]
    UnsupportedLevel {
        /// Level asked for.
        wanted: Level,
        /// What detection found.
        best: Level,
    },
    /// More threads than a pool can count, or none.
    #[error("{threads} threads asked for; 1 to {max} are possible")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// The pool's limit.
        max: usize,
    },
    /// The operating system refused a thread.
    #[error("worker thread {worker} could not start: {source}")]
    Spawn {
        /// Number of the worker.
        worker: usize,
        /// The system's answer.
        source: std::io::Error,
    },
}
