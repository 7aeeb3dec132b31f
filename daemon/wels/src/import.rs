//! `wels import`: a published model into a pack.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weights::pack::Coding;
use weights::{Choice, ImportOptions, ImportReport, Progress, Stage};

use crate::cli::{Compress, Import};
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
            Stage::Measure => "measuring",
            Stage::Code => "compressing experts",
            Stage::Finish => "finishing",
            Stage::Verify => "verifying",
            Stage::Load => "loading",
        });
    };
    let options =
        ImportOptions { replace: args.replace, compress: args.compress.into(), ..ImportOptions::default() };
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
                "pack": dest, "bytes": report.bytes, "stored_bytes": report.stored_bytes,
                "tensors": report.n_tensors, "experts": report.n_experts,
                "resumed_bytes": report.resumed_bytes, "sources": sources,
                "codings": report.choices.iter().map(coding_json).collect::<Vec<_>>(),
            })
        );
        return;
    }
    println!("{}: {}, {} tensors", dest.display(), size::format(report.bytes), report.n_tensors);
    if report.resumed_bytes > 0 {
        println!("{} were there from an earlier try", size::format(report.resumed_bytes));
    }
    report.choices.iter().for_each(|choice| println!("{}", coding_line(choice)));
    if report.choices.iter().any(|choice| choice.coding != Coding::Raw) {
        println!("stored in {}", size::format(report.stored_bytes));
    }
}

/// `ffn_gate F8_E4M3, 212.0 GiB: split, coded it is read in 16 % less time (84 % of the bytes, …)`.
fn coding_line(choice: &Choice) -> String {
    let coding = if choice.coding == Coding::Raw { "raw" } else { "split" };
    let Choice { part, dtype, reason, .. } = choice;
    let mut facts = Vec::new();
    if let Some(sample) = &choice.sample {
        facts.push(format!("coded {:.1} % of the bytes", 100.0 * sample.ratio));
        facts.push(format!("decoding {:.2} GB/s a core", sample.decode / 1e9));
        facts.push(format!("{} cores spare", choice.cores));
    }
    facts.extend(choice.drive.map(|drive| format!("drive {:.2} GB/s", drive / 1e9)));
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    format!("{part} {dtype}, {}: {coding}, {reason}{facts}", size::format(choice.bytes))
}

fn coding_json(choice: &Choice) -> Value {
    json!({
        "part": choice.part, "dtype": choice.dtype, "bytes": choice.bytes, "coding": choice.coding,
        "reason": choice.reason.to_string(), "ratio": choice.sample.map(|sample| sample.ratio),
        "decode_gb_s": choice.sample.map(|sample| sample.decode / 1e9), "spare_cores": choice.cores,
        "drive_gb_s": choice.drive.map(|drive| drive / 1e9),
    })
}

impl From<Compress> for weights::Compress {
    fn from(compress: Compress) -> Self {
        match compress {
            Compress::Auto => Self::Auto,
            Compress::Never => Self::Never,
            Compress::Always => Self::Always,
        }
    }
}
