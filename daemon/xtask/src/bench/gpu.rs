//! `cargo xtask bench gpu`: Wels against llama.cpp's Vulkan backend, on one and the same device.

use std::path::PathBuf;

use anyhow::Result;

use super::contest::{Contest, Work};
use super::peer::Peer;
use super::{How, table, warn_of_others};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{console, fetch, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// smollm2 or coder-1.5b.
    #[arg(default_value = "smollm2")]
    model: String,
    /// A GGUF file instead.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

pub(super) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let Args { model: name, file, how } = args;
    setup::tools(workspace, &[Need::Vulkan])?;
    let wels = console::step("the daemon", || run::build(workspace))?;
    let model = match file {
        Some(file) => std::path::absolute(file)?,
        None => fetch::model(workspace, name)?,
    };
    let peers = vec![Peer::llama_vulkan(workspace)?];
    warn_of_others(how.threads());
    let contest = Contest { workspace, wels: &wels, work: Work::on_card(how), peers };
    let outcome = contest.run(name, (&model, &model), how.pairs)?;
    table::print(&[outcome], how.json);
    Ok(())
}
