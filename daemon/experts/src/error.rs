//! What can go wrong on the way to an expert.

use weights::ExpertKey;

/// An expert that can't be had, or a cache that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's files are not as they should be.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// The system gives no memory.
    #[error("no memory of {bytes} bytes: {cause}")]
    Memory {
        /// Bytes wanted.
        bytes: usize,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The budget is too small to work with.
    #[error(
        "{budget} bytes for experts are too few: at least {slots_min} records of {slot_bytes} bytes have to fit beside the \
         others' share, {wanted} bytes in all"
    )]
    Budget {
        /// Bytes given.
        budget: u64,
        /// Bytes that would do.
        wanted: u64,
        /// Of a record.
        slot_bytes: usize,
        /// Records that have to fit.
        slots_min: usize,
    },
    /// A drive can't be used.
    #[error("{}: cannot {doing}: {cause}", path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// An expert's bytes do not come, or come wrong.
    #[error("expert {key} cannot be read after {attempts} attempts: {cause}")]
    Unreadable {
        /// Which.
        key: ExpertKey,
        /// Reads tried.
        attempts: u32,
        /// How the last one failed.
        cause: String,
    },
}
