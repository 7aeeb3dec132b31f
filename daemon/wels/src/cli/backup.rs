//! Options of `wels backup`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Backup {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write accounts, chats, keys and settings to a file; the daemon may run meanwhile. Models are not in it.
    Create(Create),
    /// Put a backup in the place of what is here, when the daemon starts next. Everyone signs in again.
    Restore(Restore),
    /// Read a backup to its end, and say when it was made, by which version, and how large it is.
    Info(Info),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The file to make, or a folder for it; by default wels-backup-YYYY-MM-DD.age in the current folder.
    pub(crate) file: Option<PathBuf>,
    /// Where accounts, chats and settings live.
    #[arg(long, value_name = "DIR", env = "WELS_STATE")]
    pub(crate) state: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
    /// Print one line of JSON at the end instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A backup.
    pub(crate) file: PathBuf,
    /// Where accounts, chats and settings live.
    #[arg(long, value_name = "DIR", env = "WELS_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Replace the accounts and chats that are there; they are kept beside the new ones until the next restore.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
    /// Print one line of JSON at the end instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    /// A backup.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What encrypts a backup.
#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// A file whose first line is the passphrase; without one it is asked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
A backup is an age file with a tar in it: with the passphrase, any age and any tar open it, too.

Examples:
  wels backup create /media/stick
  wels backup info /media/stick/wels-backup-2026-05-31.age
  wels backup restore /media/stick/wels-backup-2026-05-31.age --replace";
