//! A virtual box: firmware, a disk over the image, two networks, a watchdog.
//!
//! Everything it writes goes into a folder of the test's; the image is only read.

mod arguments;
mod console;
mod qmp;
mod shell;
mod vm;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use self::console::Console;
pub(crate) use self::vm::{Stick, Vm};
use crate::Args;
use crate::esp::{Esp, Tools};
use crate::lan::Lan;

/// The drive is larger than the image: the models' partition takes what there is on the first boot.
const DISK_BYTES: &str = "14G";
/// Where the firmware's settings lie in the tools tree.
const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// A folder with a file for each snapshot that the disk holds.
const MARKS: &str = "remembered";

/// What a virtual box is when it is off.
pub(crate) struct Machine {
    pub(crate) tools: Tools,
    image: PathBuf,
    folder: PathBuf,
    port: u16,
    _scratch: Option<tempfile::TempDir>,
}

impl Machine {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let (Some(image), Some(tools)) = (&args.image, &args.tools) else {
            bail!("--image and --tools are needed")
        };
        let tools = Tools::new(tools)?;
        let scratch = if args.keep.is_some() { None } else { Some(tempfile::tempdir()?) };
        let folder = args.keep.clone().or_else(|| scratch.as_ref().map(|dir| dir.path().to_owned()));
        let folder = folder.context("a folder is kept or scratch")?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // A disk names the one beneath it as seen from its own folder.
        let folder = folder.canonicalize()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let image = image.canonicalize().with_context(|| format!("no image at {}", image.display()))?;
        let machine = Self { tools, image, folder, port, _scratch: scratch };
        if args.only.is_none() {
            machine.forget()?;
        }
        Ok(machine)
    }

    /// A drive that holds the image, firmware without settings: a box that was never on.
    pub(crate) fn renew(&self) -> Result<()> {
        self.forget()?;
        let create = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"];
        let (base, disk) = (self.image.display().to_string(), self.file("disk.qcow2"));
        self.tools.output("usr/bin/qemu-img", &[&create[..], &[&base, &disk, DISK_BYTES]].concat())?;
        let variables = self.tools.path(VARIABLES).display().to_string();
        let convert = ["convert", "-f", "raw", "-O", "qcow2", &variables, &self.file("vars.qcow2")];
        self.tools.output("usr/bin/qemu-img", &convert).map(drop)
    }

    /// Whether the disk holds any box of an earlier run.
    pub(crate) fn is_remembered(&self) -> bool {
        self.folder.join(MARKS).is_dir()
    }

    /// Whether the disk holds the box as it was then; with what had to be kept besides.
    pub(crate) fn remembered(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.mark(name)).ok()
    }

    /// Says that it does, for a later run too.
    pub(crate) fn remember(&self, name: &str, besides: &str) -> Result<()> {
        let mark = self.mark(name);
        fs::create_dir_all(mark.parent().context("a mark lies in a folder")?)?;
        fs::write(&mark, besides).with_context(|| format!("cannot write {}", mark.display()))
    }

    /// The disk is another one from now on.
    pub(crate) fn forget(&self) -> Result<()> {
        let marks = self.folder.join(MARKS);
        if marks.exists() {
            fs::remove_dir_all(&marks).with_context(|| format!("cannot remove {}", marks.display()))?;
        }
        Ok(())
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.folder.join(MARKS).join(name)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(crate) fn page(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn console_tail(&self) -> String {
        Console::new(self.folder.join("console")).tail()
    }

    /// Switches it on: cold, or as it was when it was remembered.
    pub(crate) fn start(&self, remembered: Option<&str>) -> Result<Vm> {
        for name in ["console", "shell", "qmp", "lan.box", "lan.test"] {
            let _ = fs::remove_file(self.folder.join(name));
        }
        let ours = UnixDatagram::bind(self.folder.join("lan.test")).context("cannot make the network")?;
        let log = fs::File::create(self.folder.join("qemu.log"))?;
        let mut command = self.tools.command("usr/bin/qemu-system-x86_64");
        command
            .args(arguments::of(self))
            .args(remembered.iter().flat_map(|name| ["-loadvm", name]))
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log));
        let process = command.spawn().context("cannot start QEMU")?;
        Vm::new(process, &self.folder, Lan::new(ours, self.folder.join("lan.box"))?)
    }

    /// Works on the disk of a box that is off, as on a drive taken out of it.
    pub(crate) fn with_disk(&self, work: impl FnOnce(&Path, Esp<'_>) -> Result<()>) -> Result<()> {
        let (overlay, raw) = (self.file("disk.qcow2"), self.folder.join("disk.raw"));
        let raw_name = raw.display().to_string();
        self.tools.output("usr/bin/qemu-img", &["convert", "-O", "raw", &overlay, &raw_name])?;
        work(&raw, Esp::of(&self.tools, &raw))?;
        // It stays raw underneath, with a fresh layer above.
        let base = self.folder.join("base.raw");
        fs::rename(&raw, &base)?;
        let base = base.display().to_string();
        self.tools
            .output("usr/bin/qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &base, &overlay])
            .map(drop)
    }

    /// The kernel of the image: beside it, as `cargo xtask image` leaves it.
    pub(crate) fn kernel(&self) -> Result<PathBuf> {
        self.beside("wels", ".vmlinuz")
    }

    /// The files of the image's own system, as one brings it on a stick.
    pub(crate) fn system(&self) -> Result<PathBuf> {
        self.beside("system", "")
    }

    /// What is called as the image is, but for its beginning and its end.
    fn beside(&self, beginning: &str, end: &str) -> Result<PathBuf> {
        let name = self.image.file_name().unwrap_or_default().to_string_lossy();
        let base = name.strip_suffix(".test.raw").or_else(|| name.strip_suffix(".raw")).unwrap_or(&name);
        let version = base.strip_prefix("wels_").unwrap_or(base);
        let path = self.image.with_file_name(format!("{beginning}_{version}{end}"));
        if !path.exists() {
            bail!("nothing at {}; run `cargo xtask image`", path.display());
        }
        Ok(path)
    }

    /// The names of the versions on its boot partition, as they are now.
    pub(crate) fn versions(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.with_disk(|_, esp| {
            found = esp.versions()?;
            Ok(())
        })?;
        Ok(found)
    }

    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
