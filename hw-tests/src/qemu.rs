//! A virtual box: firmware, a disk over the image, two networks, a watchdog.
//!
//! Everything it writes goes into a folder of the test's; the image is only read.

mod console;
mod qmp;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use self::console::Console;
use self::qmp::Qmp;
use crate::Args;
use crate::esp::{Esp, Tools};
use crate::lan::Lan;
use crate::say;

/// The drive is larger than the image: the models' partition takes what there is on the first boot.
const DISK_BYTES: &str = "14G";
const MEMORY_MIB: &str = "3072";
/// Where the firmware lies in the tools tree.
const FIRMWARE: &str = "usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// The box starts slowly here; a person's would not.
const KERNEL_WORDS: &str = "systemd.default_device_timeout_sec=900";
/// No NVMe: a box with such a drive can't be snapshot. The id is what the box makes its second name from.
const DEVICES: &str = "-device virtio-blk-pci,drive=disk,bootindex=0 -device qemu-xhci,id=usb \
    -device virtio-net-pci,netdev=office,romfile= -device virtio-net-pci,netdev=lan,romfile= \
    -device i6300esb -action watchdog=reset -device virtio-rng-pci -uuid 5f1b3f0e-7f0c-4c3b-9a53-57454c530001";

/// A file that says that the disk holds the box as it was once it was ready.
pub(crate) const REMEMBERED: &str = "ready";

/// What a virtual box is when it is off.
pub(crate) struct Machine {
    pub(crate) tools: Tools,
    image: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Names and texts of units that run in the box: how the suite looks inside without a way in.
    pub(crate) units: Vec<(&'static str, &'static str)>,
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
        let machine = Self { tools, image, folder, port, units: Vec::new(), _scratch: scratch };
        if args.only.is_none() {
            machine.set_remembered(false)?;
        }
        if machine.is_remembered() {
            return Ok(machine);
        }
        let create = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"];
        let (base, disk) = (machine.image.display().to_string(), machine.file("disk.qcow2"));
        machine.tools.output("usr/bin/qemu-img", &[&create[..], &[&base, &disk, DISK_BYTES]].concat())?;
        let variables = machine.tools.path(VARIABLES).display().to_string();
        let convert = ["convert", "-f", "raw", "-O", "qcow2", &variables, &machine.file("vars.qcow2")];
        machine.tools.output("usr/bin/qemu-img", &convert)?;
        Ok(machine)
    }

    /// Whether an earlier run left the box as it is once it is ready.
    pub(crate) fn is_remembered(&self) -> bool {
        self.scratch(REMEMBERED).is_file()
    }

    /// Says whether it is, for a later run.
    pub(crate) fn set_remembered(&self, is_so: bool) -> Result<()> {
        let mark = self.scratch(REMEMBERED);
        if is_so {
            fs::write(mark, "")?
        } else if mark.exists() {
            fs::remove_file(mark)?
        }
        Ok(())
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
        for name in ["console", "qmp", "lan.box", "lan.test"] {
            let _ = fs::remove_file(self.folder.join(name));
        }
        let ours = UnixDatagram::bind(self.folder.join("lan.test")).context("cannot make the network")?;
        let log = fs::File::create(self.folder.join("qemu.log"))?;
        let mut command = self.tools.command("usr/bin/qemu-system-x86_64");
        command
            .args(self.arguments())
            .args(remembered.iter().flat_map(|name| ["-loadvm", name]))
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log));
        let process = command.spawn().context("cannot start QEMU")?;
        let mut vm = Vm {
            process,
            console: Console::new(self.folder.join("console")),
            qmp: None,
            lan: Lan::new(ours, self.folder.join("lan.box"))?,
        };
        vm.qmp = Some(Qmp::connect(&self.folder.join("qmp"), &mut vm.process).with_context(|| {
            format!("QEMU said: {}", fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default())
        })?);
        Ok(vm)
    }

    fn arguments(&self) -> Vec<String> {
        let share = |name: &str| self.tools.path(&format!("usr/share/{name}")).display().to_string();
        let mut all = words(
            "-machine q35 -accel tcg,thread=multi -cpu max -smp 2 -display none -no-user-config -nodefaults",
        );
        all.extend([
            "-L".to_owned(),
            share("qemu"),
            "-L".to_owned(),
            share("seabios"),
            "-m".to_owned(),
            MEMORY_MIB.to_owned(),
        ]);
        let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
        option("-serial", format!("file:{}", self.file("console")));
        option("-qmp", format!("unix:{},server=on,wait=off", self.file("qmp")));
        let firmware = self.tools.path(FIRMWARE).display().to_string();
        option("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={firmware}"));
        option("-drive", format!("if=pflash,format=qcow2,unit=1,file={}", self.file("vars.qcow2")));
        option(
            "-drive",
            format!("if=none,id=disk,format=qcow2,file={},discard=unmap", self.file("disk.qcow2")),
        );
        option("-netdev", format!("user,id=office,restrict=on,hostfwd=tcp:127.0.0.1:{}-:80", self.port));
        let (ours, theirs) = (self.file("lan.test"), self.file("lan.box"));
        option(
            "-netdev",
            format!("dgram,id=lan,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}"),
        );
        let mut kernel = KERNEL_WORDS.to_owned();
        for (name, unit) in &self.units {
            kernel += &format!(" systemd.wants={name}.service");
            let credential = format!("io.systemd.credential.binary:systemd.extra-unit.{name}.service");
            option("-smbios", format!("type=11,value={credential}={}", base64(unit.as_bytes())));
        }
        option("-smbios", format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={kernel}"));
        all.extend(words(DEVICES));
        all
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
        let image = self.image.display().to_string();
        let base = image.strip_suffix(".test.raw").or_else(|| image.strip_suffix(".raw")).unwrap_or(&image);
        let kernel = PathBuf::from(format!("{base}.vmlinuz"));
        if !kernel.is_file() {
            bail!("no kernel at {}; run `cargo xtask image`", kernel.display());
        }
        Ok(kernel)
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

/// A virtual box that is on. It is switched off when dropped.
pub(crate) struct Vm {
    process: Child,
    console: Console,
    qmp: Option<Qmp>,
    lan: Lan,
}

impl Vm {
    pub(crate) fn console(&mut self) -> Watched<'_> {
        Watched { console: &self.console, process: &mut self.process }
    }

    pub(crate) fn lan(&mut self) -> &mut Lan {
        &mut self.lan
    }

    /// Remembers the box as it is now.
    pub(crate) fn snapshot(&mut self, name: &str) -> Result<()> {
        self.monitor(&format!("savevm {name}"))
    }

    /// The monitor answers with nothing where all is well.
    fn monitor(&mut self, line: &str) -> Result<()> {
        let qmp = self.qmp.as_mut().context("no monitor")?;
        let said = qmp.execute("human-monitor-command", &serde_json::json!({ "command-line": line }))?;
        match said.as_str().map(str::trim) {
            Some("") | None => Ok(()),
            Some(said) => bail!("{line}: {said}"),
        }
    }

    /// Seconds of processor time it took until now.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: f64 =
            after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        ticks / 100.0
    }

    pub(crate) fn cut_power(mut self) -> Result<()> {
        self.process.kill().context("cannot stop QEMU")?;
        self.process.wait().context("cannot stop QEMU")?;
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Off already, or going.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The console, and whether there is still somebody to write on it.
pub(crate) struct Watched<'a> {
    console: &'a Console,
    process: &'a mut Child,
}

impl Watched<'_> {
    pub(crate) fn wait_for(&mut self, words: &str, limit: std::time::Duration) -> Result<String> {
        let process = &mut *self.process;
        self.console.wait_for(words, limit, || match process.try_wait()? {
            Some(status) => bail!("QEMU ended ({status})"),
            None => Ok(()),
        })
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Base64 of a few hundred bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |six: u32| char::from(LETTERS[(six & 63) as usize]);
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three =
            chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for idx in 0..4 {
            text.push(if idx <= chunk.len() { letter(three >> (18 - 6 * idx)) } else { '=' });
        }
    }
    text
}

/// Says where the box is.
pub(crate) fn note_cpu(vm: &Vm) {
    say::note(&format!("{:.0} CPU-seconds so far", vm.cpu_seconds()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_everybody_writes() {
        let known = [("", ""), ("f", "Zg=="), ("foo", "Zm9v"), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")];
        for (text, want) in known {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }
}
