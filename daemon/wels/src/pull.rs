//! `wels pull`: stub until the catalogue's format stands.
use std::process::ExitCode;
use anyhow::{Result, bail};
use crate::cli::Pull;
#[expect(dead_code, reason = "wired below")]
mod transfer;
pub(crate) fn run(_args: &Pull) -> Result<ExitCode> { bail!("not yet") }
