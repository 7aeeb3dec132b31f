//! Backup of a box to a file, and its return on this box or another, encrypted with a passphrase.
//!
//! ```text
//! create    state folder ── copy of the database, without sessions ──> tar ── age ──> FILE.part ── read back ──> FILE
//! restore   FILE ── age ── tar ──> .restore/parts/ ── checked, synced, marked ──> … the next start: finish_restore
//! ```
//!
//! A backup is what the box knows, not what it runs: accounts with their passwords' hashes, API keys' hashes, chats, settings,
//! the audit log, whom it believes. No sessions, no models, nothing that belongs to the machine. The format (version 1), from the
//! outside in:
//!
//! ```text
//! age v1      one recipient, `scrypt`; whoever has the passphrase opens it with any age                       age.rs
//! tar         [ backup.json | wels.sqlite | trust.json ]      any tar unpacks it                              tar.rs
//! backup.json made when, by which version, what follows and how large it is: everything else follows          contents.rs
//! ```
//!
//! Each 64 KiB are authenticated with their place and whether they are the last: what was cut or changed is noticed before
//! anything is replaced. Nothing is replaced while the daemon runs: a restore lies ready beside the state, and the
//! daemon's next start switches by renaming, before the store is opened (`switch.rs` draws how). What was there before stays in
//! `before-restore/`.
//!
//! Sync; of the workspace it uses `store` only. Start reading at `create.rs` and `restore.rs`.

mod age;
mod contents;
mod create;
mod error;
mod files;
mod name;
mod restore;
mod switch;
mod tar;
mod watch;

pub use contents::{DATABASE, FORMAT, Info, Part};
pub use create::{create, create_file};
pub use error::Error;
pub use name::{Found, file_name, found, time};
pub use restore::{info, restore};
pub use switch::{BEFORE, finish_restore};
pub use watch::{Step, Watch};

/// Characters that a passphrase for a new backup must have: whoever finds the stick can try as many as they like.
pub const PASSPHRASE_CHARS_MIN: usize = 12;
/// Bytes that a passphrase may have.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;
