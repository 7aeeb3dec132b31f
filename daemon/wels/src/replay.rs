//! `wels replay`: policies and sizes of the cache of experts, compared on a trace.

mod picture;
mod report;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use experts::replay::Setup;
use experts::trace::Trace;

use crate::cli::Replay;
use report::Report;

/// Sizes that are compared at once.
const SIZES_MAX: usize = 32;

pub(crate) fn run(args: &Replay) -> Result<ExitCode> {
    let trace = match (&args.trace, &args.synthetic) {
        (Some(path), _) => Trace::open(path)?,
        (None, law) => law.as_ref().context("a trace, or --synthetic")?.trace(),
    };
    let records = sizes(args, &trace)?;
    let setup = Setup::new(record_bytes(args, &trace), records);
    let table = experts::replay::replay(&trace, &setup)?;
    let report = Report { trace: &trace, table: &table };
    if let Some(path) = &args.svg {
        write(path, &picture::draw(&table))?;
    }
    if let Some(path) = &args.choose {
        ensure!(table.sizes.len() == 1, "--choose asks for one size: give it one --records or --share");
        write(path, &format!("{}\n", report::choice(&table.choose(0).choice)))?;
    }
    print(&if args.json { report.json().to_string() } else { report.words() });
    Ok(ExitCode::SUCCESS)
}

/// The sizes asked for, in records, ascending, each once.
fn sizes(args: &Replay, trace: &Trace) -> Result<Vec<usize>> {
    let header = trace.header();
    let n_records = header.layers.len() * header.n_experts as usize;
    let of_share = |&share: &f64| ((n_records as f64 * share / 100.0).round() as usize).max(1);
    let mut sizes = if args.records.is_empty() {
        args.share.iter().map(of_share).collect()
    } else {
        args.records.clone()
    };
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() > SIZES_MAX {
        bail!("{} sizes; {SIZES_MAX} at most are compared at once", sizes.len());
    }
    Ok(sizes)
}

fn record_bytes(args: &Replay, trace: &Trace) -> Vec<u64> {
    let layers = trace.header().layers.iter();
    layers.map(|layer| args.record_bytes.unwrap_or(layer.record_bytes)).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print(text: &str) {
    println!("{text}");
}
