//! A virtual box that is on: what can be done to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::console::Console;
use super::qmp::Qmp;
use super::shell::Shell;
use crate::lan::Lan;
use crate::say;

/// Time until the box has let go of a stick that was pulled.
const PULL_TIME_MAX: Duration = Duration::from_secs(60);
/// Time for what a slow stick was asked for last.
const BRAKE_TIME: Duration = Duration::from_millis(300);
/// The names of a stick, its file and its brake.
const STICK: &str = "stick";
const BRAKE: &str = "stick-brake";

/// A stick in the box.
struct Plugged {
    is_slow: bool,
}

/// How a stick is made: what is on it, and how it behaves.
#[derive(Clone, Debug)]
pub(crate) struct Stick {
    /// An image of all its bytes.
    pub(crate) image: PathBuf,
    /// Whether it takes what is written.
    pub(crate) is_writable: bool,
    /// Bytes a second that it gives; `None` for as many as it can.
    pub(crate) bytes_per_s: Option<u64>,
}

impl Stick {
    /// A stick whose switch says that nothing is written.
    pub(crate) fn of(image: &Path) -> Self {
        Self { image: image.to_owned(), is_writable: false, bytes_per_s: None }
    }

    /// The same, slowly.
    pub(crate) fn slow(mut self, bytes_per_s: u64) -> Self {
        self.bytes_per_s = Some(bytes_per_s);
        self
    }
}

/// It is switched off when dropped.
pub(crate) struct Vm {
    process: Child,
    console: Console,
    qmp: Qmp,
    lan: Lan,
    shell_path: PathBuf,
    shell: Option<Shell>,
    stick: Option<Plugged>,
}

impl Vm {
    pub(super) fn new(process: Child, folder: &Path, lan: Lan) -> Result<Self> {
        let mut process = Killed(Some(process));
        let child = process.0.as_mut().expect("just put there");
        let qmp = Qmp::connect(&folder.join("qmp"), child).with_context(|| {
            format!("QEMU said: {}", fs::read_to_string(folder.join("qemu.log")).unwrap_or_default())
        })?;
        Ok(Self {
            process: process.0.take().expect("nobody took it"),
            console: Console::new(folder.join("console")),
            qmp,
            lan,
            shell_path: folder.join("shell"),
            shell: None,
            stick: None,
        })
    }

    pub(crate) fn console(&mut self) -> Watched<'_> {
        Watched { console: &self.console, process: &mut self.process }
    }

    pub(crate) fn lan(&mut self) -> &mut Lan {
        &mut self.lan
    }

    /// Root's shell in it.
    pub(crate) fn shell(&mut self) -> Result<&mut Shell> {
        if self.shell.is_none() {
            self.shell = Some(Shell::connect(&self.shell_path)?);
        }
        self.shell.as_mut().context("it was just made")
    }

    /// Puts a stick into it.
    pub(crate) fn plug(&mut self, stick: &Stick) -> Result<()> {
        if self.stick.is_some() {
            bail!("there is a stick in it already");
        }
        let file = json!({ "driver": "file", "filename": stick.image, "read-only": !stick.is_writable });
        let mut node = json!({ "driver": "raw", "file": file, "read-only": !stick.is_writable });
        if let Some(bytes_per_s) = stick.bytes_per_s {
            let limits = json!({ "bps-read": bytes_per_s });
            let group = json!({ "qom-type": "throttle-group", "id": BRAKE, "limits": limits });
            self.qmp.execute("object-add", &group)?;
            node = json!({ "driver": "throttle", "throttle-group": BRAKE, "file": node, "read-only": !stick.is_writable });
        }
        node["node-name"] = json!(STICK);
        self.qmp.execute("blockdev-add", &node)?;
        let device = json!({ "driver": "usb-storage", "id": STICK, "drive": STICK, "bus": "usb.0", "removable": true });
        self.qmp.execute("device_add", &device)?;
        self.stick = Some(Plugged { is_slow: stick.bytes_per_s.is_some() });
        Ok(())
    }

    /// Pulls it, whatever the box reads of it. A brake is let go before: QEMU 10 crashes where a slow stick's answer comes to a
    /// controller that the stick has left.
    pub(crate) fn pull(&mut self) -> Result<()> {
        let stick = self.stick.take().context("there is no stick in it")?;
        if stick.is_slow {
            let path = format!("/objects/{BRAKE}");
            let free = json!({ "path": path, "property": "limits", "value": { "bps-read": 0 } });
            self.qmp.execute("qom-set", &free)?;
            std::thread::sleep(BRAKE_TIME);
        }
        self.qmp.execute("device_del", &json!({ "id": STICK }))?;
        let start = Instant::now();
        // QEMU lets go of the file once the box's controller has.
        while let Err(error) = self.qmp.execute("blockdev-del", &json!({ "node-name": STICK })) {
            if start.elapsed() > PULL_TIME_MAX {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if stick.is_slow {
            self.qmp.execute("object-del", &json!({ "id": BRAKE }))?;
        }
        Ok(())
    }

    /// Leaves but so many bytes free where models lie.
    pub(crate) fn fill_disk(&mut self, free_bytes: u64) -> Result<()> {
        let folder = "/var/lib/wels-models";
        let free = self.shell()?.run(&format!("df --block-size=1 --output=avail {folder} | tail -n 1"))?;
        let free: u64 = free.trim().parse().with_context(|| format!("df says {free:?}"))?;
        let filling = free.saturating_sub(free_bytes);
        self.shell()?.run(&format!("fallocate --length {filling} {folder}/.filling")).map(drop)
    }

    /// Remembers the box as it is now.
    pub(crate) fn snapshot(&mut self, name: &str) -> Result<()> {
        self.monitor(&format!("savevm {name}"))
    }

    /// The box is again as it was then: memory, drive and all. A stick is pulled first.
    pub(crate) fn restore(&mut self, name: &str) -> Result<()> {
        if self.stick.is_some() {
            self.pull()?;
        }
        self.monitor(&format!("loadvm {name}"))?;
        // What it was saying belongs to a time that never was.
        self.shell = None;
        Ok(())
    }

    /// The monitor answers with nothing where all is well.
    fn monitor(&mut self, line: &str) -> Result<()> {
        let said = self.qmp.execute("human-monitor-command", &json!({ "command-line": line }))?;
        match said.as_str().map(str::trim) {
            Some("") | None => Ok(()),
            Some(said) => bail!("{line}: {said}"),
        }
    }

    /// Seconds of processor time it took until now.
    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: f64 =
            after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        ticks / 100.0
    }

    /// Says how much the box has computed.
    pub(crate) fn note_cpu(&self) {
        say::note(&format!("{:.0} CPU-seconds so far", self.cpu_seconds()));
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

/// A process that does not outlive an error.
struct Killed(Option<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            // Off already, or going.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The console, and whether there is still somebody to write on it.
pub(crate) struct Watched<'a> {
    console: &'a Console,
    process: &'a mut Child,
}

impl Watched<'_> {
    /// All that it shows since the box was switched on, or woken.
    pub(crate) fn text(&self) -> String {
        self.console.text()
    }

    pub(crate) fn wait_for(&mut self, words: &str, limit: Duration) -> Result<String> {
        let process = &mut *self.process;
        self.console.wait_for(words, limit, || match process.try_wait()? {
            Some(status) => bail!("QEMU ended ({status})"),
            None => Ok(()),
        })
    }
}
