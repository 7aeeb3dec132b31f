//! The virtual environment that holds what pip fetches for this checkout.

use anyhow::Result;

use crate::console;
use crate::process::Tool;
use crate::workspace::Workspace;

/// Makes the environment unless it is there.
pub(super) fn environment(workspace: &Workspace) -> Result<()> {
    let venv = workspace.venv();
    if venv.join("bin/pip").is_file() {
        return Ok(());
    }
    console::note(format_args!("python: a virtual environment in {}", workspace.shown(&venv)));
    let python = Tool::new(workspace, "python3").args(["-m", "venv", "--clear"]).arg(&venv);
    python.remedy("install python3 and python3-venv").output()?;
    Ok(())
}

/// Installs `name` at `version` into the environment unless it is there.
pub(super) fn package(workspace: &Workspace, name: &str, version: &str) -> Result<()> {
    environment(workspace)?;
    let stamp = workspace.venv().join(format!(".wels-{name}-{version}"));
    if stamp.is_file() {
        return Ok(());
    }
    console::note(format_args!("pip: installing {name} {version}"));
    let pip = Tool::new(workspace, workspace.venv().join("bin/python"));
    let pip = pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.arg(format!("{name}=={version}")).remedy("check that pip can reach its package index").output()?;
    std::fs::write(stamp, "")?;
    Ok(())
}
