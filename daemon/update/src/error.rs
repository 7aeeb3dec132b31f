//! What can go wrong with a bundle: always what, where, and what to do now.

use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::Kind;
use crate::{gpt, key_list, manifest, system};

/// A bundle that can't be made, read, believed or installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {doing}: {cause}", path.display())]
    Io {
        /// The file, folder or device.
        path: PathBuf,
        /// What was being done: "open", "write".
        doing: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// The carrier stopped answering.
    #[error(
        "{}: cannot read at byte {offset}: {cause}; if the stick was pulled, put it in again: the copy goes on where it was",
        path.display()
    )]
    Carrier {
        /// The stick's device or file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The system's reason.
        cause: io::Error,
    },
    /// The disk filled up.
    #[error(
        "{}: the disk is full; what was copied is kept: make room and start again", path.display()
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The disk can't hold it: said before anything is copied.
    #[error("{}: {need} more bytes are needed, {free} are free; remove a model and start again", path.display())]
    NoSpace {
        /// The folder of models.
        path: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// Nothing that this code reads.
    #[error(
        "{}: no bundle here; give a stick, an image made by `wels bundle create`, or a folder with wels-bundle/ in it",
        path.display()
    )]
    NoBundle {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A partition table that can't be believed.
    #[error("{}: {problem}; write the stick anew", path.display())]
    Gpt {
        /// The stick.
        path: PathBuf,
        /// What is wrong with it.
        problem: gpt::Problem,
    },
    /// Members of the stream that are not what the format asks for.
    #[error("{}: the bundle is damaged: {what}; write the stick anew", path.display())]
    Stream {
        /// The stick.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Less is there than there should be.
    #[error("{}: the bundle has {want} bytes, only {got} are there; copy it anew", path.display())]
    Truncated {
        /// The stick.
        path: PathBuf,
        /// Bytes it should have.
        want: u64,
        /// Bytes there are.
        got: u64,
    },
    /// A chunk is not what the manifest says.
    #[error("{}: the chunk at byte {offset} of {file} is damaged; write the stick anew", path.display())]
    Corrupt {
        /// The stick, or the file it was taken from.
        path: PathBuf,
        /// The pack's file.
        file: String,
        /// Where in that.
        offset: u64,
    },
    /// The disk gave back other bytes than it was given.
    #[error(
        "{}: the disk gave back other bytes at {offset} than it was given; start again: they are copied anew. If that happens \
         again, the disk is failing",
        path.display()
    )]
    DiskDamaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// A manifest that promises what can't be.
    #[error("{}: {problem}", path.display())]
    Manifest {
        /// The stick.
        path: PathBuf,
        /// What is wrong with it.
        problem: manifest::Problem,
    },
    /// Lists of keys that are not what the format asks for.
    #[error("the lists of release keys: {0}")]
    KeyLists(key_list::Problem),
    /// Nobody signed it.
    #[error("{}: the bundle is not signed; sign it with `wels bundle sign`", path.display())]
    Unsigned {
        /// The stick.
        path: PathBuf,
    },
    /// The bytes are not those that were signed.
    #[error("{}: the signature is wrong: the bundle was changed after it was signed, or damaged", path.display())]
    BadSignature {
        /// The stick.
        path: PathBuf,
    },
    /// Signed, but by whom?
    #[error(
        "{}: signed by a key this box doesn't know: {fingerprint}; if it is yours, an administrator can add it with \
         `wels bundle trust`",
        path.display()
    )]
    UnknownKey {
        /// The stick.
        path: PathBuf,
        /// The key's fingerprint.
        fingerprint: String,
    },
    /// Somebody who signs models.
    #[error(
        "{}: a system for this box is signed by who made the box; {name:?}, whom an administrator added, signs models",
        path.display()
    )]
    NotForSystems {
        /// The stick.
        path: PathBuf,
        /// Who signed it.
        name: String,
    },
    /// Not the key that leads the lists.
    #[error("the key {fingerprint} is not the root that the last list names")]
    NotTheRoot {
        /// Of the key that was given.
        fingerprint: String,
    },
    /// A key for another purpose.
    #[error("the key {name:?} is a {got} key; this takes a {want} key")]
    WrongRole {
        /// The key's name.
        name: String,
        /// What it is for.
        got: &'static str,
        /// What it should be for.
        want: &'static str,
    },
    /// A name that can't be shown.
    #[error("a key can't be named {name:?}: letters, digits, spaces and . - _ @ ( ) can be, 60 at most")]
    KeyName {
        /// The name.
        name: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key")]
    NoRandomness,
    /// A file of the box's own that isn't what it should be.
    #[error("{}: not readable: {cause}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        cause: serde_json::Error,
    },
    /// Versions only go up.
    #[error("{name} {version} is older than {newest}, which this box has had; an administrator can allow it")]
    Older {
        /// The bundle's name.
        name: String,
        /// Its version.
        version: u64,
        /// The newest that was installed.
        newest: u64,
    },
    /// Made for a later system.
    #[error(
        "{name} {version} needs version {need} of the box's system, this box has {has}; install the newer system first"
    )]
    SystemTooOld {
        /// The bundle's name.
        name: String,
        /// Its version.
        version: u64,
        /// The oldest system that can use it, by its counter.
        need: u64,
        /// The one that runs.
        has: u64,
    },
    /// Another bundle calls itself the same.
    #[error("{name} {version} is installed already with other contents; give the new one a higher version")]
    SameVersion {
        /// The bundle's name.
        name: String,
        /// Its version.
        version: u64,
    },
    /// A delta bundle without what it builds on.
    #[error(
        "the bundle carries only what is new: {missing} chunks of {name} {version} are neither in it nor on this box; \
         bring the full bundle"
    )]
    MissingChunks {
        /// The bundle's name.
        name: String,
        /// Its version.
        version: u64,
        /// Chunks that are nowhere.
        missing: usize,
    },
    /// Another installation is under way.
    #[error("{}: something is being installed; wait for it to finish", path.display())]
    Busy {
        /// The folder of models.
        path: PathBuf,
    },
    /// Stopped on request.
    #[error("stopped; what was copied is kept")]
    Cancelled,
    /// Nothing to go back to.
    #[error("there is no earlier {} to go back to", match kind { Kind::Model => "model", Kind::System => "system" })]
    NoPrevious {
        /// Of what.
        kind: Kind,
    },
    /// Nothing of that name and version is there.
    #[error("{name} {version} is not installed")]
    NotInstalled {
        /// Name.
        name: String,
        /// Version.
        version: u64,
    },
    /// What is used is not removed.
    #[error("{name} {version} is in use; switch to another model first")]
    InUse {
        /// Name.
        name: String,
        /// Version.
        version: u64,
    },
    /// A system version that can't be put into its slot, or gone to.
    #[error("{}: {problem}", path.display())]
    System {
        /// The drive, the boot partition, or the version's folder.
        path: PathBuf,
        /// What is wrong.
        problem: system::Problem,
    },
    /// A target that is already there.
    #[error("{}: exists already; choose another name or remove it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A folder that no bundle can be made of.
    #[error("{}: {what}", path.display())]
    Source {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A device that is not to be overwritten.
    #[error("{}: {why}; choose the right device, or insist with --force", path.display())]
    RefusedDevice {
        /// The device.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// What was written reads otherwise.
    #[error("{}: reads back differently at byte {offset}; the stick is broken: use another", path.display())]
    ReadBack {
        /// The device or file.
        path: PathBuf,
        /// The first difference, to a megabyte.
        offset: u64,
    },
}

impl Error {
    /// For `map_err`: what was being done to which file. A full disk is told apart.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned() }
            }
            _ => Self::Io { path: path.to_owned(), doing, cause },
        }
    }

    /// A word for programs: the page translates by it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Carrier { .. } => "carrier_gone",
            Self::DiskFull { .. } => "disk_full",
            Self::NoSpace { .. } => "no_space",
            Self::NoBundle { .. } => "no_bundle",
            Self::Gpt { .. } | Self::Stream { .. } | Self::Corrupt { .. } => "damaged",
            Self::DiskDamaged { .. } => "disk_damaged",
            Self::Truncated { .. } => "truncated",
            Self::Manifest { problem: manifest::Problem::Format { .. }, .. } => "newer_format",
            Self::Manifest { .. } => "bad_manifest",
            Self::KeyLists(_) => "bad_keys",
            Self::Unsigned { .. } => "unsigned",
            Self::BadSignature { .. } => "bad_signature",
            Self::UnknownKey { .. } => "unknown_key",
            Self::NotForSystems { .. } => "not_for_systems",
            Self::NotTheRoot { .. } | Self::WrongRole { .. } => "wrong_key",
            Self::KeyName { .. } => "key_name",
            Self::NoRandomness => "no_randomness",
            Self::Json { .. } => "bad_state",
            Self::Older { .. } => "older",
            Self::SystemTooOld { .. } => "system_too_old",
            Self::SameVersion { .. } => "same_version",
            Self::MissingChunks { .. } => "missing_chunks",
            Self::Busy { .. } => "busy",
            Self::Cancelled => "cancelled",
            Self::NoPrevious { .. } => "no_previous",
            Self::NotInstalled { .. } => "not_installed",
            Self::InUse { .. } => "in_use",
            Self::System { problem, .. } => problem.code(),
            Self::Exists { .. } => "exists",
            Self::Source { .. } => "bad_source",
            Self::RefusedDevice { .. } => "refused_device",
            Self::ReadBack { .. } => "read_back",
        }
    }
}
