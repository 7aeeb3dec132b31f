//! What the box remembers: accounts, sessions, API keys, chats, settings and the audit log, in one SQLite file.
//!
//! [`Store`] is a cheap handle that async code may clone; one thread owns the one connection and runs every
//! transaction in the order of arrival, so nothing here ever meets a locked database. The queue to it is bounded.
//!
//! ```text
//! Store::ask(owner, ..) -> job -> [bounded queue] -> writer thread: BEGIN .. COMMIT -> reply
//! ```
//!
//! - Every statement about something that belongs to somebody names the owner in its SQL: a wrong owner finds nothing.
//! - Secrets are stored as hashes only ([`password`], [`secret`]).
//! - The schema is made by the numbered files in `migrations/`, applied in order and counted in `user_version`.
//! - A commit is on the disk when its reply arrives (WAL, `synchronous = FULL`).
//!
//! A leaf: depends on no other crate of the workspace, and on no runtime (only tokio's channels). Start reading at
//! `writer.rs`, then `messages.rs`.

mod audit;
mod carry;
mod chats;
mod check;
mod claim;
mod clock;
mod error;
mod ids;
mod keys;
mod messages;
mod migrate;
pub mod password;
mod recover;
mod search;
pub mod secret;
mod sessions;
mod settings;
mod users;
mod writer;

pub use audit::AuditEntry;
pub use carry::{copy_out, take_in};
pub use chats::{CHATS_LISTED_MAX, Chat};
pub use check::check;
pub use claim::ClaimError;
pub use clock::now_ms;
pub use error::Error;
pub use ids::{ChatId, KeyId, MessageId, SessionId, UserId};
pub use keys::{KEYS_MAX, KeyInfo, KeyOwner, NewKey};
pub use messages::{Answer, Asked, Message, Receipt, Role, Status};
pub use migrate::SCHEMA_VERSION;
pub use search::{HITS_MAX, SearchHit};
pub use sessions::{NewSession, SESSIONS_MAX, SessionInfo, SessionOwner};
pub use users::{Lang, NewUser, Privilege, USERS_MAX, User, UserChange, UserRow};
pub use writer::Store;
