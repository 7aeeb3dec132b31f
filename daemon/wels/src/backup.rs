//! `wels backup`: what a box knows, to a file and back.

mod passphrase;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use backup::{DATABASE, Info, Step};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::backup::{Backup, Create, Info as InfoArgs, Restore, Verb};
use crate::{progress, serve, size};

pub(crate) fn run(args: &Backup) -> Result<ExitCode> {
    match &args.verb {
        Verb::Create(args) => create(args),
        Verb::Restore(args) => restore(args),
        Verb::Info(args) => info(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(args: &Create) -> Result<()> {
    let state = serve::state_dir(args.state.as_deref());
    let file = target(args.file.as_deref());
    let passphrase = passphrase::new(&args.passphrase)?;
    let (bar, mut moved) = bar();
    let made = backup::create_file(&state, &file, &passphrase, &mut moved);
    bar.finish_and_clear();
    let info = made?;
    if args.json {
        say(facts(&file, &info));
        return Ok(());
    }
    say(format_args!("{}: {}, written and read back", file.display(), size::format(info.bytes())));
    say("without the passphrase nobody can open it: keep it elsewhere than the file");
    Ok(())
}

/// The file to make: as named, or named by the day in a folder.
fn target(asked: Option<&Path>) -> PathBuf {
    let folder = match asked {
        Some(file) if !file.is_dir() => return file.to_owned(),
        Some(folder) => folder,
        None => Path::new(""),
    };
    folder.join(new_name(folder))
}

/// Today's name for a backup that is not taken in `folder`.
pub(crate) fn new_name(folder: &Path) -> String {
    backup::file_name(folder, u64::try_from(store::now_ms()).unwrap_or_default())
}

fn restore(args: &Restore) -> Result<()> {
    let state = serve::state_dir(args.state.as_deref());
    if state.join(DATABASE).exists() && !args.replace {
        bail!(
            "{} has accounts and chats already; with --replace the backup takes their place",
            state.display()
        );
    }
    let from = open(&args.file)?;
    let passphrase = passphrase::asked(&args.passphrase)?;
    let (bar, mut moved) = bar();
    let restored = backup::restore(from, &passphrase, &state, &mut moved);
    bar.finish_and_clear();
    let info = restored?;
    if args.json {
        let mut facts = facts(&args.file, &info);
        facts["state"] = json!(state);
        say(facts);
        return Ok(());
    }
    print(&args.file, &info);
    say(format_args!(
        "checked and ready: the daemon takes it when it starts next, so restart it; what was in {} before goes to {}",
        state.display(),
        backup::BEFORE
    ));
    Ok(())
}

fn info(args: &InfoArgs) -> Result<()> {
    let from = open(&args.file)?;
    let passphrase = passphrase::asked(&args.passphrase)?;
    let (bar, mut moved) = bar();
    let info = backup::info(from, &passphrase, &mut moved);
    bar.finish_and_clear();
    let info = info?;
    if args.json {
        say(facts(&args.file, &info));
    } else {
        print(&args.file, &info);
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// A bar, and what moves it.
fn bar() -> (ProgressBar, impl FnMut(Step, u64, u64) -> ControlFlow<()>) {
    let bar = progress::bytes(0);
    let moved = bar.clone();
    (bar, move |step, done, total| {
        moved.set_message(match step {
            Step::Prepare => "preparing",
            Step::Copy => "copying",
            Step::Check => "checking",
        });
        moved.set_length(total);
        moved.set_position(done);
        ControlFlow::Continue(())
    })
}

fn facts(file: &Path, info: &Info) -> Value {
    let mut facts = json!(info);
    facts["file"] = json!(file);
    facts["bytes"] = json!(info.bytes());
    facts
}

fn print(file: &Path, info: &Info) {
    let parts: Vec<String> =
        info.parts.iter().map(|part| format!("{} {}", part.name, size::format(part.bytes))).collect();
    say(format_args!("{}: a backup of {}", file.display(), backup::time(info.made_ms)));
    say(format_args!(
        "made by version {}, database version {}: {}",
        info.version,
        info.schema,
        parts.join(", ")
    ));
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn say(text: impl std::fmt::Display) {
    println!("{text}");
}
