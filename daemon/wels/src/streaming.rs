//! Models larger than the memory they may take: routed experts stay on the drive and come as they are wanted.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use experts::disk::{Choice, Drive, Load};
use experts::{Copies, Loan, Policy, Streaming};
use model::{KvShape, Options, activation_bytes};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use tracing::{info, warn};
use weights::{ExpertKey, Weights};

use crate::cli::Compute;
use crate::{machine, size};

/// Share of the machine's memory that a model may take where nobody says how much: the system needs some, too.
const MEMORY_SHARE: f64 = 0.9;
/// Bytes for what isn't counted: the allocator's slack, stacks, page tables, SQLite, connections.
const RESERVE_BYTES: u64 = 96 << 20;
/// Of the expert memory, for page tables and the like.
const OVERHEAD_SHARE: f64 = 0.01;
/// Longest measurement of a drive.
const MEASURE: Duration = Duration::from_secs(4);
/// Tokens of steps whose activations always have memory of their own; that of longer ones is the cache's between them.
const SHORT_STEP_TOKENS: usize = 512;
/// Part of the memory that a step's activations may take: experts of a prompt that takes two steps are read twice.
const STEP_SHARE: u64 = 4;
/// Tokens of the longest prompt that is read layer by layer, so that each expert is read once for all of it.
const SWEEP_TOKENS: usize = 2048;

/// How much memory the process may take; 0 where neither anybody nor the system says.
pub(crate) fn limit(compute: &Compute) -> u64 {
    compute.ram.unwrap_or_else(|| (machine::memory().0 as f64 * MEMORY_SHARE) as u64)
}

/// Of a machine's memory, the part that no model takes where nobody says how much it may.
pub(crate) fn reserve(ram_bytes: u64) -> u64 {
    (ram_bytes as f64 * (1.0 - MEMORY_SHARE)) as u64 + RESERVE_BYTES
}

/// Whether a model has to stream because it does not fit.
///
/// # Errors
/// It neither fits nor streams.
pub(crate) fn has_to(weights: &Weights, compute: &Compute) -> Result<bool> {
    let limit = limit(compute);
    let beyond = compute.expert_memory.is_some_and(|memory| memory < weights.record_bytes());
    if !beyond && (limit == 0 || weights.bytes() + RESERVE_BYTES <= limit) {
        return Ok(false);
    }
    if weights.hyper().moe.is_none() {
        let (need, limit) = (size::format(weights.bytes() + RESERVE_BYTES), size::format(limit));
        bail!(
            "this model takes {need}, and {limit} are there for it; only the routed experts of a mixture can stay on the \
             drive, and it has none: take a smaller model, or a quantisation with fewer bits"
        );
    }
    Ok(true)
}

/// Options of a step that streams: long prompts in one step, where its activations are a small part of the memory.
pub(crate) fn options(weights: &Weights, compute: &Compute, options: Options) -> Options {
    let most = limit(compute) / STEP_SHARE;
    let fits = |&n: &usize| activation_bytes(weights.hyper(), n, 0) <= most;
    let step_tokens = [SWEEP_TOKENS, 1024, 512].into_iter().find(fits).unwrap_or(256);
    Options { step_tokens, ..options }
}

/// What streams a model's experts within the limit of the whole process; all else of `weights` is loaded already.
pub(crate) fn streaming(weights: &Weights, compute: &Compute, options: &Options) -> Result<Streaming> {
    let (hyper, ram) = (weights.hyper(), limit(compute));
    let kv =
        KvShape::of(hyper, usize::from(options.draft)).token_bytes(options.precision) * options.kv_tokens;
    let sequences = engine::Options::default().sequences_max;
    let activations = |n_tokens| activation_bytes(hyper, n_tokens, sequences);
    // Who says how much the experts get means all the time; and a draft layer looks at a prompt again after its step.
    let lends = compute.expert_memory.is_none() && !options.draft;
    let kept_tokens = options.step_tokens.min(if lends { SHORT_STEP_TOKENS } else { usize::MAX });
    let step = activations(kept_tokens);
    let taken = machine::resident_bytes() + weights.awaited_bytes() + kv as u64 + step + RESERVE_BYTES;
    let left = ram.saturating_sub(taken) as f64 * (1.0 - OVERHEAD_SHARE);
    let budget = compute.expert_memory.unwrap_or(left as u64);
    let loan = Loan { bytes: activations(options.step_tokens) - step, step_tokens: kept_tokens };
    let (copies, choice) = copies(weights, compute)?;
    let disk = Drive::open(&copies.files.concat(), choice)?;
    let experts = weights.record_bytes();
    let profile = compute.expert_profile.clone();
    let chosen = chosen(profile.as_deref()).unwrap_or_default();
    let policy = compute.expert_policy.unwrap_or(chosen.policy);
    let pinned_share = if compute.expert_policy.is_some() { 0.0 } else { chosen.pinned_share };
    info!(ram, taken, budget, lent = loan.bytes, experts, ?choice, %policy, pinned_share, "experts are read from the drive");
    Ok(Streaming { disk, budget, loan, policy, pinned_share, copies, profile })
}

/// The model's files and copies of them, and how to read all their drives together.
fn copies(weights: &Weights, compute: &Compute) -> Result<(Copies, Choice)> {
    let own: Vec<PathBuf> = weights.files().map(Path::to_path_buf).collect();
    let mut files = vec![own];
    if let Some(mirror) = &compute.mirror {
        files.push(mirrored(weights, mirror)?);
    }
    let kept = |copy: usize| {
        let profile = compute.expert_profile.as_ref()?;
        Some(profile.with_extension(if copy == 0 { "drive.json" } else { "mirror.json" }))
    };
    let drives = files.iter().enumerate().map(|(copy, files)| drive(weights, files, kept(copy).as_deref()));
    let drives = drives.collect::<Result<Vec<_>>>()?;
    let depth = drives.iter().map(|drive| drive.choice.depth).sum();
    let choice = Choice { depth, ..drives[0].choice };
    Ok((Copies { files, bytes_per_s: drives.iter().map(|drive| drive.bytes_per_s).collect() }, choice))
}

/// The files of a copy of the pack.
fn mirrored(weights: &Weights, mirror: &Path) -> Result<Vec<PathBuf>> {
    let read = |folder: &Path| std::fs::read(folder.join("pack.json"));
    let doing = || format!("{} is no copy of the pack", mirror.display());
    let (own, copy) =
        (read(weights.path()).context("--mirror goes with a pack")?, read(mirror).with_context(doing)?);
    if own != copy {
        bail!("{} is another pack: its pack.json differs", mirror.display());
    }
    let name = |path: &Path| path.file_name().map(|name| mirror.join(name)).context("a file has a name");
    weights.files().map(name).collect()
}

/// Bytes of experts that the drive with the model reads a second, measured.
pub(crate) fn drive_bytes_s(weights: &Weights) -> Result<f64> {
    let files: Vec<PathBuf> = weights.files().map(Path::to_path_buf).collect();
    drive(weights, &files, None).map(|drive| drive.bytes_per_s)
}

/// How to read a drive that experts are on. It differs from drive to drive, so it is measured, and kept beside the profile.
fn drive(weights: &Weights, files: &[PathBuf], kept: Option<&Path>) -> Result<Kept> {
    let moe = weights.hyper().moe.as_ref().context("the model has no routed experts")?;
    let key = ExpertKey { layer: moe.n_dense_layers as u32, expert: 0 };
    let record = weights.record(key)?;
    let path = &files[record.extents[0].file];
    let device = std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?.dev();
    if let Some(known) = kept.and_then(Kept::read).filter(|kept| kept.device == device) {
        return Ok(known);
    }
    let load = Load { record_bytes: record.bytes, is_checked: record.hash.is_some() };
    let measured = experts::disk::measure(path, load, MEASURE)?;
    let choice = measured.choice;
    let bytes_per_s = measured.bytes_per_s();
    info!(?choice, bytes_per_s, path = %path.display(), "the drive was measured");
    let drive = Kept { device, choice, bytes_per_s };
    if let Some(path) = kept {
        drive.write(path);
    }
    Ok(drive)
}

/// What was measured of a drive.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The system's number of it.
    device: u64,
    choice: Choice,
    bytes_per_s: f64,
}

impl Kept {
    /// `None` where there is nothing to read: it is measured again.
    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    fn write(&self, path: &Path) {
        let json = serde_json::to_vec(self).expect("numbers and names become JSON");
        let written =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, json));
        if let Err(error) = written {
            warn!(%error, path = %path.display(), "how fast the drive is was not kept: the next start measures again");
        }
    }
}

/// What `wels replay --choose` has found best for this box.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Chosen {
    #[serde(deserialize_with = "policy")]
    policy: Policy,
    pinned_share: f64,
}

/// What was chosen, beside the profile; `None` where nothing was, or where it can't be read, which is said.
fn chosen(profile: Option<&Path>) -> Option<Chosen> {
    let path = profile?.with_extension("policy.json");
    let bytes = std::fs::read(&path).ok()?;
    match serde_json::from_slice::<Chosen>(&bytes) {
        Ok(chosen) if (0.0..1.0).contains(&chosen.pinned_share) => Some(chosen),
        Ok(_) => None,
        Err(error) => {
            warn!(%error, path = %path.display(), "the choice of a policy cannot be read: taking the usual one");
            None
        }
    }
}

fn policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Policy, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
