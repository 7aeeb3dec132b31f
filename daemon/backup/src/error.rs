//! What can go wrong with a backup: always what, where, and what to do now.

use std::io;
use std::path::{Path, PathBuf};

use crate::{PASSPHRASE_BYTES_MAX, PASSPHRASE_CHARS_MIN};

/// A backup that can't be made, read or restored. Whatever it is, nothing was replaced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {doing}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: "open", "write".
        doing: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// The disk, or the stick, filled up.
    #[error("{}: the disk is full; make room and start again", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// There is too little room: said before anything is copied.
    #[error("{}: {need} bytes are needed, {free} are free; make room and start again", path.display())]
    NoSpace {
        /// The state folder.
        path: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// FAT32 ends at 4 GiB.
    #[error("{}: this stick can't hold so large a file; format it with exFAT", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The backup can't be read on.
    #[error("cannot read the backup: {cause}; if the stick was pulled, put it in again and start again")]
    Read {
        /// The system's reason.
        cause: io::Error,
    },
    /// The backup can't be written on.
    #[error("cannot write the backup: {cause}")]
    Write {
        /// The system's reason.
        cause: io::Error,
    },
    /// Something else.
    #[error("this is no backup of a box: {what}; give a file that was made as a backup, wels-backup-….age")]
    NoBackup {
        /// What it is, or isn't.
        what: &'static str,
    },
    /// Made by a version to come.
    #[error(
        "the backup has format {found}, this version reads up to {known}; bring this box to the newer version first"
    )]
    NewerFormat {
        /// Of the backup.
        found: u32,
        /// The newest that this code knows.
        known: u32,
    },
    /// Not what it was encrypted with.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// Too easily found by trying, or no passphrase at all.
    #[error(
        "a passphrase has {PASSPHRASE_CHARS_MIN} characters or more, and {PASSPHRASE_BYTES_MAX} bytes at most"
    )]
    PassphraseLength,
    /// A file that asks for hours, or for all of the memory.
    #[error(
        "opening this file would take 2^{found} steps, 2^{max} are allowed: it wasn't made by this program"
    )]
    TooMuchWork {
        /// What it asks for.
        found: u8,
        /// What is allowed.
        max: u8,
    },
    /// The end is missing.
    #[error("the backup ends at byte {at}, where there should be more, or its end is damaged; copy it anew")]
    Truncated {
        /// Where in what is encrypted.
        at: u64,
    },
    /// Not the bytes that were written.
    #[error("the backup is damaged at byte {at}; take another copy of it")]
    Damaged {
        /// Where in what is encrypted.
        at: u64,
    },
    /// Rightly encrypted, and not what this program encrypts.
    #[error("the backup can't be used: {what}")]
    Contents {
        /// What is wrong with it.
        what: String,
    },
    /// The database isn't whole, isn't ours, or is newer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Nothing to keep.
    #[error("{}: no database here; give the folder that the daemon keeps its state in with --state", path.display())]
    NoDatabase {
        /// Where it should be.
        path: PathBuf,
    },
    /// Another backup or restore is under way.
    #[error("{}: a backup or a restore is under way; wait for it to finish", path.display())]
    Busy {
        /// The state folder.
        path: PathBuf,
    },
    /// An earlier restore was cut off half-way through its switch.
    #[error("{}: an earlier restore isn't finished; start the daemon, which finishes it, then try again", path.display())]
    Unfinished {
        /// The state folder.
        path: PathBuf,
    },
    /// Never over a backup that is there.
    #[error("{}: exists already; choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// What was written reads otherwise.
    #[error("{}: reads back differently than it was written; the stick is broken: use another", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key")]
    NoRandomness,
    /// Stopped on request.
    #[error("stopped; nothing was changed")]
    Cancelled,
}

impl Error {
    /// For `map_err`: what was being done to which file. A full disk is told apart.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned() }
            }
            io::ErrorKind::FileTooLarge => Self::FileTooLarge { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), doing, cause },
        }
    }

    /// [`Self::Write`] with the name of what was written, where the writer knows it.
    pub(crate) fn of_file(self, path: &Path) -> Self {
        match self {
            Self::Write { cause } => Self::io(path, "write")(cause),
            other => other,
        }
    }

    /// A word for programs: the page translates by it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::DiskFull { .. } => "disk_full",
            Self::NoSpace { .. } => "no_space",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::Read { .. } => "carrier_gone",
            Self::Write { .. } => "write",
            Self::NoBackup { .. } => "no_backup",
            Self::NewerFormat { .. } => "newer_format",
            Self::WrongPassphrase => "wrong_passphrase",
            Self::PassphraseLength => "passphrase_length",
            Self::TooMuchWork { .. } => "too_much_work",
            Self::Truncated { .. } => "truncated",
            Self::Damaged { .. } => "damaged",
            Self::Contents { .. } => "bad_contents",
            Self::Store(store::Error::SchemaTooNew { .. }) => "newer_database",
            Self::Store(error) if error.is_disk_full() => "disk_full",
            Self::Store(_) => "bad_database",
            Self::NoDatabase { .. } => "no_database",
            Self::Busy { .. } => "busy",
            Self::Unfinished { .. } => "unfinished_restore",
            Self::Exists { .. } => "exists",
            Self::ReadBack { .. } => "read_back",
            Self::NoRandomness => "no_randomness",
            Self::Cancelled => "cancelled",
        }
    }
}
