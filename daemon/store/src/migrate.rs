//! The schema's versions, applied in order; `PRAGMA user_version` counts them.

use rusqlite::{Connection, Transaction};

use crate::Error;

/// One step: statements, then what SQL can't do.
struct Migration {
    sql: &'static str,
    then: fn(&Transaction<'_>) -> Result<(), Error>,
}

/// Steps are only ever added at the end; a published one is never edited.
const MIGRATIONS: &[Migration] = &[
    Migration { sql: include_str!("../migrations/0001_accounts.sql"), then: nothing },
    Migration { sql: include_str!("../migrations/0002_chats.sql"), then: nothing },
    Migration { sql: include_str!("../migrations/0003_search.sql"), then: crate::search::index_all },
];

/// The version this program writes.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

fn nothing(_: &Transaction<'_>) -> Result<(), Error> {
    Ok(())
}

/// Brings the database to [`SCHEMA_VERSION`]; each step is a transaction, so a power cut resumes where it was.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let found = version(connection)?;
    if found > SCHEMA_VERSION {
        return Err(Error::SchemaTooNew { found, known: SCHEMA_VERSION });
    }
    apply(connection, found, SCHEMA_VERSION)
}

/// The version that a database has.
pub(crate) fn version(connection: &Connection) -> Result<usize, Error> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize)
}

/// An empty database in memory, as version `version` made them.
pub(crate) fn empty(version: usize) -> Result<Connection, Error> {
    let mut connection = Connection::open_in_memory()?;
    apply(&mut connection, 0, version)?;
    Ok(connection)
}

fn apply(connection: &mut Connection, from: usize, to: usize) -> Result<(), Error> {
    for (idx, migration) in MIGRATIONS[..to].iter().enumerate().skip(from) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration.sql)?;
        (migration.then)(&transaction)?;
        transaction.pragma_update(None, "user_version", idx as u32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database as version `version` left it, with a row in every table it had.
    fn database_of(version: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS[..version] {
            connection.execute_batch(migration.sql).unwrap();
        }
        connection.pragma_update(None, "user_version", version as u32).unwrap();
        if version >= 1 {
            let rows = "INSERT INTO users VALUES (7, 'Ada', 'admin', 'x', 'en', 0, 1);
                        INSERT INTO settings VALUES ('k', 'v');
                        INSERT INTO sessions VALUES (1, 7, x'00', 'agent', 1, 1);
                        INSERT INTO api_keys VALUES (1, 7, 'key', x'00', 1, NULL);
                        INSERT INTO audit VALUES (1, 1, 7, 'claim', '{}');";
            connection.execute_batch(rows).unwrap();
        }
        if version >= 2 {
            let rows = "INSERT INTO chats VALUES (3, 7, 'Fische', 1, 1);
                        INSERT INTO messages VALUES (5, 3, NULL, 'user', '服务器繁忙', NULL, NULL, 'done', NULL, NULL, 1);";
            connection.execute_batch(rows).unwrap();
        }
        connection
    }

    #[test]
    fn every_older_version_arrives_at_the_newest_with_its_rows() {
        for version in 0..=SCHEMA_VERSION {
            let mut connection = database_of(version);
            migrate(&mut connection).unwrap();
            let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, usize>(0)).unwrap();
            assert_eq!(count("SELECT user_version FROM pragma_user_version"), SCHEMA_VERSION);
            assert_eq!(count("SELECT count(*) FROM users WHERE name = 'ada'"), usize::from(version >= 1));
            assert_eq!(count("SELECT count(*) FROM messages"), usize::from(version >= 2));
            let found = count("SELECT count(*) FROM message_terms WHERE message_terms MATCH '\"繁忙\"'");
            assert_eq!(found, usize::from(version == 2), "from version {version}");
            assert_eq!(count("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
        }
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", SCHEMA_VERSION as u32 + 1).unwrap();
        let refused = migrate(&mut connection);
        assert!(matches!(refused, Err(Error::SchemaTooNew { found, .. }) if found == SCHEMA_VERSION + 1));
    }
}
