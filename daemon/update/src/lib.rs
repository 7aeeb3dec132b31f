//! Bundles: how a new model or system travels on a stick, and how it gets onto the box so that no pulled stick and no cut
//! cord ever leaves half of it.
//!
//! ```text
//! make       folder ── create ──> carrier: image or wels-bundle/ ── sign ──> ── write ──> stick
//!                                                                                          │
//! install    Carrier::open ── check(Trust) ──> Bundle ── Installer::preview ──> stage ──> Trial ──> commit | abandon
//!            bytes only       signature, then  blobs,    what, who, how long    chunks      the caller's test
//!                             the manifest     checked                          by hash
//! ```
//!
//! The format (version 1), from the outside in:
//!
//! ```text
//! raw image   [ MBR | GPT | ── partition WELS-BUNDLE ─────────────────────────────────────────── | GPT ]      gpt.rs
//! folder      wels-bundle/bundle.tar.000, .001, …   1 GiB each                                                stream.rs
//!                            │ both hold the same stream
//! stream      [ manifest.json | carried | manifest.sig | keys.json | blobs/HASH | blobs/HASH | … ]            layout.rs, tar.rs
//!                  │               │            │            │             │
//!                  │               │            │            │             └ a chunk: plain, zstd, or a patch  coding.rs
//!                  │               │            │            └ release keys, signed by the root                key_list.rs
//!                  │               │            └ Ed25519 over manifest.json's bytes by a release key          keys.rs
//!                  │               └ which chunks are in here: all, or what the version before lacks
//!                  └ name, version, files, chunks with their hashes                                            manifest.rs
//! ```
//!
//! The rules: nothing but the headers above is parsed before the signature is checked; nothing from a stick is executed or
//! mounted; no size is believed before it was compared with what is there; a chunk's stored bytes are hashed before they are
//! decoded, and its plain bytes after. There is no clock in it: a stick from last year installs.
//!
//! This crate is sync, and knows neither models nor HTTP: it uses no other crate of the workspace. Start reading at
//! `manifest.rs`, then `carrier.rs` and `install/mod.rs`; the system's own versions go on in `system/mod.rs`.

mod carrier;
mod coding;
mod create;
mod error;
mod files;
pub mod gpt;
mod hash;
mod install;
mod installed;
pub mod key_list;
mod keys;
mod layout;
pub mod manifest;
mod plain_path;
mod progress;
mod signed;
mod stream;
pub mod system;
mod tar;
mod trust;
mod verify;
mod write;

pub use carrier::{Bundle, Carrier, sign};
pub use create::{CreateOptions, Target, create};
pub use error::Error;
pub use hash::Sha256;
pub use install::{
    Installer, Options, Preview, Staged, Trial, Verdict, installed_manifest, installed_versions,
    verify_installed,
};
pub use installed::{Abandoned, Agreed, Installed, Line, Tests, Version};
pub use key_list::{KeyList, KeyLists, NamedKey};
pub use keys::{PublicKey, PublicKeyFile, Role, SecretKey, Signature};
pub use manifest::{Kind, Manifest};
pub use plain_path::PathProblem;
pub use progress::{Action, Failure, Monitor, Progress, Step};
pub use stream::FOLDER;
pub use trust::{Because, Signer, Trust, root_key};
pub use verify::{Verified, verify};
pub use write::{Device, WriteOptions, device, write};
