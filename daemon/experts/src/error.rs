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
        "{budget} bytes for experts are too few: {slots_min} records of each of {n_sizes} sizes have to fit, {wanted} bytes in \
         all; give the model more memory, or fewer and shorter conversations"
    )]
    Budget {
        /// Bytes given.
        budget: u64,
        /// Bytes that would do.
        wanted: u64,
        /// Records of each size that have to fit.
        slots_min: usize,
        /// Sizes of records.
        n_sizes: usize,
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
    /// The system has no io_uring for us: too old, switched off, or kept from containers. Reads go through `pread` then.
    #[error(
        "no io_uring: {cause}; Linux from 5.6 on has it, unless /proc/sys/kernel/io_uring_disabled or a container's \
         seccomp profile forbids it"
    )]
    NoUring {
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The system gives no thread.
    #[error("no thread for {what}: {cause}")]
    Thread {
        /// What it is for.
        what: &'static str,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// Routes can't be recorded.
    #[error(transparent)]
    Trace(#[from] crate::trace::Error),
    /// A usage profile can't be read or written.
    #[error("{}: not usable as a profile of this model: {what}", path.display())]
    Profile {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        what: String,
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
