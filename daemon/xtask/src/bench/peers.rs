//! `cargo xtask bench peers`: Wels against the best of the engines for processors.

use std::path::PathBuf;

use anyhow::Result;

use super::contest::{Contest, Work};
use super::models::Folder;
use super::peer::{Build, Peer};
use super::{How, layer, table, warn_of_others};
use crate::workspace::Workspace;
use crate::{console, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(long, value_enum, default_value_t = What::Models)]
    work: What,
    /// Shapes of the models.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,...",
        default_value = "qwen1.5b,qwen7b,v2lite,r1one"
    )]
    models: Vec<String>,
    /// Take NAME.gguf out of this folder instead of making them. The packs are put beside them.
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Remove each model that was made here after its turn.
    #[arg(long)]
    scarce: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Whole models against llama.cpp and ik_llama.cpp: a prompt of 512 tokens, answers of 1 and 8 sequences.
    Models,
    /// The routed experts of one layer of R1 against kt-kernel: 1, 8 and 512 tokens.
    MoeLayer,
}

pub(super) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    warn_of_others(args.how.threads());
    if args.work == What::MoeLayer {
        return layer::run(workspace, &wels, &args.how);
    }
    let model_dir = args.model_dir.as_deref().map(std::path::absolute).transpose()?;
    let folder = Folder { workspace, brought: model_dir.as_deref() };
    let mut outcomes = Vec::new();
    for name in &args.models {
        let files = folder.bring(&wels, name)?;
        let mut peers = vec![Peer::llama(workspace, Build::Prebuilt)?];
        peers.extend(Peer::ik(workspace)?);
        let work = Work::new(&args.how, files.bytes()?);
        let contest = Contest { workspace, wels: &wels, work, peers };
        outcomes.push(contest.run(name, (&files.pack, &files.gguf), args.how.pairs)?);
        if args.scarce {
            files.remove()?;
        }
    }
    table::print(&outcomes, args.how.json);
    Ok(())
}
