//! A bundle installed by hand; the daemon does the same by itself.

use anyhow::{Result, bail};
use serde_json::json;
use update::{Installer, Kind, Monitor, Options, Preview, Staged, Step, Trial, Verdict};

use super::{believe, say};
use crate::cli::bundle::{Install, Rollback};
use crate::{progress, size};

pub(super) fn install(args: &Install) -> Result<()> {
    let (bundle, trust) = believe(&args.bundle, &args.believe)?;
    if bundle.manifest.kind == Kind::System && !args.preview {
        bail!("a system is installed by the box itself: plug the stick into it, and look at its page");
    }
    let mut installer = Installer::open(&args.models)?;
    let options = Options { allow_older: args.allow_older, bases: args.base.clone(), ..Options::default() };
    let preview = installer.preview(&bundle, &options)?;
    if args.preview {
        print(&preview, args.json)?;
        return Ok(());
    }
    if !args.json {
        print(&preview, false)?;
    }
    trust.save()?;
    let bar = progress::bytes(0);
    let monitor = Monitor::new(&bundle.manifest, {
        let bar = bar.clone();
        move |progress| {
            bar.set_message(words(progress.step));
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
        }
    });
    let staged = installer.stage(&bundle, &options, &monitor);
    bar.finish_and_clear();
    let trial = match staged? {
        Staged::Ready(trial) => trial,
        Staged::Nothing => return report(args, None),
    };
    // Whether it answers, the daemon sees; here it has to open.
    if let Err(error) = weights::open(&trial.path) {
        installer.abandon(&trial, &error.to_string())?;
        bail!("the new version was given up, the old one stays: {error:#}");
    }
    installer.commit(&trial, &monitor)?;
    report(args, Some(&trial))
}

fn words(step: Step) -> &'static str {
    match step {
        Step::Prepare => "making room",
        Step::Copy => "copying",
        Step::Check => "checking",
        Step::Settle => "settling",
        Step::Test => "testing",
        Step::Switch | Step::Done => "switching",
    }
}

fn report(args: &Install, trial: Option<&Trial>) -> Result<()> {
    match (trial, args.json) {
        (trial, true) => say(json!({ "installed": trial.is_some(), "path": trial.map(|trial| &trial.path) })),
        (Some(trial), false) => say(format_args!("serves from {}", trial.path.display())),
        (None, false) => say("it serves already: nothing was done"),
    }
    Ok(())
}

fn print(preview: &Preview, json: bool) -> Result<()> {
    if json {
        say(serde_json::to_string(preview)?);
        return Ok(());
    }
    say(format_args!(
        "{} ({} {}), {}",
        preview.title,
        preview.name,
        preview.version,
        size::format(preview.bytes)
    ));
    if let Some(signer) = &preview.signer {
        say(format_args!("signed by {} ({})", signer.name, signer.fingerprint));
    }
    if let Some(reason) = &preview.failed_before {
        say(format_args!("this version failed before: {reason}"));
    }
    match (preview.verdict, &preview.refusal) {
        (Some(Verdict::Install), _) => {
            let seconds = preview.seconds.map_or(String::new(), |seconds| format!(", about {seconds:.0} s"));
            let (stick, local) = (size::format(preview.stick_bytes), size::format(preview.local_bytes));
            say(format_args!("to copy: {stick} from the stick{seconds}, {local} from what is installed"));
            if preview.done_bytes > 0 {
                say(format_args!("{} were there from an earlier try", size::format(preview.done_bytes)));
            }
        }
        (Some(Verdict::Staged), _) => say("it is there already, and waits for its test"),
        (Some(Verdict::Serves), _) => say("it serves already"),
        (None, Some(refusal)) => say(format_args!("can't be installed: {}", refusal.message)),
        (None, None) => {}
    }
    Ok(())
}

pub(super) fn rollback(args: &Rollback) -> Result<()> {
    let path = Installer::open(&args.models)?.rollback(Kind::Model)?;
    if args.json {
        say(json!({ "path": path }));
    } else {
        say(format_args!("serves from {}", path.display()));
    }
    Ok(())
}
