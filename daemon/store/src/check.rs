//! Looks at a database without changing it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::Error;

/// Reads the whole file and checks its structure; a running daemon is not disturbed.
///
/// # Errors
/// The file can't be opened, or SQLite's check finds something wrong: the error names it.
pub fn check(path: &Path) -> Result<(), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    check_open(path, &Connection::open_with_flags(path, flags)?)
}

/// [`check`], of a database that is open.
pub(crate) fn check_open(path: &Path, connection: &Connection) -> Result<(), Error> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Error::Damaged { path: path.to_owned(), found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_damaged_file_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wels.sqlite");
        crate::Store::open(&path).unwrap().close().await;
        check(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        assert!(check(&path).is_err());
    }
}
