//! `cargo xtask check`: checks that take more than tests may, such as a model of many gigabytes.

mod agreement;
mod drive_faults;
mod import_memory;
mod references;
mod server;
mod streaming;

use anyhow::Result;
use clap::Subcommand;

use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    check: Check,
}

#[derive(Debug, Subcommand)]
enum Check {
    /// Count how often the fast path's most likely token is the reference's, for every model and level.
    Agreement(agreement::Args),
    /// Serve from a file system of its own that is broken in every way, and look whether answers stay right. Needs root.
    DriveFaults(drive_faults::Args),
    /// Import a large model under a limit on memory, killed once half-way and resumed.
    ImportMemory(import_memory::Args),
    /// Compare models with what other people's code computes with them: logits, tokens, experts, hidden states.
    References(references::Args),
    /// Stream a model: the same tokens with any cache, every expert read once for a prompt, the time to the first token.
    Streaming(streaming::Args),
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match &args.check {
        Check::Agreement(args) => agreement::run(workspace, args),
        Check::DriveFaults(args) => drive_faults::run(workspace, args),
        Check::ImportMemory(args) => import_memory::run(workspace, args),
        Check::References(args) => references::run(workspace, args),
        Check::Streaming(args) => streaming::run(workspace, args),
    }
}
