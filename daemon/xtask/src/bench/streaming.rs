//! `cargo xtask bench streaming`: models larger than the memory they may use, Wels and the engines that map the file.
//!
//! A round is: the drive's own speed, every engine once, the drive's own speed again. Ratios are of runs of one round.

mod drive;
mod engine;
mod outcome;
mod raw;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::drive::Drive;
use self::engine::{Engine, Entrant, Work};
use self::outcome::{Measured, Outcome, Round};
use super::models::{Files, Folder};
use super::peer::{Build, Peer};
use super::{load, warn_of_others};
use crate::cgroup::Cgroup;
use crate::workspace::Workspace;
use crate::{console, page_cache, run, size};

/// What the kernel reads ahead on a bare NVMe drive, in KiB.
const SMALL_READ_AHEAD_KIB: u64 = 128;
/// Read at once where there is no pack to tell the size of a record.
const RECORD_BYTES: u64 = 4 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shapes of the models: v2lite (9.5 GB), r1slice (15.6 GB), r1one (9.1 GB), or others of `bench peers`.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", default_value = "v2lite")]
    models: Vec<String>,
    /// Memory that each engine may use, cached pages of the model included: of the cgroup, and Wels' own budget.
    ///
    /// GB are of 1000 MB, GiB of 1024 MiB. Every model is measured with every size below its own.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "SIZE,...",
        default_value = "4.8GB,2.4GB",
        value_parser = size::parse
    )]
    ram: Vec<u64>,
    /// Take NAME.gguf out of this folder instead of making them. The packs are put beside them.
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Remove each model that was made here after its turn.
    #[arg(long)]
    scarce: bool,
    /// Rounds for each model and size; the medians count.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Tokens decoded, after a prompt of 32 and a prefill of 512 that are not counted with them.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    decode: u32,
    /// Threads of each engine; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Measure only one side. The peers alone need no build of Wels, and no pack.
    #[arg(long, value_enum)]
    only: Option<Side>,
    /// Bytes of a read when the drive's own speed is measured; by default the pack's mean record, without a pack 4 MiB.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    record: Option<u64>,
    /// Folder of a cgroup in which those of the runs are made; by default the top of the hierarchy.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    /// Wels, and the drive's own speed.
    Wels,
    /// llama.cpp at the drive's read-ahead as it is found and at 128 KiB, ik_llama.cpp at 128 KiB.
    Peers,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    // Fails early where memory can't be limited.
    drop(Cgroup::make(args.cgroup.as_deref(), 1 << 30)?);
    let wels = match args.only {
        Some(Side::Peers) => None,
        _ => Some(console::step("the daemon", || run::build(workspace))?),
    };
    warn_of_others(1);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot listen for signals")?;
    }
    let model_dir = args.model_dir.as_deref().map(std::path::absolute).transpose()?;
    let folder = Folder { workspace, brought: model_dir.as_deref() };
    let mut outcomes = Vec::new();
    for name in &args.models {
        let files = match &wels {
            Some(wels) => folder.bring(wels, name)?,
            None => folder.bring_gguf(name)?,
        };
        for &limit_bytes in &args.ram {
            let bench = Bench::new(workspace, args, wels.as_deref(), &files, limit_bytes, &stop)?;
            outcomes.extend(bench.run(name, args.pairs)?);
        }
        if args.scarce {
            files.remove()?;
        }
    }
    report::print(&outcomes, args.json);
    Ok(())
}

/// One model under one limit.
struct Bench<'a> {
    workspace: &'a Workspace,
    files: &'a Files,
    model_bytes: u64,
    limit_bytes: u64,
    /// What the drive's own speed is measured on, and the size of a read.
    raw: (PathBuf, u64),
    work: Work,
    entrants: Vec<Entrant>,
    cgroup: Option<&'a Path>,
    /// Somebody wants this to end: what was changed is put back first.
    stop: &'a AtomicBool,
}

impl<'a> Bench<'a> {
    fn new(
        workspace: &'a Workspace,
        args: &'a Args,
        wels: Option<&Path>,
        files: &'a Files,
        limit_bytes: u64,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let threads =
            args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let work = Work { threads, decode: args.decode, limit_bytes };
        let mut entrants: Vec<_> = wels.map(Entrant::wels).into_iter().collect();
        if args.only != Some(Side::Wels) {
            entrants.extend(peers(workspace, files)?);
        }
        let (file, record_bytes) = records(files)?;
        let raw = (file, args.record.unwrap_or(record_bytes));
        let (cgroup, model_bytes) = (args.cgroup.as_deref(), files.bytes()?);
        Ok(Self { workspace, files, model_bytes, limit_bytes, raw, work, entrants, cgroup, stop })
    }

    /// None where the model fits into the limit.
    fn run(mut self, name: &str, rounds: u32) -> Result<Option<Outcome>> {
        let (limit, bytes) = (size::format(self.limit_bytes), size::format(self.model_bytes));
        if self.limit_bytes >= self.model_bytes {
            console::note(format_args!("{name} has {bytes}: {limit} are left out"));
            return Ok(None);
        }
        let threads = self.work.threads;
        console::heading(format_args!("{name}, {bytes} in {limit}: {rounds} rounds on {threads} threads"));
        let mut done = Vec::new();
        for round in 1..=rounds {
            done.push(self.round(round)?);
        }
        Ok(Some(Outcome {
            model: name.into(),
            model_bytes: self.model_bytes,
            limit_bytes: self.limit_bytes,
            record_bytes: self.raw.1,
            decode: self.work.decode,
            threads,
            entrants: self.entrants,
            rounds: done,
        }))
    }

    /// An engine that fails is left out from there on.
    fn round(&mut self, number: u32) -> Result<Round> {
        let load = load();
        let before = raw::best(&self.raw.0, self.raw.1)?;
        console::note(format_args!(
            "round {number}: the drive alone {:.2} GB/s, load {load:.1}",
            before.bytes_s / 1e9
        ));
        let mut runs = Vec::new();
        for idx in 0..self.entrants.len() {
            runs.push(if self.entrants[idx].failed.is_some() { None } else { self.one(idx)? });
        }
        Ok(Round { load, before, after: raw::best(&self.raw.0, self.raw.1)?, runs })
    }

    fn one(&mut self, idx: usize) -> Result<Option<Measured>> {
        let measured = self.measure(&self.entrants[idx]);
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted; the read-ahead is what it was, and the cgroup is gone");
        }
        let entrant = &mut self.entrants[idx];
        match measured {
            Ok(measured) => {
                console::note(format_args!("{:<34} {measured}", entrant.to_string()));
                Ok(Some(measured))
            }
            // Wels is what is tested.
            Err(error) if matches!(entrant.engine, Engine::Wels(_)) => {
                Err(error.context("Wels cannot be measured"))
            }
            Err(error) => {
                console::note(format_args!("{:<34} {error:#}", entrant.to_string()));
                entrant.failed = Some(format!("{error:#}"));
                Ok(None)
            }
        }
    }

    fn measure(&self, entrant: &Entrant) -> Result<Measured> {
        let model = entrant.model(self.files);
        let drive = Drive::of(&self.raw.0)?;
        page_cache::drop_pages(self.workspace, model)?;
        let cgroup = Cgroup::make(self.cgroup, self.limit_bytes)?;
        let read_ahead = entrant.read_ahead_kib.map(|kib| drive.set_read_ahead(kib)).transpose()?;
        let before = drive.read_bytes()?;
        let said = entrant.run(self.workspace, model, &self.work, &cgroup);
        let (drive_bytes, usage) = (drive.read_bytes()? - before, cgroup.usage()?);
        drop(read_ahead);
        if said.is_err() && usage.killed > 0 {
            bail!("is killed: {} do not suffice", size::format(self.limit_bytes));
        }
        entrant.parse(&said?, self.work.decode, usage, drive_bytes)
    }
}

/// Those who map the file, by what the drive reads ahead for them.
fn peers(workspace: &Workspace, files: &Files) -> Result<Vec<Entrant>> {
    let own_kib = Drive::of(&files.gguf)?.read_ahead_kib()?;
    let llama = || Ok::<_, anyhow::Error>(Peer::llama(workspace, Build::Prebuilt)?.mapped());
    let [ik, _] = Peer::ik(workspace)?;
    let mut peers = vec![Entrant::peer("llama.cpp --no-repack", llama()?, own_kib)];
    if own_kib != SMALL_READ_AHEAD_KIB {
        peers.push(Entrant::peer("llama.cpp --no-repack", llama()?, SMALL_READ_AHEAD_KIB));
    }
    peers.push(Entrant::peer("ik_llama.cpp, deferred", ik.mapped(), SMALL_READ_AHEAD_KIB));
    Ok(peers)
}

/// The file with the experts, and the mean of their records in bytes; where there is no pack, the GGUF file.
fn records(files: &Files) -> Result<(PathBuf, u64)> {
    let experts = files.pack.join("experts.bin");
    if !experts.is_file() {
        return Ok((files.gguf.clone(), RECORD_BYTES));
    }
    let manifest = files.pack.join("pack.json");
    let text = std::fs::read(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let mean = mean_record(&serde_json::from_slice(&text)?);
    let mean = mean.with_context(|| format!("{} tells of no records", manifest.display()))?;
    Ok((experts, mean))
}

fn mean_record(manifest: &Value) -> Option<u64> {
    let layers = manifest["experts"]["layers"].as_array()?;
    let bytes: Vec<u64> = layers.iter().filter_map(|layer| layer["record_bytes"].as_u64()).collect();
    let n_layers = u64::try_from(bytes.len()).ok()?;
    bytes.iter().sum::<u64>().checked_div(n_layers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mean_record_is_of_all_layers() {
        let manifest =
            json!({ "experts": { "layers": [{ "record_bytes": 4096 }, { "record_bytes": 12288 }] } });
        assert_eq!(mean_record(&manifest), Some(8192));
        assert_eq!(mean_record(&json!({ "experts": null })), None);
        assert_eq!(mean_record(&json!({ "experts": { "layers": [] } })), None);
    }
}
