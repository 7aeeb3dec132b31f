//! Models beside what other people's code computes with them, through the program people run.
//!
//! The tests hold the same comparison for the models that the project carries; this one takes any folder of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;
use crate::{console, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model folders with an `expected*.safetensors` each, GGUF files with a `NAME.expected.safetensors` beside them, and
    /// folders of such.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How far a number may be from the reference.
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f32,
}

/// A model and one file of results.
pub(super) struct Pair {
    pub(super) model: PathBuf,
    pub(super) expected: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    let pairs = pairs(&args.dir)?;
    let mut n_apart = 0;
    for Pair { model, expected } in &pairs {
        let tolerance = args.tolerance.to_string();
        let status = Command::new(&wels)
            .args(["eval", "--trace", "--precision", "f32", "--tolerance", &tolerance])
            .args([Path::new("--model"), model, Path::new("--expect"), expected])
            .env("WELS_LOG", "warn")
            .status()
            .with_context(|| format!("cannot run {}", wels.display()))?;
        let verdict = if status.success() { "agrees with" } else { "IS APART FROM" };
        console::note(format_args!("{} {verdict} {}", model.display(), expected.display()));
        n_apart += usize::from(!status.success());
    }
    ensure!(n_apart == 0, "{n_apart} of {} comparisons failed; see above", pairs.len());
    console::note(format_args!("{} comparisons, all within {}", pairs.len(), args.tolerance));
    Ok(())
}

/// The models of a folder that have expected results, at least one.
pub(super) fn pairs(dir: &Path) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    find(dir, &mut pairs)?;
    ensure!(!pairs.is_empty(), "{}: no model with expected results", dir.display());
    Ok(pairs)
}

/// Pairs in a folder: of itself, of its files, of the folders in it.
fn find(dir: &Path, pairs: &mut Vec<Pair>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let is_model = dir.join("config.json").is_file();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            find(&path, pairs)?;
        } else if is_model && name.starts_with("expected") && name.ends_with(".safetensors") {
            pairs.push(Pair { model: dir.to_owned(), expected: path });
        } else if name.ends_with(".gguf") && path.with_extension("expected.safetensors").is_file() {
            pairs.push(Pair { expected: path.with_extension("expected.safetensors"), model: path });
        }
    }
    Ok(())
}
