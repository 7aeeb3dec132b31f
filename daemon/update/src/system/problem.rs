//! Why a system version can't be put into its slot, or gone back to.

use std::io;
use std::path::Path;

use super::{RootHash, SystemVersion};
use crate::{Error, gpt};

/// What is wrong, at the path that [`Error::System`] names.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The drive's table can't be believed.
    #[error("{0}; make a backup, then write the box's image anew")]
    Table(gpt::Problem),
    /// Not the drive of a box.
    #[error("{n} partitions are labelled {label}, there must be one; is this the box's drive?")]
    Partitions {
        /// The label.
        label: &'static str,
        /// How many.
        n: usize,
    },
    /// Nobody knows which slot may be written to.
    #[error("{n} slots hold the system that runs, there must be one; nothing was written")]
    Running {
        /// How many.
        n: usize,
    },
    /// A model, or a bundle of another make.
    #[error("no system version: {what}; nothing was written")]
    NotASystem {
        /// What it lacks.
        what: &'static str,
    },
    /// It doesn't fit.
    #[error("{file} has {bytes} bytes, there is room for {room}; nothing was written")]
    TooLarge {
        /// Which.
        file: &'static str,
        /// Its bytes.
        bytes: u64,
        /// Room.
        room: u64,
    },
    /// Not a boot file of a system.
    #[error("the boot file is not what a box starts: {what}")]
    BootFile {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A boot file that would start something else.
    #[error("system.json says {says}, the boot file {boots}")]
    Disagree {
        /// Version or root hash in system.json.
        says: String,
        /// The same in the boot file.
        boots: String,
    },
    /// What runs can't be written beside itself: the slots could not be told apart.
    #[error("this system runs already (root hash {hash})")]
    Runs {
        /// Its root hash.
        hash: RootHash,
    },
    /// Two versions of one name: which of them the loader takes nobody knows.
    #[error("the system that runs is version {version}, too; give the new one another")]
    SameVersion {
        /// The version.
        version: SystemVersion,
    },
    /// The version before is still needed.
    #[error(
        "the system that runs has not shown yet that it is well; wait until it has: it may still fall back"
    )]
    OnTrial,
    /// Its bytes are not those that were signed.
    #[error("{file} is not what was signed; install the bundle again")]
    Changed {
        /// Which.
        file: &'static str,
    },
    /// The drive gave back other bytes than it was given.
    #[error("{file} reads back differently; start again. If that happens again, the drive is failing")]
    ReadBack {
        /// Which.
        file: &'static str,
    },
    /// The system that runs could not be started again.
    #[error("no boot file here starts the system that runs; nothing was written")]
    NoBootFile,
    /// Nothing to go to.
    #[error("there is no other version of the system to go to")]
    NoOther,
    /// The boot loader would still take another.
    #[error("the boot loader would take version {takes}, not {wanted}")]
    Order {
        /// What it would take.
        takes: String,
        /// What it should.
        wanted: String,
    },
}

impl Problem {
    pub(super) fn at(self, path: &Path) -> Error {
        Error::System { path: path.to_owned(), problem: self }
    }

    /// Bytes of a boot file that can't be read.
    pub(super) fn unreadable(_: io::Error) -> Self {
        Self::BootFile { what: "it is cut short" }
    }

    /// A word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Table(_) | Self::Partitions { .. } => "bad_drive",
            Self::Running { .. } | Self::NoBootFile => "unknown_slot",
            Self::NotASystem { .. } | Self::BootFile { .. } | Self::Disagree { .. } => "bad_system",
            Self::TooLarge { .. } => "system_too_large",
            Self::Runs { .. } | Self::SameVersion { .. } => "runs_already",
            Self::OnTrial => "on_trial",
            Self::Changed { .. } => "damaged",
            Self::ReadBack { .. } => "disk_damaged",
            Self::NoOther => "no_previous",
            Self::Order { .. } => "boot_order",
        }
    }
}
