//! A database on its way from one box to another: a copy of one that is in use, and a copy that came.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};
use serde_json::Value;

use crate::check::check_open;
use crate::migrate::{self, SCHEMA_VERSION};
use crate::writer::BUSY_TIMEOUT;
use crate::{Error, audit};

/// Whoever opens a database here never makes one.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Writes what the database holds at this moment to `to`, an empty file or none, without its sessions: who is signed in
/// here isn't signed in elsewhere. A running daemon goes on writing meanwhile. Returns the schema's version.
///
/// # Errors
/// The file is no database of this program, is damaged, or was written by a newer version; the copy can't be written.
pub fn copy_out(path: &Path, to: &Path) -> Result<usize, Error> {
    // One that may only read leaves an empty log behind where no daemon runs.
    let source = Connection::open_with_flags(path, FLAGS)?;
    source.busy_timeout(BUSY_TIMEOUT)?;
    let version = known(path, &source)?;
    let to_name = to.to_str().ok_or_else(|| not_ours(to, "its path is no UTF-8"))?;
    source.execute("VACUUM INTO ?1", [to_name])?;
    let copy = open_alone(to)?;
    copy.execute("DELETE FROM sessions", [])?;
    copy.close().map_err(|(_, source)| source)?;
    Ok(version)
}

/// Looks at a copy that came and makes it this box's own: it is whole, it is a database of this program and not of a newer
/// version, it has no sessions, and its audit log says where it comes from. Returns the schema's version.
///
/// # Errors
/// It is not so: the error says what is wrong.
pub fn take_in(path: &Path, origin: &Value) -> Result<usize, Error> {
    let mut copy = open_alone(path)?;
    let version = known(path, &copy)?;
    check_open(path, &copy)?;
    let transaction = copy.transaction()?;
    transaction.execute("DELETE FROM sessions", params![])?;
    audit::record(&transaction, None, "restored", origin)?;
    transaction.commit()?;
    copy.close().map_err(|(_, source)| source)?;
    Ok(version)
}

/// Opens a file that nobody else uses, so that nothing lies beside it afterwards.
fn open_alone(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    // Functions that reach beyond the file are not for those who wrote its schema.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

/// The schema's version, of a database that has the tables of that version and no others.
fn known(path: &Path, connection: &Connection) -> Result<usize, Error> {
    let found = migrate::version(connection)?;
    if found > SCHEMA_VERSION {
        return Err(Error::SchemaTooNew { found, known: SCHEMA_VERSION });
    }
    if found == 0 || outline(connection)? != outline(&migrate::empty(found)?)? {
        return Err(not_ours(path, "it is no database of this program"));
    }
    Ok(found)
}

/// What a schema consists of: kind, name and table of everything, and the text of what runs by itself.
fn outline(connection: &Connection) -> Result<Vec<[Option<String>; 4]>, Error> {
    // SQLite's own versions differ in the tables that they keep statistics in, and in the text of an index's tables.
    let sql =
        "SELECT type, name, tbl_name, CASE WHEN type IN ('trigger', 'view') THEN sql END FROM sqlite_schema
               WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn not_ours(path: &Path, found: &str) -> Error {
    Error::Damaged { path: path.to_owned(), found: found.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{NewUser, Privilege, Store};

    async fn furnished(path: &Path) -> (Store, String) {
        let store = Store::open(path).unwrap();
        let user =
            NewUser { name: "ada".into(), password_hash: "h".into(), role: Privilege::Admin, lang: None };
        let ada = store.create_user(None, user).await.unwrap();
        let session = store.create_session(ada.id, "browser").await.unwrap();
        (store, session.token)
    }

    #[tokio::test]
    async fn a_copy_has_everything_but_the_sessions_and_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("wels.sqlite"), dir.path().join("copy"));
        let (store, token) = furnished(&path).await;
        assert_eq!(copy_out(&path, &copy).unwrap(), SCHEMA_VERSION);
        assert!(store.session_owner(&token).await.unwrap().is_some(), "here it goes on");
        let count = Connection::open(&copy).unwrap();
        assert_eq!(
            count.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, u32>(0)).unwrap(),
            0
        );
        drop(count);
        assert_eq!(take_in(&copy, &json!({ "from": "there" })).unwrap(), SCHEMA_VERSION);
        for suffix in ["-wal", "-shm", "-journal"] {
            assert!(!dir.path().join(format!("copy{suffix}")).exists(), "{suffix}");
        }
        let there = Store::open(&copy).unwrap();
        assert!(there.session_owner(&token).await.unwrap().is_none());
        let log = there.audit_log(None, 1).await.unwrap();
        assert_eq!((&*log[0].action, &log[0].detail["from"]), ("restored", &json!("there")));
        assert!(there.user_by_name("ada").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_newer_or_another_database_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wels.sqlite");
        furnished(&path).await.0.close().await;
        let change = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let refused = || take_in(&path, &json!({})).unwrap_err();
        change("CREATE TRIGGER more AFTER INSERT ON audit BEGIN DELETE FROM users; END");
        assert!(refused().to_string().contains("no database of this program"));
        change("DROP TRIGGER more; PRAGMA user_version = 99");
        assert!(matches!(refused(), Error::SchemaTooNew { found: 99, .. }));
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(take_in(&empty, &json!({})).is_err());
        assert!(copy_out(&empty, &dir.path().join("copy")).is_err());
    }
}
