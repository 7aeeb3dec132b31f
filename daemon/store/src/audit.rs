//! The audit log: who did what to the box. The database itself refuses to change or delete a line.

use rusqlite::{Transaction, params};
use serde::Serialize;
use serde_json::Value;

use crate::{Error, Store, UserId, now_ms};

/// Lines read at most at a time.
const ENTRIES_MAX: usize = 1000;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditEntry {
    /// Grows by time.
    pub id: i64,
    /// Unix ms.
    pub at: i64,
    /// Whose doing; `None` is the box itself.
    pub actor: Option<UserId>,
    /// A word such as `login` or `key_created`.
    pub action: String,
    /// Facts of that action. Never a secret, never text of a chat.
    pub detail: Value,
}

impl Store {
    /// Appends a line.
    pub async fn audit(
        &self,
        actor: Option<UserId>,
        action: &'static str,
        detail: Value,
    ) -> Result<(), Error> {
        self.call(move |tx| record(tx, actor, action, &detail)).await
    }

    /// The newest lines first, `before` excluded.
    pub async fn audit_log(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>, Error> {
        self.call(move |tx| {
            let sql =
                "SELECT id, at, actor_id, action, detail FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
            let mut statement = tx.prepare_cached(sql)?;
            let args = params![before.unwrap_or(i64::MAX), limit.min(ENTRIES_MAX)];
            let rows = statement.query_map(args, |row| {
                let detail: String = row.get(4)?;
                Ok(AuditEntry {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    actor: row.get(2)?,
                    action: row.get(3)?,
                    detail: serde_json::from_str(&detail).unwrap_or(Value::Null),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// Appends a line in the transaction of the deed it speaks of.
pub(crate) fn record(
    tx: &Transaction<'_>,
    actor: Option<UserId>,
    action: &str,
    detail: &Value,
) -> Result<(), Error> {
    let sql = "INSERT INTO audit (at, actor_id, action, detail) VALUES (?1, ?2, ?3, ?4)";
    tx.prepare_cached(sql)?.execute(params![now_ms(), actor, action, detail.to_string()])?;
    Ok(())
}
