//! `wels doctor`: what this machine is, what is wrong with it or its models, and what to do now.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use weights::pack::Pack;

use crate::cli::Doctor;
use crate::{card, catalogue, load, machine, progress, serve, size};

/// Free space below which chats and imports are at risk.
const FREE_MIN: u64 = 1 << 30;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, ok: true, found: found.into(), remedy: None }
    }

    fn bad(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, ok: false, found: found.into(), remedy: Some(remedy.into()) }
    }
}

pub(crate) fn run(args: &Doctor) -> Result<ExitCode> {
    let mut findings = vec![processor(), memory()];
    let state = serve::state_dir(args.state.as_deref());
    findings.push(disk(&state));
    findings.push(database(&state));
    findings.extend(cards());
    if let Some(model) = &args.model {
        findings.extend(check_model(model));
    }
    print(&findings, args.json)?;
    let well = findings.iter().all(|finding| finding.ok);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn processor() -> Finding {
    let level = kernels::Level::detect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = format!("{}, {cores} cores, {level}", machine::cpu_name());
    if level == kernels::Level::Scalar {
        return Finding::bad(
            "processor",
            found,
            "without AVX2 answers are slow; use a processor from 2015 or later",
        );
    }
    Finding::good("processor", found)
}

fn memory() -> Finding {
    let (total, free) = machine::memory();
    Finding::good("memory", format!("{} of {} free", size::format(free), size::format(total)))
}

/// The graphics cards, if any: a box without one is well, too.
fn cards() -> Vec<Finding> {
    let cards = gpu::adapters();
    if cards.is_empty() {
        let found =
            "none with a Vulkan driver: the processor computes (for AMD and Intel: mesa-vulkan-drivers)";
        return vec![Finding::good("graphics", found)];
    }
    let describe = |(i, adapter)| Finding::good("graphics", card::describe(i, adapter));
    cards.iter().enumerate().map(describe).collect()
}

fn disk(state: &Path) -> Finding {
    let there = state.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(there) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let found = format!("{} free in {}", size::format(free), there.display());
            if free < FREE_MIN {
                return Finding::bad("disk", found, "make room: chats can't be saved on a full disk");
            }
            Finding::good("disk", found)
        }
        Err(error) => Finding::bad("disk", format!("{}: {error}", there.display()), "check the disk"),
    }
}

fn database(state: &Path) -> Finding {
    let path = state.join(backup::DATABASE);
    if !path.exists() {
        return Finding::good("database", format!("{}: none yet", path.display()));
    }
    match store::check(&path) {
        Ok(()) => Finding::good("database", format!("{}: intact", path.display())),
        Err(error) => {
            Finding::bad("database", format!("{}: {error}", path.display()), "restore the last backup")
        }
    }
}

fn check_model(path: &Path) -> Vec<Finding> {
    let weights = match load::weights(path) {
        Ok(weights) => weights,
        Err(error) => {
            let remedy = "copy or import the model again; the message says which byte is wrong";
            return vec![Finding::bad("model", format!("{error:#}"), remedy)];
        }
    };
    let hyper = weights.hyper();
    let found = format!(
        "{}: {:?}, {} layers, context {}, {}",
        load::display_name(&weights, path),
        hyper.architecture,
        hyper.n_layers,
        hyper.context,
        size::format(weights.bytes()),
    );
    vec![Finding::good("model", found), shape(&weights), template(&weights), bytes(&weights, path)]
}

/// Compares the hyperparameters with the catalogue's.
fn shape(weights: &weights::Weights) -> Finding {
    match catalogue::compare(weights)
        .and_then(|known| known.map(|known| known.check().map(|()| known)).transpose())
    {
        Ok(Some(known)) => Finding::good("shape", format!("as the catalogue has it for {}", known.name)),
        Ok(None) => Finding::good("shape", "not a model of the catalogue: nothing to compare with"),
        Err(error) => Finding::bad("shape", format!("{error:#}"), "get another file of the model"),
    }
}

fn template(weights: &weights::Weights) -> Finding {
    match load::codec(weights) {
        Ok(_) => Finding::good("tokenizer", "tokenizer and chat template load"),
        Err(error) => Finding::bad(
            "tokenizer",
            format!("{error:#}"),
            "use a file that brings its tokenizer and template",
        ),
    }
}

/// Reads every byte of a pack and compares it with the hashes written at import.
fn bytes(weights: &weights::Weights, path: &Path) -> Finding {
    if !Pack::is_at(path) {
        return Finding::good(
            "bytes",
            "published files carry no hashes: import the model to have every byte checked",
        );
    }
    let bar = progress::bytes(weights.bytes());
    bar.set_message("reading");
    let result = Pack::open(path).and_then(|pack| pack.verify(&mut |p| bar.set_position(p.bytes_done)));
    bar.finish_and_clear();
    match result {
        Ok(findings) if findings.is_empty() => Finding::good("bytes", "every byte is as it was written"),
        Ok(findings) => {
            let list: Vec<String> =
                findings.iter().map(|f| format!("{} {}: {}", f.file, f.item, f.problem)).collect();
            Finding::bad("bytes", list.join("; "), "import the model again from its source")
        }
        Err(error) => Finding::bad("bytes", error.to_string(), "check the disk, then import the model again"),
    }
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print(findings: &[Finding], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(findings)?);
        return Ok(());
    }
    for finding in findings {
        println!("{} {:10} {}", if finding.ok { "ok  " } else { "BAD " }, finding.check, finding.found);
        if let Some(remedy) = &finding.remedy {
            println!("                {remedy}");
        }
    }
    Ok(())
}
