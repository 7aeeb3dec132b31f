//! API keys: `wels_<id>_<64 hexadecimal digits>`, shown once, stored hashed.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde_json::json;

use crate::secret::{Hash, sha256, token};
use crate::{Error, KeyId, Store, User, UserId, audit, now_ms, users};

/// Keys an account can have.
pub const KEYS_MAX: usize = 64;

/// "Last used" is this coarse, so that not every request writes.
const USED_EVERY_MS: i64 = 60 * 1000;

/// A key, as its owner may see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyInfo {
    /// Row.
    pub id: KeyId,
    /// Given by the owner.
    pub name: String,
    /// The part of the key that is no secret.
    pub prefix: String,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms, to the minute.
    pub last_used_at: Option<i64>,
}

/// A fresh key.
#[derive(Clone, Debug, Serialize)]
pub struct NewKey {
    /// As listed later.
    #[serde(flatten)]
    pub info: KeyInfo,
    /// The whole key; it can't be had again.
    pub key: String,
}

/// Who a key belongs to.
#[derive(Clone, Debug)]
pub struct KeyOwner {
    /// The key.
    pub key: KeyId,
    /// The account.
    pub user: User,
}

impl Store {
    /// Makes a key for `owner`.
    ///
    /// # Errors
    /// There are [`KEYS_MAX`] already.
    pub async fn create_key(&self, owner: UserId, name: &str) -> Result<NewKey, Error> {
        let name = name.to_owned();
        self.call(move |tx| {
            let sql = "SELECT count(*) FROM api_keys WHERE user_id = ?1";
            if tx.query_row(sql, [owner], |row| row.get::<_, usize>(0))? >= KEYS_MAX {
                return Err(Error::TooMany { what: "API keys", max: KEYS_MAX });
            }
            let (secret, created_at) = (token(), now_ms());
            let sql =
                "INSERT INTO api_keys (user_id, name, secret_sha256, created_at) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, params![owner, name, sha256(&secret), created_at])?;
            let id = KeyId(tx.last_insert_rowid());
            audit::record(tx, Some(owner), "key_created", &json!({ "key": id }))?;
            let info = KeyInfo { id, name, prefix: prefix(id), created_at, last_used_at: None };
            Ok(NewKey { key: format!("{}{secret}", info.prefix), info })
        })
        .await
    }

    /// The account behind a presented key, if both are valid.
    pub async fn key_owner(&self, presented: &str) -> Result<Option<KeyOwner>, Error> {
        let Some((key, secret_sha256)) = parse(presented) else { return Ok(None) };
        self.call(move |tx| {
            let sql = "SELECT u.id, u.name, u.role, u.lang, u.disabled, u.created_at, k.last_used_at
                       FROM api_keys k JOIN users u ON u.id = k.user_id
                       WHERE k.id = ?1 AND k.secret_sha256 = ?2 AND u.disabled = 0";
            let found = tx.prepare_cached(sql)?.query_row(params![key, secret_sha256], |row| {
                Ok((users::user(row)?, row.get::<_, Option<i64>>(6)?))
            });
            let Some((user, used)) = found.optional()? else { return Ok(None) };
            let now = now_ms();
            if used.is_none_or(|used| now - used > USED_EVERY_MS) {
                let sql = "UPDATE api_keys SET last_used_at = ?2 WHERE id = ?1";
                tx.prepare_cached(sql)?.execute(params![key, now])?;
            }
            Ok(Some(KeyOwner { key, user }))
        })
        .await
    }

    /// Keys of `owner`, newest first.
    pub async fn keys(&self, owner: UserId) -> Result<Vec<KeyInfo>, Error> {
        self.call(move |tx| {
            let sql =
                "SELECT id, name, created_at, last_used_at FROM api_keys WHERE user_id = ?1 ORDER BY id DESC";
            let mut statement = tx.prepare_cached(sql)?;
            let rows = statement.query_map([owner], |row| {
                let id = row.get(0)?;
                let (name, created_at, last_used_at) = (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(KeyInfo { id, name, prefix: prefix(id), created_at, last_used_at })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Revokes a key of `owner`; false where there is none such.
    pub async fn revoke_key(&self, owner: UserId, key: KeyId) -> Result<bool, Error> {
        self.call(move |tx| {
            let sql = "DELETE FROM api_keys WHERE id = ?1 AND user_id = ?2";
            let revoked = tx.execute(sql, params![key, owner])? > 0;
            if revoked {
                audit::record(tx, Some(owner), "key_revoked", &json!({ "key": key }))?;
            }
            Ok(revoked)
        })
        .await
    }
}

fn prefix(id: KeyId) -> String {
    format!("wels_{id}_")
}

fn parse(presented: &str) -> Option<(KeyId, Hash)> {
    let (id, secret) = presented.strip_prefix("wels_")?.split_once('_')?;
    Some((id.parse().ok()?, sha256(secret)))
}
