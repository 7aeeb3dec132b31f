//! `cargo xtask test --hw`: the image, in a virtual box.

mod second;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::{self, Files, Tree};
use crate::process::Tool;
use crate::run as daemon;
use crate::workspace::Workspace;
use crate::{console, page, setup};

/// The model that answers: small, and of an outside origin.
const MODEL: &str = "smollm2";
/// The version of the system that a stick brings.
const NEXT: &str = "0.1.1";

/// Makes the root key of whoever made the box.
const KEYGEN: [&str; 7] = ["bundle", "keygen", "--role", "root", "--name", "hw-tests", "--out"];

/// Builds the image with a model on it, and a newer one, unless only some cases are wanted; then boots it and sees what must be so.
pub(super) fn run(workspace: &Workspace, only: Option<&str>) -> Result<()> {
    let (files, next) = (Files::of(workspace, env!("CARGO_PKG_VERSION")), Files::of(workspace, NEXT));
    let image = files.kind("test.raw");
    setup::tools(workspace, &[setup::TO_RUN, setup::TO_TEST].concat())?;
    let wels = workspace.target().join("release/wels");
    let root = workspace.target().join("image/root.key");
    if only.is_none() || !image.is_file() || !next.system().is_dir() {
        // The daemon carries the page.
        page::build(workspace)?;
        let wels = console::step("the daemon", || daemon::build(workspace))?;
        let pack = daemon::model(workspace, &wels, MODEL)?;
        let root_key = public(workspace, &wels, &root)?;
        image::run(workspace, &image::Args::to_test(pack, &root_key))?;
        image::run(workspace, &image::Args::to_bring(NEXT, &root_key))?;
    }
    let second = second::pack(workspace, &wels, MODEL)?;
    console::heading("hw-tests: a virtual box");
    let cargo = Tool::cargo(workspace).args(["run", "--quiet", "--package", "hw-tests", "--", "--image"]);
    let cargo = cargo.arg(image).arg("--tools").arg(Tree::at(workspace).root());
    let cargo = cargo.arg("--wels").arg(wels).arg("--second").arg(second);
    let cargo = cargo.arg("--system").arg(next.system()).arg("--root").arg(root);
    let cargo = cargo.arg("--keep").arg(workspace.target().join("image/box"));
    match only {
        Some(words) => cargo.args(["--only", words]),
        None => cargo,
    }
    .remedy("the console's last lines are above, all of it in target/image/box/console")
    .run()
}

/// The public half of the root key at `root`, which is made if there is none.
fn public(workspace: &Workspace, wels: &Path, root: &Path) -> Result<PathBuf> {
    let public = root.with_extension("key.pub");
    if !public.is_file() {
        let folder = root.parent().context("a key without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Tool::new(workspace, wels).args(KEYGEN).arg(root).run()?;
    }
    Ok(public)
}
