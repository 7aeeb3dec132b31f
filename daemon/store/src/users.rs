//! Accounts.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Error, Store, UserId, audit, now_ms};

/// Accounts a box can have.
pub const USERS_MAX: usize = 1000;

/// What an account may do beside chatting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Everything.
    Admin,
    /// Its own chats, keys and settings.
    User,
}

/// Languages of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lang {
    /// Simplified Chinese.
    #[serde(rename = "zh-CN")]
    ZhCn,
    /// English.
    #[serde(rename = "en")]
    En,
}

/// An account, as its owner and the admin may see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct User {
    /// Row.
    pub id: UserId,
    /// Unique, case ignored.
    pub name: String,
    /// What it may do.
    pub role: Privilege,
    /// Chosen language; `None` follows the browser.
    pub lang: Option<Lang>,
    /// Can't sign in, keys don't work.
    pub disabled: bool,
    /// Unix ms.
    pub created_at: i64,
}

/// An account in the admin's list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserRow {
    /// The account.
    #[serde(flatten)]
    pub user: User,
    /// Its browsers' last sign of life, unix ms, to the minute.
    pub last_seen_at: Option<i64>,
}

/// An account to create.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Unique, case ignored.
    pub name: String,
    /// From [`crate::password::hash`].
    pub password_hash: String,
    /// What it may do.
    pub role: Privilege,
    /// Chosen language.
    pub lang: Option<Lang>,
}

/// Changes to an account; `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// New name.
    pub name: Option<String>,
    /// New language.
    pub lang: Option<Lang>,
    /// New role.
    pub role: Option<Privilege>,
    /// New password, hashed; ends the account's sessions.
    pub password_hash: Option<String>,
    /// Disabled ends the account's sessions too.
    pub disabled: Option<bool>,
}

impl Store {
    /// Creates an account; `None` as actor is the box itself.
    ///
    /// # Errors
    /// The name is taken, or there are [`USERS_MAX`] accounts.
    pub async fn create_user(&self, actor: Option<UserId>, user: NewUser) -> Result<User, Error> {
        self.call(move |tx| insert(tx, actor, &user)).await
    }

    /// An account and the hash of its password, by name.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<(User, String)>, Error> {
        let name = name.to_owned();
        self.call(move |tx| {
            let sql =
                "SELECT id, name, role, lang, disabled, created_at, password_hash FROM users WHERE name = ?1";
            let found = tx.prepare_cached(sql)?.query_row([name], |row| Ok((user(row)?, row.get(6)?)));
            Ok(found.optional()?)
        })
        .await
    }

    /// The hash of an account's password.
    pub async fn password_hash(&self, id: UserId) -> Result<Option<String>, Error> {
        self.call(move |tx| {
            let sql = "SELECT password_hash FROM users WHERE id = ?1";
            Ok(tx.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// All accounts, oldest first.
    pub async fn users(&self) -> Result<Vec<UserRow>, Error> {
        self.call(move |tx| {
            let sql = "SELECT id, name, role, lang, disabled, created_at,
                       (SELECT max(last_seen_at) FROM sessions WHERE user_id = users.id) FROM users ORDER BY id";
            let mut statement = tx.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok(UserRow { user: user(row)?, last_seen_at: row.get(6)? }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Changes an account; `None` where it doesn't exist.
    ///
    /// # Errors
    /// The name is taken, or no admin would be left.
    pub async fn change_user(
        &self,
        actor: UserId,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<User>, Error> {
        self.call(move |tx| update(tx, actor, id, &change)).await
    }

    /// Deletes an account with its sessions, keys and chats; false where it doesn't exist.
    ///
    /// # Errors
    /// No admin would be left.
    pub async fn delete_user(&self, actor: UserId, id: UserId) -> Result<bool, Error> {
        self.call(move |tx| {
            let deleted = tx.execute("DELETE FROM users WHERE id = ?1", [id])? > 0;
            require_an_admin(tx)?;
            audit::record(tx, Some(actor), "user_deleted", &json!({ "user": id }))?;
            Ok(deleted)
        })
        .await
    }
}

pub(crate) fn insert(tx: &Transaction<'_>, actor: Option<UserId>, new: &NewUser) -> Result<User, Error> {
    let count: usize = tx.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    if count >= USERS_MAX {
        return Err(Error::TooMany { what: "accounts", max: USERS_MAX });
    }
    let sql = "INSERT INTO users (name, role, password_hash, lang, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let args = params![new.name, new.role, new.password_hash, new.lang, now_ms()];
    tx.execute(sql, args).map_err(|source| name_taken(source, &new.name))?;
    let id = UserId(tx.last_insert_rowid());
    audit::record(tx, actor, "user_created", &json!({ "user": id, "role": new.role }))?;
    Ok(find(tx, id)?.expect("a row just inserted"))
}

pub(crate) fn update(
    tx: &Transaction<'_>,
    actor: UserId,
    id: UserId,
    change: &UserChange,
) -> Result<Option<User>, Error> {
    let UserChange { name, lang, role, password_hash, disabled } = change;
    let sql =
        "UPDATE users SET name = coalesce(?2, name), lang = coalesce(?3, lang), role = coalesce(?4, role),
               password_hash = coalesce(?5, password_hash), disabled = coalesce(?6, disabled) WHERE id = ?1";
    tx.execute(sql, params![id, name, lang, role, password_hash, disabled])
        .map_err(|source| name_taken(source, name.as_deref().unwrap_or_default()))?;
    require_an_admin(tx)?;
    if password_hash.is_some() || *disabled == Some(true) {
        tx.execute("DELETE FROM sessions WHERE user_id = ?1", [id])?;
    }
    let detail = json!({ "user": id, "name": name.is_some(), "role": role, "disabled": disabled,
        "password": password_hash.is_some() });
    audit::record(tx, Some(actor), "user_changed", &detail)?;
    find(tx, id)
}

/// A name must stay free for somebody who can undo mistakes.
fn require_an_admin(tx: &Transaction<'_>) -> Result<(), Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' AND disabled = 0)";
    if tx.query_row(sql, [], |row| row.get(0))? { Ok(()) } else { Err(Error::LastAdmin) }
}

pub(crate) fn find(tx: &Transaction<'_>, id: UserId) -> Result<Option<User>, Error> {
    let sql = "SELECT id, name, role, lang, disabled, created_at FROM users WHERE id = ?1";
    Ok(tx.prepare_cached(sql)?.query_row([id], user).optional()?)
}

/// Reads the six columns that every query of an account begins with.
pub(crate) fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        role: row.get(2)?,
        lang: row.get(3)?,
        disabled: row.get(4)?,
        created_at: row.get(5)?,
    })
}

fn name_taken(source: rusqlite::Error, name: &str) -> Error {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => Error::NameTaken { name: name.to_owned() },
        _ => source.into(),
    }
}

/// Enums that are stored under the name they have in JSON.
macro_rules! stored_as_text {
    ($name:ident, $($variant:path = $text:literal),+) => {
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(match self { $($variant => $text,)+ }.into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_str()? {
                    $($text => Ok($variant),)+
                    _ => Err(FromSqlError::InvalidType),
                }
            }
        }
    };
}
pub(crate) use stored_as_text;

stored_as_text!(Privilege, Privilege::Admin = "admin", Privilege::User = "user");
stored_as_text!(Lang, Lang::ZhCn = "zh-CN", Lang::En = "en");
