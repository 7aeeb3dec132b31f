//! `cargo xtask run`: from an empty machine to a chat in the browser.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, fetch, page, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// smollm2, coder-1.5b, or the path of a GGUF file, a Hugging Face folder or a pack.
    #[arg(long, default_value = "smollm2", value_name = "NAME|PATH")]
    model: String,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where accounts, chats and settings live; by default .wels/state.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    console::step("what this machine lacks", || setup::tools(workspace, setup::TO_RUN))?;
    console::step("the page", || page::build(workspace))?;
    let wels = console::step("the daemon (the first build takes some minutes)", || build(workspace))?;
    let model = model(workspace, &wels, &args.model)?;
    let state = std::path::absolute(args.state.clone().unwrap_or_else(|| workspace.join(".wels/state")))?;
    console::heading(format_args!("serving {} on {}", workspace.shown(&model), args.listen));
    let serve = Tool::new(workspace, wels).args(["serve", "--listen", &args.listen.to_string(), "--model"]);
    Err(serve.arg(model).arg("--state").arg(state).become_it())
}

/// Returns the daemon's path.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    Tool::cargo(workspace).args(["build", "--release", "--package", "wels"]).run()?;
    Ok(workspace.target().join("release/wels"))
}

/// What to serve: a pack of the model with that name, fetched and imported if need be, or the path as it is.
pub(crate) fn model(workspace: &Workspace, wels: &Path, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return path.canonicalize().with_context(|| format!("cannot read {}", path.display()));
    }
    let pack = workspace.join(".wels/models").join(name);
    if pack.join("pack.json").is_file() {
        return Ok(pack);
    }
    let source = fetch::model(workspace, name)
        .with_context(|| format!("--model {name} is neither a path that exists nor a model to fetch"))?;
    let folder = pack.parent().expect("the pack lies in a folder");
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    console::step(format_args!("import {name} into {}", workspace.shown(&pack)), || {
        Tool::new(workspace, wels).arg("import").arg(&source).arg(&pack).run()
    })?;
    Ok(pack)
}
