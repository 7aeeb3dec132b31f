//! `cargo xtask fuzz`: hostile bytes for every reader, odd shapes for the kernels, and the replay of what they found before.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::console;
use crate::process::{self, Tool};
use crate::workspace::Workspace;

/// A workspace of its own: it needs sanitizers, which nothing else does.
pub(crate) const FOLDER: &str = "daemon/fuzz";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these targets; by default all of them in turn.
    targets: Vec<String>,
    /// Time for each target.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if !process::on_path(workspace, "cargo-fuzz") {
        console::step("cargo-fuzz: compiling it, once", || {
            let cargo = Tool::cargo(workspace).args(["install", "--quiet", "--locked", "--root"]);
            cargo
                .arg(workspace.cargo_tools())
                .arg("cargo-fuzz")
                .remedy("install cargo-fuzz yourself")
                .output()
        })?;
    }
    let targets = if args.targets.is_empty() { targets(workspace)? } else { args.targets.clone() };
    for target in &targets {
        console::step(format_args!("fuzz {target} for {} s", args.seconds), || {
            fuzz(workspace, target, args.seconds)
        })?;
    }
    Ok(())
}

fn fuzz(workspace: &Workspace, target: &str, seconds: u32) -> Result<()> {
    let found = workspace.target().join("fuzz/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let seeds = seeds(workspace, target);
    // The sanitizer's flags are for nightly compilers; this makes a stable one take them.
    let cargo = Tool::cargo(workspace).env("RUSTC_BOOTSTRAP", "1");
    let cargo = cargo.args(["fuzz", "run", "--fuzz-dir"]).arg(workspace.join(FOLDER));
    let cargo = cargo.arg("--target-dir").arg(workspace.target().join("fuzz"));
    let cargo = cargo.arg(target).arg(found).args(seeds.is_dir().then_some(seeds));
    let cargo = cargo.args([
        "--",
        &format!("-max_total_time={seconds}"),
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]);
    cargo.remedy("the input that did it is in daemon/fuzz/artifacts: mend the reader, and keep the input as a seed").run()
}

/// Runs every target over its seeds, without sanitizers: a second each once built.
pub(crate) fn replay(workspace: &Workspace) -> Result<()> {
    let manifest = workspace.join(FOLDER).join("Cargo.toml");
    for target in targets(workspace)? {
        let seeds = seeds(workspace, &target);
        console::note(format_args!(
            "{target}: {}",
            if seeds.is_dir() { "its seeds" } else { "the empty input" }
        ));
        let cargo = Tool::cargo(workspace).args(["run", "--quiet", "--manifest-path"]).arg(&manifest);
        let cargo = cargo.arg("--target-dir").arg(workspace.target().join("fuzz-replay"));
        let cargo = cargo.args(["--bin", &target, "--", "-runs=0"]).args(seeds.is_dir().then_some(seeds));
        cargo.output()?;
    }
    Ok(())
}

/// The targets, from the names of their files.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.join(FOLDER).join("fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    Ok(targets)
}

/// Committed inputs: beginnings of valid files, and whatever once broke a reader.
fn seeds(workspace: &Workspace, target: &str) -> PathBuf {
    workspace.join(FOLDER).join("seeds").join(target)
}
