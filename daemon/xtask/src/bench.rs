//! `cargo xtask bench`: Wels and other engines on the same model, in turn, on the same cores.
//!
//! Other programs share a machine's memory and caches, so a number alone says little: what counts is the ratio of two
//! runs next to each other, and of those the median.

mod contest;
mod gpu;
mod layer;
mod logits;
pub(crate) mod models;
mod peer;
mod peers;
mod streaming;
mod table;

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use crate::{console, fetch, run};
use contest::{Contest, Work};
use peer::{Level, Peer};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// smollm2 or coder-1.5b.
    #[arg(default_value = "smollm2")]
    model: String,
    /// Which build of llama.cpp to measure against.
    #[arg(long, value_enum, default_value_t = peer::Build::Prebuilt)]
    peer: peer::Build,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Wels against the best of llama.cpp and ik_llama.cpp on models of real shapes, or against kt-kernel on one layer.
    Peers(peers::Args),
    /// On a graphics card, or llvmpipe, which stands for one: Wels against llama.cpp's Vulkan backend on the same device.
    Gpu(gpu::Args),
    /// Models larger than the memory they may use: Wels against llama.cpp and ik_llama.cpp, all in the same memory cgroup.
    ///
    /// Every run starts with none of the model's pages in the page cache, in a memory cgroup of the size asked for, and with
    /// the drive's read-ahead as the engine's line says. The peers map the file; they are neither repacked nor warmed up.
    /// What the drive gives to direct reads is measured before and after each round. Needs root.
    ///
    /// ik_llama.cpp's package on PyPI (0.1.5) is older than --defer-experts and --prefetch-experts. It is brought into the
    /// state in which --defer-experts begins: everything mapped, nothing in memory.
    Streaming(streaming::Args),
}

/// How both sides are measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct How {
    /// Runs of each, in turn.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Threads of each; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Instructions that Wels and llama.cpp may use; by default all there are. (ik_llama.cpp's package knows AVX2 only.)
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// Tokens decoded for each sequence; by default 64, of models above 4 GB 24.
    #[arg(long, value_name = "N")]
    decode: Option<usize>,
    /// Repetitions within a run, of which the median counts; by default 3, of models above 4 GB 1.
    #[arg(long, value_name = "N")]
    repeat: Option<usize>,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

impl How {
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match &args.command {
        Some(Command::Peers(args)) => peers::run(workspace, args),
        Some(Command::Gpu(args)) => gpu::run(workspace, args),
        Some(Command::Streaming(args)) => streaming::run(workspace, args),
        None => one(workspace, args),
    }
}

/// A real model against llama.cpp.
fn one(workspace: &Workspace, args: &Args) -> Result<()> {
    let Args { model: name, peer, how, .. } = args;
    if how.level.is_some() && *peer == peer::Build::Native {
        bail!("--level goes with the prebuilt llama.cpp: what is compiled here has one level, the machine's");
    }
    let wels = console::step("the daemon", || run::build(workspace))?;
    let model = fetch::model(workspace, name)?;
    let work = Work::new(how, std::fs::metadata(&model)?.len());
    let peers = vec![Peer::llama(workspace, *peer)?];
    warn_of_others(how.threads());
    let outcome = Contest { workspace, wels: &wels, work, peers }.run(name, (&model, &model), how.pairs)?;
    table::print(&[outcome], how.json);
    Ok(())
}

/// Engines spin while they wait for their threads: on a busy machine the numbers mean nothing.
fn warn_of_others(threads: usize) {
    let load = load();
    if load > 0.5 * threads as f64 {
        console::note(format_args!(
            "the machine is busy (load {load:.1}): let it rest for numbers that mean something"
        ));
    }
}

/// Threads that wanted to run, over the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
