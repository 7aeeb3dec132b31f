//! What must be so of a box, in the order of a box's life. Each case begins where the one before it left the box.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::qemu::{REMEMBERED, note_cpu};
use crate::say;
use crate::target::{BOOT_TIME_MAX, Target};

/// Exposure that `systemd-analyze security` may find: 2.0.
const EXPOSURE_MAX: f64 = 2.0;
/// What the design names: the page, and its encrypted sister.
const PORTS: [u16; 2] = [80, 443];
/// Time for a name on the network.
const NAME_TIME_MAX: Duration = Duration::from_secs(120);
/// The log of the units that matter, on the console as it is written. Both come with the virtual machine, not with the image.
const LOG: (&str, &str) = (
    "wels-log",
    "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n[Service]\nRestart=always\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
    ExecStart=/usr/bin/journalctl --no-pager --follow --output=cat --unit=wels.service --unit=wels-health.service \
    --unit=wels-fallback.service --unit=wels-name.service --unit=wels-console.service\n",
);
/// Runs once in the box, to print what the suite asks.
const PROBE: (&str, &str) = (
    "wels-probe",
    "[Unit]\nAfter=wels-health.service\n[Service]\nType=oneshot\nStandardOutput=tty\nStandardError=tty\n\
    TTYPath=/dev/ttyS0\nEnvironment=SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0 TERM=dumb\n\
    ExecStart=-/usr/bin/systemd-analyze --no-pager security wels.service\n\
    ExecStart=-/bin/sh -c 'ss -H -lntu; df -h / /var/lib/wels /var/lib/wels-models; systemctl --no-pager --failed; \
    networkctl --no-pager list; systemd-analyze --no-pager time; echo PROBE-DONE'\n",
);
const PROBE_DONE: &str = "PROBE-DONE";

/// One thing that must be so.
struct Case {
    name: &'static str,
    /// Whether a real box can show it without a person's hands.
    real: bool,
    run: fn(&mut Target) -> Result<()>,
}

const CASES: &[Case] = &[
    Case { name: "boots from the image, and the console shows address and code", real: false, run: boots },
    Case {
        name: "the box is well: its gate has passed, its units run, its drive is used",
        real: false,
        run: is_well,
    },
    Case {
        name: "the daemon's unit is closed: systemd-analyze security <= 2.0",
        real: false,
        run: is_closed,
    },
    Case {
        name: "wels.local answers on the network, without anybody who hands out addresses",
        real: false,
        run: has_its_name,
    },
    Case { name: "a scan finds only what the design names", real: false, run: opens_only_its_doors },
    Case {
        name: "the page is claimed with the console's code, and a question answered",
        real: true,
        run: is_claimed,
    },
    Case { name: "a claimed box shows no code any more", real: false, run: hides_the_code },
    Case {
        name: "after a cut cord and a bad update it comes back by itself, and is still claimed",
        real: false,
        run: falls_back,
    },
];

/// Runs all cases, or those whose names hold `only` and what they need; stops at the first that fails.
pub(crate) fn run(mut target: Target, only: Option<&str>) -> Result<()> {
    let wanted = |case: &&Case| {
        (case.real || target.is_virtual()) && only.is_none_or(|words| case.name.contains(words))
    };
    let mut cases: Vec<_> = CASES.iter().filter(wanted).collect();
    // Every other case needs a box that is on.
    if target.is_virtual() && cases.first().is_some_and(|case| case.name != CASES[0].name) {
        cases.insert(0, &CASES[0]);
    }
    for case in &cases {
        let since = say::begins(case.name);
        match (case.run)(&mut target) {
            Ok(()) => say::ended(case.name, since, "ok"),
            Err(error) => {
                say::ended(case.name, since, "FAIL");
                say::note("the console's last lines:");
                say::lines(&target.console_tail());
                return Err(error.context(case.name));
            }
        }
    }
    say::note(&format!("{} of {} cases, all well", cases.len(), CASES.len()));
    Ok(())
}

fn boots(target: &mut Target) -> Result<()> {
    if target.machine()?.is_remembered() {
        say::note("as an earlier run left it");
        target.boot(Some(REMEMBERED))?;
        return target.page()?.wait(BOOT_TIME_MAX);
    }
    target.machine()?.units = vec![LOG, PROBE];
    target.boot(None)?;
    target.page()?.wait(BOOT_TIME_MAX)?;
    note_cpu(target.vm()?);
    let code = target.claim_code()?;
    let text = target.console("http://wels.local")?;
    ensure!(text.contains("http://10.0.2.15"), "the console shows no address");
    ensure!(text.contains("█▀"), "the console shows no code to scan");
    say::note(&format!("code {code}"));
    Ok(())
}

fn is_well(target: &mut Target) -> Result<()> {
    let text = target.console(PROBE_DONE)?;
    note_cpu(target.vm()?);
    let probe = text.rsplit("Overall exposure").next().unwrap_or_default();
    say::lines(probe);
    ensure!(probe.contains("0 loaded units listed"), "units have failed: see above");
    let models =
        probe.lines().find(|line| line.contains("/var/lib/wels-models")).context("no models partition")?;
    // The drive has 14 GiB, of which the image's own partitions take 7.
    let size = models
        .split_whitespace()
        .nth(1)
        .and_then(|size| size.strip_suffix('G'))
        .and_then(|size| size.parse::<f64>().ok());
    ensure!(size.is_some_and(|gib| gib > 5.0), "the models partition has not grown: {models}");
    target.vm()?.snapshot(REMEMBERED)?;
    target.machine()?.set_remembered(true)
}

fn is_closed(target: &mut Target) -> Result<()> {
    let text = target.console("Overall exposure level")?;
    let line = text.lines().find(|line| line.contains("Overall exposure level")).context("no verdict")?;
    say::note(line.trim_matches(|c: char| !c.is_ascii_graphic()));
    let words = line.split_whitespace().skip_while(|word| *word != "wels.service:");
    let exposure: f64 = words.skip(1).find_map(|word| word.parse().ok()).context("no number in it")?;
    ensure!(exposure <= EXPOSURE_MAX, "exposure {exposure}, {EXPOSURE_MAX} at most");
    Ok(())
}

fn has_its_name(target: &mut Target) -> Result<()> {
    let found = target.lan()?.who_is("wels.local", NAME_TIME_MAX)?;
    say::note(&format!("wels.local is {}", found.address));
    ensure!(found.address.is_link_local(), "{} is no address of its own choice", found.address);
    Ok(())
}

fn opens_only_its_doors(target: &mut Target) -> Result<()> {
    let lan = target.lan()?;
    let found = lan.who_is("wels.local", NAME_TIME_MAX)?;
    let open = lan.open_ports(found)?;
    say::note(&format!("open of 65535 TCP ports: {open:?}"));
    ensure!(open.contains(&PORTS[0]), "not even the page answers: the scan sees nothing");
    let others: Vec<_> = open.difference(&BTreeSet::from(PORTS)).copied().collect();
    ensure!(others.is_empty(), "open besides the page: {others:?}");
    Ok(())
}

fn is_claimed(target: &mut Target) -> Result<()> {
    let code = target.claim_code()?;
    let mut page = target.page()?;
    let (status, text) = page.get("/")?;
    ensure!(status == 200 && text.contains("<html"), "no page: {status}");
    page.claim(&code)?;
    let answer = page.ask("What is the capital of France? Answer with one word.", 8)?;
    say::note(&format!("it says {answer:?}"));
    ensure!(answer.contains("Paris"), "that is no answer: {answer:?}");
    Ok(())
}

fn hides_the_code(target: &mut Target) -> Result<()> {
    // The screen is cleared before it is drawn anew.
    let start = std::time::Instant::now();
    loop {
        let text = target.console("http://wels.local")?;
        let screen = text.rsplit("\x1b[2J\x1b[H").next().unwrap_or_default();
        if screen.contains("All is well") && !screen.contains("Code that makes it yours") {
            return Ok(());
        }
        if start.elapsed() > NAME_TIME_MAX {
            bail!("the console still shows:\n{screen}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn falls_back(target: &mut Target) -> Result<()> {
    target.cut_power()?;
    // Its disk is changed from here on.
    target.machine()?.set_remembered(false)?;
    target.machine()?.units = vec![LOG];
    let machine = target.machine()?;
    let bad = machine.scratch("bad.efi");
    let kernel = machine.kernel()?;
    // A kernel without an initrd finds no root, and panics: as broken as an update can be.
    machine.tools.ukify(&kernel, "console=ttyS0 panic=1 root=/dev/nothing", &bad)?;
    machine.with_disk(|_, esp| {
        let versions = esp.versions()?;
        say::note(&format!("after the first boot: {versions:?}"));
        ensure!(
            versions.iter().any(|name| name.starts_with("wels_") && !name.contains('+')),
            "it was not blessed"
        );
        esp.add(&bad, "wels_99+2.efi")
    })?;
    target.boot(None)?;
    target.page()?.wait(BOOT_TIME_MAX)?;
    note_cpu(target.vm()?);
    let panics = target.console("Kernel panic")?.matches("Kernel panic - not syncing").count();
    ensure!(panics == 2, "the bad version was tried {panics} times, not 2");
    let mut page = target.page()?;
    page.sign_in().context("whoever claimed it is forgotten")?;
    target.cut_power()?;
    let versions = target.machine()?.versions()?;
    say::note(&format!("after the fall back: {versions:?}"));
    ensure!(versions.iter().any(|name| name == "wels_99+0-2.efi"), "the bad version is not marked");
    fs::remove_file(&bad)?;
    Ok(())
}
