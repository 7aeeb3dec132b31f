//! The page's own API, `/api`: sessions by cookie, everything by owner.

pub(crate) mod account;
mod answer;
pub(crate) mod chats;
pub(crate) mod export;
pub(crate) mod keys;
pub(crate) mod measure;
pub(crate) mod messages;
pub(crate) mod recover;
pub(crate) mod runs;
pub(crate) mod status;
pub(crate) mod updates;
pub(crate) mod users;

use store::password;

use crate::problem::{Problem, Result};

/// Characters of a name of a person, a key or a chat.
const NAME_CHARS_MAX: usize = 64;

/// A name without the spaces around it, if it can be one.
pub(crate) fn checked_name(name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let message = format!("a name has 1 to {NAME_CHARS_MAX} characters on one line");
        return Err(Problem::invalid("invalid_name", message).param("name"));
    }
    Ok(name.to_owned())
}

/// A password as it is, if it can be one.
pub(crate) fn checked_password(password: String) -> Result<String> {
    if password.chars().count() < password::CHARS_MIN || password.len() > password::BYTES_MAX {
        let message = format!("a password has {} characters at least", password::CHARS_MIN);
        return Err(Problem::invalid("weak_password", message).param("password"));
    }
    Ok(password)
}
