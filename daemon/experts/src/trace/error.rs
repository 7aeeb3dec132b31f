//! What can be wrong with a trace.

use std::path::PathBuf;

/// A trace that can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be used.
    #[error("{path}: cannot {doing}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The file is longer than a recorder makes it.
    #[error("{path}: longer than {bytes_max} bytes, which no recorder writes: not a routing trace?")]
    Long {
        /// The file.
        path: PathBuf,
        /// Bytes that are read.
        bytes_max: u64,
    },
    /// The recorder has written what it may, and has stopped; the steps before are in the file.
    #[error("{path}: the trace is full at {bytes_max} bytes and ends after {steps} steps")]
    Full {
        /// The file.
        path: PathBuf,
        /// Bytes it may have.
        bytes_max: u64,
        /// Steps in it.
        steps: u64,
    },
    /// The bytes are no trace, or the header can't be written.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
}

/// Bytes that are no trace, or what a trace can't hold. Places count from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another kind of file.
    #[error("not a routing trace: it starts with {magic:02x?}")]
    Magic {
        /// The first bytes, eight at most.
        magic: Vec<u8>,
    },
    /// A version this reader doesn't know.
    #[error("version {got} of routing traces; this program reads version {known}")]
    Version {
        /// In the file.
        got: u32,
        /// The only one.
        known: u32,
    },
    /// The bytes end inside something.
    #[error("{what} at byte {at} is cut off")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: u64,
    },
    /// A number beyond what can be.
    #[error("{what} is {got}, but at most {max} can be")]
    Limit {
        /// Which number.
        what: &'static str,
        /// In the file.
        got: u64,
        /// The largest.
        max: u64,
    },
    /// A number that isn't one, or a name that isn't text.
    #[error("{what} at byte {at} is malformed")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: u64,
    },
    /// Layers have to ascend.
    #[error("layer {layer} comes after layer {before}")]
    Layers {
        /// The layer.
        layer: u32,
        /// The one before it.
        before: u32,
    },
    /// Experts have to ascend, and somebody has to want them.
    #[error("expert {expert} for {tokens} tokens: experts have to ascend, and have tokens")]
    Wants {
        /// The expert.
        expert: u32,
        /// Its tokens.
        tokens: u32,
    },
    /// Other bytes than were written.
    #[error("{what} at byte {at}: checksum {got:08x}, want {want:08x}; the file is damaged")]
    Checksum {
        /// What was read.
        what: &'static str,
        /// Where it starts.
        at: u64,
        /// Of the bytes.
        got: u32,
        /// In the file.
        want: u32,
    },
    /// Something is wrong inside a step.
    #[error("the step at byte {at}: {problem}")]
    Step {
        /// Where the step starts.
        at: u64,
        /// What is wrong.
        problem: Box<Problem>,
    },
}
