//! `wels bundle`: bundles made, signed, looked at, written and installed.

mod install;
mod keys;
mod make;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use update::{Carrier, PublicKey, Trust};

use crate::cli::bundle::{Believe, Bundle, Verb};
use crate::{progress, serve};

/// The public root key of who made this machine, as `wels bundle keygen` writes it: it comes with the image (`cargo xtask image
/// --root-key`), where only they can change it.
const MAKERS_ROOT: &str = "/usr/share/wels/root.pub";
/// What is read of a key's file.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

pub(crate) fn run(args: &Bundle) -> Result<ExitCode> {
    match &args.verb {
        Verb::Keygen(args) => keys::keygen(args),
        Verb::Keys(args) => keys::lists(args),
        Verb::Trust(args) => keys::trust(args),
        Verb::Create(args) => make::create(args),
        Verb::Sign(args) => make::sign(args),
        Verb::Verify(args) => make::verify(args),
        Verb::Info(args) => make::info(args),
        Verb::Write(args) => make::write(args),
        Verb::Install(args) => install::install(args),
        Verb::Rollback(args) => install::rollback(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Whom this machine believes.
fn believed(believe: &Believe) -> Result<Trust> {
    Ok(trust(&serve::state_dir(believe.state.as_deref()))?)
}

/// Whom a machine with this state believes.
///
/// # Errors
/// Its file, or the maker's root, can't be read.
pub(crate) fn trust(state: &Path) -> Result<Trust, update::Error> {
    Trust::open(state, makers_root()?)
}

/// The root of who made this machine, where they have one.
///
/// # Errors
/// It is there, and is no root key.
pub(crate) fn makers_root() -> Result<Option<PublicKey>, update::Error> {
    update::root_key(Path::new(MAKERS_ROOT))
}

/// A bundle that this machine believes, and what it learnt from it.
fn believe(bundle: &Path, by: &Believe) -> Result<(update::Bundle, Trust)> {
    let trust = believed(by)?;
    if trust.root().is_none() && trust.added().is_empty() {
        anyhow::bail!(
            "this machine believes nobody yet: add a root key or a release key with `wels bundle trust`"
        );
    }
    Ok(Carrier::open(bundle)?.check(&trust)?)
}

/// A key's file, or one of lists.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.take(KEY_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// A bar, and what moves it.
fn bar(message: &'static str) -> (ProgressBar, impl Fn(u64, u64)) {
    let bar = progress::bytes(0);
    bar.set_message(message);
    let moved = bar.clone();
    (bar, move |done, total| {
        moved.set_length(total);
        moved.set_position(done);
    })
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn say(text: impl std::fmt::Display) {
    println!("{text}");
}
