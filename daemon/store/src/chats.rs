//! Chats: titles and times; what was said is in `messages.rs`.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;

use crate::{ChatId, Error, Store, UserId, now_ms, search};

/// Chats listed at most at a time.
pub const CHATS_LISTED_MAX: usize = 200;

/// A chat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chat {
    /// Row.
    pub id: ChatId,
    /// Empty until the first question.
    pub title: String,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms; grows with every message.
    pub updated_at: i64,
}

impl Store {
    /// An empty chat of `owner`.
    pub async fn create_chat(&self, owner: UserId) -> Result<Chat, Error> {
        self.call(move |tx| {
            let now = now_ms();
            let sql = "INSERT INTO chats (owner_id, title, created_at, updated_at) VALUES (?1, '', ?2, ?2)";
            tx.execute(sql, params![owner, now])?;
            let id = ChatId(tx.last_insert_rowid());
            Ok(Chat { id, title: String::new(), created_at: now, updated_at: now })
        })
        .await
    }

    /// Chats of `owner`, the newest first, of those last changed before `before`.
    pub async fn chats(&self, owner: UserId, before: Option<i64>, limit: usize) -> Result<Vec<Chat>, Error> {
        self.call(move |tx| {
            let sql =
                "SELECT id, title, created_at, updated_at FROM chats WHERE owner_id = ?1 AND updated_at < ?2
                       ORDER BY updated_at DESC, id DESC LIMIT ?3";
            let args = params![owner, before.unwrap_or(i64::MAX), limit.min(CHATS_LISTED_MAX)];
            let chats = tx.prepare_cached(sql)?.query_map(args, chat)?.collect::<Result<_, _>>()?;
            Ok(chats)
        })
        .await
    }

    /// A chat of `owner`.
    pub async fn chat(&self, owner: UserId, id: ChatId) -> Result<Option<Chat>, Error> {
        self.call(move |tx| find(tx, owner, id)).await
    }

    /// Renames a chat of `owner`; `None` where there is none such.
    pub async fn rename_chat(&self, owner: UserId, id: ChatId, title: &str) -> Result<Option<Chat>, Error> {
        let title = title.to_owned();
        self.call(move |tx| if set_title(tx, owner, id, &title)? { find(tx, owner, id) } else { Ok(None) })
            .await
    }

    /// Deletes a chat of `owner` and all that was said in it; false where there is none such.
    pub async fn delete_chat(&self, owner: UserId, id: ChatId) -> Result<bool, Error> {
        self.call(move |tx| {
            Ok(tx.execute("DELETE FROM chats WHERE id = ?1 AND owner_id = ?2", params![id, owner])? > 0)
        })
        .await
    }
}

pub(crate) fn find(tx: &Transaction<'_>, owner: UserId, id: ChatId) -> Result<Option<Chat>, Error> {
    let sql = "SELECT id, title, created_at, updated_at FROM chats WHERE id = ?1 AND owner_id = ?2";
    Ok(tx.prepare_cached(sql)?.query_row(params![id, owner], chat).optional()?)
}

pub(crate) fn set_title(tx: &Transaction<'_>, owner: UserId, id: ChatId, title: &str) -> Result<bool, Error> {
    let sql = "UPDATE chats SET title = ?3 WHERE id = ?1 AND owner_id = ?2";
    let found = tx.prepare_cached(sql)?.execute(params![id, owner, title])? > 0;
    if found {
        search::index_title(tx, id, title)?;
    }
    Ok(found)
}

fn chat(row: &Row<'_>) -> rusqlite::Result<Chat> {
    Ok(Chat { id: row.get(0)?, title: row.get(1)?, created_at: row.get(2)?, updated_at: row.get(3)? })
}
