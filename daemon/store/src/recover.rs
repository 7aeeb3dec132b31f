//! The way back in for an administrator who has lost the password. Who may take it is not known here: whoever calls this has
//! made sure that somebody stands at the box.

use rusqlite::{OptionalExtension, Transaction};
use serde_json::json;

use crate::{Error, NewUser, Privilege, Store, User, UserChange, UserId, audit, users};

impl Store {
    /// Gives the account of this name a new password and the admin's role, enables it and ends its sessions; where there is
    /// none, makes it. Its chats, its keys and all other accounts stay as they are.
    ///
    /// # Errors
    /// It is to be made, and there are [`crate::USERS_MAX`] accounts.
    pub async fn recover(&self, name: &str, password_hash: String) -> Result<User, Error> {
        let name = name.to_owned();
        self.call(move |tx| recover(tx, name, password_hash)).await
    }
}

fn recover(tx: &Transaction<'_>, name: String, password_hash: String) -> Result<User, Error> {
    let sql = "SELECT id FROM users WHERE name = ?1";
    let known: Option<UserId> = tx.prepare_cached(sql)?.query_row([&name], |row| row.get(0)).optional()?;
    let role = Privilege::Admin;
    let user = match known {
        Some(id) => {
            let change = UserChange {
                role: Some(role),
                password_hash: Some(password_hash),
                disabled: Some(false),
                ..UserChange::default()
            };
            users::update(tx, id, id, &change)?.expect("a row just found")
        }
        None => users::insert(tx, None, &NewUser { name, password_hash, role, lang: None })?,
    };
    audit::record(tx, Some(user.id), "recovered", &json!({ "user": user.id, "is_new": known.is_none() }))?;
    Ok(user)
}
