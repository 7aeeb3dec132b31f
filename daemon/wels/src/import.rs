//! `wels import`: a published model into a pack.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;
use weights::{ImportOptions, ImportReport, Progress, Stage};

use crate::cli::Import;
use crate::{catalogue, progress, size};

pub(crate) fn run(args: &Import) -> Result<ExitCode> {
    if !args.source.exists() {
        bail!("{}: no such file or folder; give a GGUF file or a Hugging Face folder", args.source.display());
    }
    if !args.allow_differences {
        check_shape(&args.source)?;
    }
    let dest = args.dest.clone().unwrap_or_else(|| default_dest(&args.source));
    let bar = progress::bytes(0);
    let mut show = |p: Progress<'_>| {
        bar.set_length(p.bytes_total);
        bar.set_position(p.bytes_done);
        bar.set_message(match p.stage {
            Stage::Copy => "importing",
            Stage::Finish => "finishing",
            Stage::Verify => "verifying",
            Stage::Load => "loading",
        });
    };
    let options = ImportOptions { replace: args.replace, ..ImportOptions::default() };
    let report = weights::import(&args.source, &dest, &options, &mut show);
    bar.finish_and_clear();
    if let Err(weights::Error::DestinationExists { path }) = &report {
        bail!("{} is there already; choose another name, or replace it with --replace", path.display());
    }
    let report =
        report.with_context(|| format!("cannot import {} to {}", args.source.display(), dest.display()))?;
    print(args, &dest, &report);
    Ok(ExitCode::SUCCESS)
}

/// Refuses a file of a known model that describes itself otherwise: it would answer, and worse than it should.
fn check_shape(source: &Path) -> Result<()> {
    // What can't be opened is for the import to say.
    let Ok(weights) = weights::open(source) else { return Ok(()) };
    let known = catalogue::compare(&weights)?;
    known.map_or(Ok(()), |known| known.check()).with_context(|| {
        let source = source.display();
        format!(
            "{source}: converted wrongly or damaged; get another file, or take it as it is with --allow-differences"
        )
    })
}

fn default_dest(source: &Path) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("{stem}.wels"))
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print(args: &Import, dest: &Path, report: &ImportReport) {
    if args.json {
        let sources: Vec<_> =
            report.sources.iter().map(|file| json!({ "name": file.name, "sha256": file.sha256 })).collect();
        println!(
            "{}",
            json!({
                "pack": dest, "bytes": report.bytes, "tensors": report.n_tensors, "experts": report.n_experts,
                "resumed_bytes": report.resumed_bytes, "sources": sources,
            })
        );
        return;
    }
    println!("{}: {}, {} tensors", dest.display(), size::format(report.bytes), report.n_tensors);
    if report.resumed_bytes > 0 {
        println!("{} were there from an earlier try", size::format(report.resumed_bytes));
    }
}
