//! First start: the box belongs to nobody until the one-time code from its console is typed.
//!
//! The code is made anew at each start while the box is unclaimed, so the console can always print it; the file holds
//! only its hash, and the claim, the first admin and the end of the code are one transaction.

use rusqlite::Transaction;
use serde_json::json;

use crate::secret::{code_letters, console_code, sha256};
use crate::{Error, NewUser, Privilege, Store, User, audit, settings, users};

const CLAIM_SETTING: &str = "claim_code_sha256";

/// Why a claim failed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Not the code on the console.
    #[error("this is not the code on the box's console")]
    BadCode,
    /// Somebody was faster.
    #[error("the box has been claimed")]
    AlreadyClaimed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Store {
    /// Whether the box has an owner.
    pub async fn is_claimed(&self) -> Result<bool, Error> {
        self.call(has_users).await
    }

    /// A fresh claim code, `XXXX-XXXX`, replacing any before it; `None` once the box is claimed.
    pub async fn new_claim_code(&self) -> Result<Option<String>, Error> {
        self.call(|tx| {
            if has_users(tx)? {
                return Ok(None);
            }
            let code = console_code();
            settings::set(tx, CLAIM_SETTING, Some(&stored(&code)))?;
            Ok(Some(code))
        })
        .await
    }

    /// Whether `typed` is the claim code: asked before the costly hash of the password is made.
    pub async fn is_claim_code(&self, typed: &str) -> Result<bool, Error> {
        let typed = stored(typed);
        self.call(move |tx| Ok(settings::get(tx, CLAIM_SETTING)? == Some(typed))).await
    }

    /// Makes `owner` the first admin, if `typed` is the code and nobody was faster.
    pub async fn claim(&self, typed: &str, owner: NewUser) -> Result<User, ClaimError> {
        let typed = stored(typed);
        let claimed = self.call(move |tx| {
            if has_users(tx)? {
                return Ok(Err(ClaimError::AlreadyClaimed));
            }
            if settings::get(tx, CLAIM_SETTING)? != Some(typed) {
                return Ok(Err(ClaimError::BadCode));
            }
            settings::set(tx, CLAIM_SETTING, None)?;
            let owner = users::insert(tx, None, &NewUser { role: Privilege::Admin, ..owner })?;
            audit::record(tx, Some(owner.id), "claimed", &json!({}))?;
            Ok(Ok(owner))
        });
        claimed.await?
    }
}

fn stored(code: &str) -> String {
    sha256(&code_letters(code)).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn has_users(tx: &Transaction<'_>) -> Result<bool, Error> {
    Ok(tx.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0))?)
}
