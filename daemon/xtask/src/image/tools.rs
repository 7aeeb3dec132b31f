//! The tools tree: the programs that build the image and run it, in the release that the image is made of. Debian 12's own are
//! too old.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::mirrors::{RELEASE, Source};
use crate::console;
use crate::process::Tool;
use crate::workspace::Workspace;

/// What is in it, besides apt and what every Debian has.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "cpio",
    "cryptsetup-bin",
    "debian-archive-keyring",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "exfatprogs",
    "fdisk",
    "kmod",
    "mkosi",
    "mtools",
    "ovmf",
    "qemu-system-x86",
    "qemu-utils",
    "swtpm",
    "systemd-boot-efi",
    "systemd-boot-tools",
    "systemd-repart",
    "systemd-ukify",
    "uidmap",
    "xz-utils",
    "zstd",
];

/// A folder with the tools' programs, and one beside it that both sides see.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    workspace: Workspace,
    root: PathBuf,
}

impl Tree {
    /// Makes the tree, unless one with these very packages is there.
    pub(super) fn make(workspace: &Workspace, sources: &[Source]) -> Result<Self> {
        let tree = Self::at(workspace);
        fs::create_dir_all(tree.work()).with_context(|| format!("cannot make {}", tree.work().display()))?;
        let stamp = tree.root.join("etc/wels-tools-complete");
        if stamp.is_file() {
            console::note(format_args!("{} has them all", workspace.shown(&tree.root)));
            return Ok(tree);
        }
        if tree.root.exists() {
            fs::remove_dir_all(&tree.root)
                .with_context(|| format!("cannot remove {}", tree.root.display()))?;
        }
        let list = tree.work().join("tools.sources");
        fs::write(&list, sources.iter().map(ToString::to_string).collect::<String>())?;
        let include = format!("--include={}", PACKAGES.join(","));
        let tool = Tool::new(workspace, "mmdebstrap").args(["--variant=apt", "--quiet", &include, RELEASE]);
        let tool = tool.arg(&tree.root).arg(&list);
        tool.remedy(format!("check that apt's mirror has {RELEASE}, then run the same command again"))
            .output()?;
        fs::write(&stamp, PACKAGES.join("\n"))?;
        Ok(tree)
    }

    /// Where the tree of today's list of packages is, or will be.
    pub(crate) fn at(workspace: &Workspace) -> Self {
        let hash = Sha256::digest(format!("{RELEASE} {}", PACKAGES.join(" ")));
        let name: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { workspace: workspace.clone(), root: workspace.target().join(format!("image/tools-{name}")) }
    }

    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What is `/wels` inside.
    pub(crate) fn work(&self) -> PathBuf {
        self.workspace.target().join("image/work")
    }

    /// A program of the tree, run inside it.
    pub(crate) fn tool(&self, program: &str) -> Tool {
        let enter = Tool::new(&self.workspace, self.workspace.join("os-image/in-tools"));
        enter.arg(&self.root).arg(self.work()).arg(program)
    }

    /// A path below [`Self::work`] as the tree's programs see it.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(self.work()).expect("only files of the work folder are seen inside");
        Path::new("/wels").join(below)
    }
}
