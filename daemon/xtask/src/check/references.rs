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
    /// Compute on this device instead of the processor, as `wels doctor` numbers it: with all of a model there, with its experts on
    /// the processor, and with these brought for each prompt. What is inside (experts, hidden states) is not compared then.
    #[arg(long, value_name = "gpu:N")]
    device: Option<String>,
}

impl Args {
    /// What each model is computed with.
    fn ways(&self) -> Vec<Vec<&str>> {
        let Some(device) = &self.device else { return vec![vec!["--trace"]] };
        let rest: [&[&str]; 3] =
            [&[], &["--gpu-experts", "0"], &["--gpu-experts", "0", "--gpu-prompt-experts", "2"]];
        rest.iter().map(|rest| [&["--device", device], *rest].concat()).collect()
    }
}

/// A model and one file of results.
pub(super) struct Pair {
    pub(super) model: PathBuf,
    pub(super) expected: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    let pairs = pairs(&args.dir)?;
    let (mut n_apart, ways) = (0, args.ways());
    for (Pair { model, expected }, way) in
        pairs.iter().flat_map(|pair| ways.iter().map(move |way| (pair, way)))
    {
        let tolerance = args.tolerance.to_string();
        let status = Command::new(&wels)
            .args(["eval", "--precision", "f32", "--tolerance", &tolerance])
            .args(way)
            .args([Path::new("--model"), model, Path::new("--expect"), expected])
            .env("WELS_LOG", "warn")
            .status()
            .with_context(|| format!("cannot run {}", wels.display()))?;
        let verdict = if status.success() { "agrees with" } else { "IS APART FROM" };
        console::note(format_args!(
            "{} {verdict} {} ({})",
            model.display(),
            expected.display(),
            way.join(" ")
        ));
        n_apart += usize::from(!status.success());
    }
    let n_all = pairs.len() * ways.len();
    ensure!(n_apart == 0, "{n_apart} of {n_all} comparisons failed; see above");
    console::note(format_args!("{n_all} comparisons, all within {}", args.tolerance));
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
