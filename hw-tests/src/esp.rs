//! The boot partition of a virtual box that is off, with the tools tree's mtools.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The tools tree, whose programs run here with its own loader and libraries: no root, no chroot.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    root: PathBuf,
}

impl Tools {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let tools = Self {
            root: root.canonicalize().with_context(|| format!("no tools tree at {}", root.display()))?,
        };
        if !tools.path("usr/bin/qemu-system-x86_64").is_file() {
            bail!("{} has no QEMU; run `cargo xtask image` first", root.display());
        }
        Ok(tools)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// A program of the tree.
    pub(crate) fn command(&self, program: &str) -> Command {
        let libraries = self.path("usr/lib/x86_64-linux-gnu");
        let private = libraries.join("systemd");
        let all = format!("{}:{}", libraries.display(), private.display());
        // Whatever happens to the test, nothing of it stays behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.path("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(all).arg(self.path(program)).stdin(Stdio::null());
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        command
    }

    /// Makes a version's boot file of a kernel and its command line, without an initrd. ukify is a script, so the tree's Python runs it.
    pub(crate) fn ukify(&self, kernel: &Path, version: &str, words: &str, to: &Path) -> Result<()> {
        let path = |path: &Path| path.display().to_string();
        let stub = path(&self.path("usr/lib/systemd/boot/efi/linuxx64.efi.stub"));
        let release = format!(
            "ID=wels\nIMAGE_ID=wels\nIMAGE_VERSION={version}\nVERSION_ID={version}\nPRETTY_NAME=a bad update\n"
        );
        let output = self
            .command("usr/bin/python3")
            .env("PYTHONHOME", self.path("usr"))
            .arg(self.path("usr/bin/ukify"))
            .args(["build", "--linux", &path(kernel), "--stub", &stub, "--uname", "bad", "--cmdline", words])
            .args(["--os-release", &release, "--output", &path(to)])
            .output()
            .context("cannot start ukify")?;
        if !output.status.success() {
            bail!("ukify failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Runs it; gives what it printed.
    pub(crate) fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        let output =
            self.command(program).args(args).output().with_context(|| format!("cannot start {program}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{program} failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }
}

/// Where the boot partition begins: the image has it first.
const OFFSET: u64 = 1 << 20;
const FOLDER: &str = "::/EFI/Linux";

/// The boot partition of a raw disk.
pub(crate) struct Esp<'a> {
    tools: &'a Tools,
    image: String,
}

impl<'a> Esp<'a> {
    pub(crate) fn of(tools: &'a Tools, disk: &Path) -> Self {
        Self { tools, image: format!("{}@@{OFFSET}", disk.display()) }
    }

    /// The names of the versions that may be booted.
    pub(crate) fn versions(&self) -> Result<Vec<String>> {
        let list = self.tools.output("usr/bin/mdir", &["-b", "-i", &self.image, FOLDER])?;
        Ok(list.lines().filter_map(|line| line.rsplit('/').next()).map(str::to_owned).collect())
    }

    /// Puts `file` beside them.
    pub(crate) fn add(&self, file: &Path, name: &str) -> Result<()> {
        let to = format!("{FOLDER}/{name}");
        self.tools.output("usr/bin/mcopy", &["-i", &self.image, &file.display().to_string(), &to]).map(drop)
    }
}
