//! Options of `wels bundle`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bundle {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a key: a root key, to be kept offline, or a release key.
    Keygen(Keygen),
    /// Say which release keys boxes are to believe: a list signed by the root key, added to a file of lists.
    Keys(Keys),
    /// Make a bundle of a pack, or of a system's files.
    Create(Create),
    /// Sign a bundle in its place.
    Sign(Sign),
    /// Check the signature, and every byte.
    Verify(Verify),
    /// Show what a bundle holds, whoever signed it. Nothing of it is believed.
    Info(Info),
    /// Write a bundle to a stick or to an image file, and read it back.
    Write(Write),
    /// Say whose bundles this machine takes: list, add or remove keys.
    Trust(Trust),
    /// Install a bundle, going on where an earlier try stopped.
    Install(Install),
    /// Go back to the model that served before the one that serves now.
    Rollback(Rollback),
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// What the key may sign.
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// Whose key it is: shown to those who install.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The secret key; FILE.pub beside it is the half for others.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Lists of release keys.
    Root,
    /// Bundles.
    Release,
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// The file of lists, which is made where it isn't there, and put into bundles by `sign --keys`.
    pub(crate) lists: PathBuf,
    /// The root key that boxes trust.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: PathBuf,
    /// Release keys (.pub) to be believed from now on: all of them, those of the last list are not kept.
    #[arg(long, value_name = "FILE.pub", num_args = 0..)]
    pub(crate) release: Vec<PathBuf>,
    /// The root key that boxes are to trust from this list on.
    #[arg(long, value_name = "FILE")]
    pub(crate) next_root: Option<PathBuf>,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// A pack; with `--kind system` a folder of the system's files.
    pub(crate) source: PathBuf,
    /// Write an image, to be flashed to a stick.
    #[arg(long, value_name = "FILE", required_unless_present = "folder", conflicts_with = "folder")]
    pub(crate) image: Option<PathBuf>,
    /// Write wels-bundle/ into this folder, e.g. a stick with FAT32 or exFAT.
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// What it is for.
    #[arg(long, value_enum, default_value_t = Kind::Model)]
    pub(crate) kind: Kind,
    /// What it is called, e.g. r1-distill-7b: versions of one name replace each other.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Its version, a number that goes up: boxes refuse a lower one than they have had.
    #[arg(long, value_name = "N")]
    pub(crate) counter: u64,
    /// Its name for people; by default its name.
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// When it was made, in words; shown, never trusted.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) created: String,
    /// Memory that a box needs, e.g. 16GiB; shown before it is installed.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) memory: Option<u64>,
    /// Carry only what this earlier version lacks: a bundle, a pack, or the folder of an earlier system's files.
    #[arg(long, value_name = "PATH")]
    pub(crate) delta_from: Option<PathBuf>,
    /// Sign it with this release key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Put these lists of release keys into it.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) keys: Option<PathBuf>,
    /// Print one line of JSON at the end instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A pack.
    Model,
    /// Root image, verity hashes, kernel image.
    System,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// An image, or a folder with wels-bundle/.
    pub(crate) bundle: PathBuf,
    /// A release key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Lists of release keys, made by `keys`: boxes learn from them whom to believe.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whom to believe.
#[derive(Debug, Args)]
pub(crate) struct Believe {
    /// Where this machine keeps whom it believes.
    #[arg(long, value_name = "DIR", env = "WELS_STATE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A stick's device, an image, or a folder with wels-bundle/.
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) believe: Believe,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    /// A stick's device, an image, or a folder with wels-bundle/.
    pub(crate) bundle: PathBuf,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Write {
    /// An image, or a folder with wels-bundle/.
    pub(crate) bundle: PathBuf,
    /// A stick's device, or a file to make.
    pub(crate) dest: PathBuf,
    /// Write even to what is in use or not removable, or over a file. All that is there is lost.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one line of JSON at the end instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// A public key (.pub) to believe from now on; without one all are listed. A root key replaces the one there is.
    pub(crate) key: Option<PathBuf>,
    /// No longer believe the key of this fingerprint, which was added here.
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "key")]
    pub(crate) remove: Option<String>,
    #[command(flatten)]
    pub(crate) believe: Believe,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// A stick's device, an image, or a folder with wels-bundle/.
    pub(crate) bundle: PathBuf,
    /// The folder of models.
    #[arg(long, value_name = "DIR", env = "WELS_MODELS")]
    pub(crate) models: PathBuf,
    #[command(flatten)]
    pub(crate) believe: Believe,
    /// Say what it would do, and do nothing.
    #[arg(long)]
    pub(crate) preview: bool,
    /// Take a version that is older than one this machine has had.
    #[arg(long)]
    pub(crate) allow_older: bool,
    /// Files or devices that a system's patches may refer to: its present slot.
    #[arg(long, value_name = "PATH")]
    pub(crate) base: Vec<PathBuf>,
    /// Print one line of JSON at the end instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The folder of models.
    #[arg(long, value_name = "DIR", env = "WELS_MODELS")]
    pub(crate) models: PathBuf,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wels bundle keygen --role root --name 'Example root' --out root.key
  wels bundle keygen --role release --name 'Example releases' --out release.key
  wels bundle keys keys.json --root root.key --release release.key.pub
  wels bundle create r1.wels --image r1.img --name r1-distill-7b --counter 1 --key release.key --keys keys.json
  wels bundle create r1-new.wels --image r1-2.img --name r1-distill-7b --counter 2 --delta-from r1.img --key release.key
  wels bundle trust root.key.pub
  wels bundle verify r1.img
  wels bundle write r1.img /dev/sdX
  wels bundle install /dev/sdX --models /var/lib/wels-models";
