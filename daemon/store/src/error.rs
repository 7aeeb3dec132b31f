//! What can go wrong in the store.

use std::path::PathBuf;

/// An error of the store. "Not found" is no error: those methods return `Option` or `bool`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened or created.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was written by a newer version of this program.
    #[error(
        "the database has schema version {found}, this program knows up to {known}; install the newer version again"
    )]
    SchemaTooNew {
        /// Version in the file.
        found: usize,
        /// Newest version this program knows.
        known: usize,
    },
    /// SQLite refused.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is no intact database.
    #[error("{}: {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        found: String,
    },
    /// Another account has this name.
    #[error("the name {name:?} is taken")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The change would leave the box without an admin who can sign in.
    #[error("the last admin can't be removed, disabled or made a user")]
    LastAdmin,
    /// A named limit is reached.
    #[error("at most {max} {what} are possible")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The writer thread is gone, or the transaction panicked and was rolled back.
    #[error("the store has stopped working on this request")]
    Closed,
}

impl Error {
    /// Whether there was no room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}
