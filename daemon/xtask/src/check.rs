//! `cargo xtask check`: checks that take more than tests may, such as a model of many gigabytes.

mod agreement;
mod import_memory;
mod references;

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
    /// Import a large model under a limit on memory, killed once half-way and resumed.
    ImportMemory(import_memory::Args),
    /// Compare models with what other people's code computes with them: logits, tokens, experts, hidden states.
    References(references::Args),
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match &args.check {
        Check::Agreement(args) => agreement::run(workspace, args),
        Check::ImportMemory(args) => import_memory::run(workspace, args),
        Check::References(args) => references::run(workspace, args),
    }
}
