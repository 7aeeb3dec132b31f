//! The page in a real browser, through the port that leads to the box.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::say;
use crate::target::Target;

/// Drives the browser, with the page's own tools for that.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/browser.mjs");

pub(super) fn claims(target: &mut Target) -> Result<()> {
    let code = target.claim_code()?;
    let url = format!("http://{}", target.address());
    let output = Command::new("node").args([SCRIPT, &url, &code]).stdin(Stdio::null()).output();
    let output = output.context("cannot start node; run `cargo xtask setup`")?;
    say::lines(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        bail!("the browser: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
