//! `cargo xtask test --hw`: the image, in a virtual box.

use anyhow::Result;

use crate::console;
use crate::image::{self, Files, Tree};
use crate::process::Tool;
use crate::run as daemon;
use crate::workspace::Workspace;

/// The model that answers: small, and of an outside origin.
const MODEL: &str = "smollm2";

/// Builds the image with a model on it, unless only some cases are wanted; then boots it and sees what must be so.
pub(super) fn run(workspace: &Workspace, only: Option<&str>) -> Result<()> {
    let files = Files::of(workspace, env!("CARGO_PKG_VERSION"));
    let image = files.kind("test.raw");
    if only.is_none() || !image.is_file() {
        let wels = console::step("the daemon", || daemon::build(workspace))?;
        let pack = daemon::model(workspace, &wels, MODEL)?;
        image::run(workspace, &image::Args::to_test(pack))?;
    }
    console::heading("hw-tests: a virtual box");
    let cargo = Tool::cargo(workspace).args(["run", "--quiet", "--package", "hw-tests", "--", "--image"]);
    let cargo = cargo.arg(image).arg("--tools").arg(Tree::at(workspace).root());
    let cargo = cargo.arg("--keep").arg(workspace.target().join("image/box"));
    match only {
        Some(words) => cargo.args(["--only", words]),
        None => cargo,
    }
    .remedy("the console's last lines are above, all of it in target/image/box/console")
    .run()
}
