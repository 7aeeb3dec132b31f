//! Debian packages: which are missing, and installing them.

use anyhow::{Result, bail};

use super::Need;
use crate::console;
use crate::process::{Tool, on_path};
use crate::workspace::Workspace;

/// The Debian packages that `need` lacks on this machine. Programs are looked for, not packages: where they come from
/// does not matter.
pub(super) fn missing(workspace: &Workspace, need: Need) -> Vec<&'static str> {
    let without = |program: &str, package: &'static str| (!on_path(workspace, program)).then_some(package);
    let found = match need {
        Need::Compiler => vec![without("cc", "build-essential"), without("c++", "build-essential")],
        Need::Python if workspace.venv().join("bin/python").is_file() => vec![],
        Need::Python => {
            vec![without("python3", "python3"), cannot_make_environments(workspace).then_some("python3-venv")]
        }
        Need::Vulkan if has_vulkan() => vec![],
        Need::Vulkan => vec![Some("mesa-vulkan-drivers"), Some("libvulkan1")],
        Need::Browser => vec![without("chromium", "chromium")],
        Need::Clang => vec![without("clang", "clang")],
        Need::Mmdebstrap => vec![without("mmdebstrap", "mmdebstrap")],
        Need::Node | Need::PagePackages | Need::Typos | Need::CargoDeny | Need::Numpy | Need::Gguf => vec![],
    };
    found.into_iter().flatten().collect()
}

/// Whether a driver in software is there, and what loads it.
fn has_vulkan() -> bool {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let names = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    names.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("lvp_icd"))
}

/// Debian ships Python without the parts that `python3 -m venv` needs.
fn cannot_make_environments(workspace: &Workspace) -> bool {
    Tool::new(workspace, "python3").args(["-c", "import ensurepip, venv"]).output().is_err()
}

/// Installs `packages`, asking apt for its lists first.
///
/// # Errors
/// There is no apt, no right to use it, or apt fails; the error names the packages.
pub(super) fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut names = packages.to_vec();
    names.sort_unstable();
    names.dedup();
    let by_hand = format!("install by hand, then run the same command again: {}", names.join(" "));
    if !on_path(workspace, "apt-get") {
        bail!("this machine lacks programs and has no apt-get; {by_hand}");
    }
    console::note(format_args!("apt: installing {}", names.join(", ")));
    apt_get(workspace, &by_hand)?.arg("update").output()?;
    let install = apt_get(workspace, &by_hand)?.args(["install", "--yes", "--no-install-recommends"]);
    install.args(names).output()?;
    Ok(())
}

fn apt_get(workspace: &Workspace, by_hand: &str) -> Result<Tool> {
    let is_root = Tool::new(workspace, "id").arg("-u").output()?.trim() == "0";
    let tool = if is_root {
        Tool::new(workspace, "apt-get")
    } else if on_path(workspace, "sudo") {
        Tool::new(workspace, "sudo").args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"])
    } else {
        bail!("apt-get needs root and there is no sudo; {by_hand}");
    };
    Ok(tool.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive").remedy(by_hand))
}
