//! Settings of the box: names and texts; their meaning belongs to whoever reads them.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::{Error, Store};

impl Store {
    /// The value of `key`.
    pub async fn setting(&self, key: &str) -> Result<Option<String>, Error> {
        let key = key.to_owned();
        self.call(move |tx| get(tx, &key)).await
    }

    /// Sets `key`, or forgets it where `value` is `None`.
    pub async fn set_setting(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.call(move |tx| set(tx, &key, value.as_deref())).await
    }
}

pub(crate) fn get(tx: &Transaction<'_>, key: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT value FROM settings WHERE key = ?1";
    Ok(tx.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
}

pub(crate) fn set(tx: &Transaction<'_>, key: &str, value: Option<&str>) -> Result<(), Error> {
    match value {
        Some(value) => tx.execute(
            "INSERT INTO settings VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            params![key, value],
        )?,
        None => tx.execute("DELETE FROM settings WHERE key = ?1", [key])?,
    };
    Ok(())
}
