//! Signed-in browsers: opaque tokens, stored hashed.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde_json::json;

use crate::secret::{sha256, token};
use crate::{Error, SessionId, Store, User, UserId, audit, now_ms, users};

/// Browsers an account can be signed in with; the one unused longest is signed out for the next.
pub const SESSIONS_MAX: usize = 32;

/// A session unused this long is over.
const LIFETIME_MS: i64 = 30 * 24 * 3600 * 1000;

/// "Last seen" is this coarse, so that reading a page writes nothing.
const SEEN_EVERY_MS: i64 = 60 * 1000;

/// Characters of a browser's name that are kept.
const AGENT_CHARS_MAX: usize = 256;

/// A fresh session.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Row.
    pub id: SessionId,
    /// The secret for the cookie; it can't be had again.
    pub token: String,
}

/// Who a token belongs to.
#[derive(Clone, Debug)]
pub struct SessionOwner {
    /// The session.
    pub session: SessionId,
    /// The account.
    pub user: User,
}

/// A session, as its owner may see it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionInfo {
    /// Row.
    pub id: SessionId,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms, to the minute.
    pub last_seen_at: i64,
    /// What the browser calls itself.
    pub agent: String,
}

impl Store {
    /// Signs `user` in.
    pub async fn create_session(&self, user: UserId, agent: &str) -> Result<NewSession, Error> {
        let agent: String = agent.chars().take(AGENT_CHARS_MAX).collect();
        let token = token();
        self.call(move |tx| {
            let now = now_ms();
            tx.execute(
                "DELETE FROM sessions WHERE last_seen_at < ?2 OR id IN (SELECT id FROM sessions WHERE user_id = ?1
                 ORDER BY last_seen_at DESC, id DESC LIMIT -1 OFFSET ?3)",
                params![user, now - LIFETIME_MS, SESSIONS_MAX - 1],
            )?;
            let sql = "INSERT INTO sessions (user_id, token_sha256, agent, created_at, last_seen_at)
                       VALUES (?1, ?2, ?3, ?4, ?4)";
            tx.execute(sql, params![user, sha256(&token), agent, now])?;
            let id = SessionId(tx.last_insert_rowid());
            audit::record(tx, Some(user), "signed_in", &json!({ "session": id }))?;
            Ok(NewSession { id, token })
        })
        .await
    }

    /// The session and account behind a cookie's token, if it is alive and the account enabled.
    pub async fn session_owner(&self, token: &str) -> Result<Option<SessionOwner>, Error> {
        let hash = sha256(token);
        self.call(move |tx| {
            let now = now_ms();
            let sql = "SELECT u.id, u.name, u.role, u.lang, u.disabled, u.created_at, s.id, s.last_seen_at
                       FROM sessions s JOIN users u ON u.id = s.user_id
                       WHERE s.token_sha256 = ?1 AND s.last_seen_at >= ?2 AND u.disabled = 0";
            let found = tx.prepare_cached(sql)?.query_row(params![hash, now - LIFETIME_MS], |row| {
                let owner = SessionOwner { user: users::user(row)?, session: row.get(6)? };
                Ok((owner, row.get::<_, i64>(7)?))
            });
            let Some((owner, seen)) = found.optional()? else { return Ok(None) };
            if now - seen > SEEN_EVERY_MS {
                let sql = "UPDATE sessions SET last_seen_at = ?2 WHERE id = ?1";
                tx.prepare_cached(sql)?.execute(params![owner.session, now])?;
            }
            Ok(Some(owner))
        })
        .await
    }

    /// Sessions of `user`, the one used last first.
    pub async fn sessions(&self, user: UserId) -> Result<Vec<SessionInfo>, Error> {
        self.call(move |tx| {
            let sql = "SELECT id, created_at, last_seen_at, agent FROM sessions
                       WHERE user_id = ?1 AND last_seen_at >= ?2 ORDER BY last_seen_at DESC, id DESC";
            let mut statement = tx.prepare_cached(sql)?;
            let rows = statement.query_map(params![user, now_ms() - LIFETIME_MS], |row| {
                Ok(SessionInfo {
                    id: row.get(0)?,
                    created_at: row.get(1)?,
                    last_seen_at: row.get(2)?,
                    agent: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Ends a session of `user`; false where there is none such.
    pub async fn end_session(&self, user: UserId, session: SessionId) -> Result<bool, Error> {
        self.call(move |tx| {
            let sql = "DELETE FROM sessions WHERE id = ?1 AND user_id = ?2";
            Ok(tx.execute(sql, params![session, user])? > 0)
        })
        .await
    }
}
