//! A box's first hours: it starts, is found, is closed, becomes somebody's; and comes back after a bad update.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{CLAIMED, READY};
use crate::qemu::Stick;
use crate::say;
use crate::stick::RELEASE;
use crate::target::{BOOT_TIME_MAX, Target};

/// Exposure that `systemd-analyze security` may find in the daemon: 2.0.
const EXPOSURE_MAX: f64 = 2.0;
/// Units of ours that are looked at besides.
const UNITS: [&str; 3] = ["wels-stick@sda.service", "wels-steward@0.service", "wels-console.service"];
/// What the design names: the page, and its encrypted sister.
const PORTS: [u16; 2] = [80, 443];
/// Time for a name on the network.
const NAME_TIME_MAX: Duration = Duration::from_secs(120);
/// Time for the gate of the boot, once the page answers.
const GATE_TIME_MAX: Duration = Duration::from_secs(600);
/// What is in the drive besides the image's own partitions: of 14 GiB these take 7.
const MODELS_GIB_MIN: f64 = 5.0;
/// The chat that must never be lost.
pub(super) const CHAT: &str = "Never to be lost";

/// Switches it on, and waits for its page.
pub(super) fn power_on(target: &mut Target, stick: Option<&Stick>) -> Result<()> {
    target.boot(stick)?;
    target.page()?.wait(BOOT_TIME_MAX)?;
    target.vm()?.note_cpu();
    Ok(())
}

pub(super) fn boots(target: &mut Target) -> Result<()> {
    power_on(target, None)?;
    let text = target.console("Code that makes it yours")?;
    let code = target.claim_code()?;
    ensure!(text.contains("http://10.0.2.15"), "the console shows no address");
    ensure!(text.contains("█▀"), "the console shows no code to scan");
    say::note(&format!("code {code}"));
    Ok(())
}

pub(super) fn is_well(target: &mut Target) -> Result<()> {
    let start = Instant::now();
    let shell = target.vm()?.shell()?;
    while shell.run("systemctl is-active --quiet systemd-bless-boot").is_err() {
        ensure!(
            start.elapsed() < GATE_TIME_MAX,
            "the gate has not passed: {}",
            shell.run("systemctl --no-pager --failed")?
        );
        std::thread::sleep(Duration::from_secs(1));
    }
    let failed = shell.run("systemctl --no-pager --plain --no-legend --failed")?;
    ensure!(failed.is_empty(), "units have failed: {failed}");
    for command in [
        "df -h / /var/lib/wels /var/lib/wels-models",
        "SYSTEMD_COLORS=0 networkctl --no-pager list",
        "systemd-analyze time",
    ] {
        say::lines(&shell.run(command)?);
    }
    let models = shell.run("df --block-size=1 --output=size /var/lib/wels-models | tail -n 1")?;
    let gib = models.trim().parse::<f64>().context(models)? / f64::from(1 << 30);
    ensure!(gib > MODELS_GIB_MIN, "the models partition has not grown: {gib:.1} GiB");
    target.vm()?.note_cpu();
    target.remember(READY)
}

pub(super) fn is_closed(target: &mut Target) -> Result<()> {
    let shell = target.vm()?.shell()?;
    let mut exposure = |unit: &str| -> Result<f64> {
        let verdict = shell.run(&format!("systemd-analyze --no-pager security {unit} | tail -n 1"))?;
        say::note(verdict.trim_matches(|c: char| !c.is_ascii_graphic()));
        let words = verdict.split_whitespace().skip_while(|word| !word.starts_with("wels"));
        words.skip(1).find_map(|word| word.parse().ok()).with_context(|| format!("no number in {verdict}"))
    };
    for unit in UNITS {
        exposure(unit)?;
    }
    let daemon = exposure("wels.service")?;
    ensure!(daemon <= EXPOSURE_MAX, "exposure {daemon}, {EXPOSURE_MAX} at most");
    Ok(())
}

pub(super) fn has_its_name(target: &mut Target) -> Result<()> {
    let found = target.lan()?.who_is("wels.local", NAME_TIME_MAX)?;
    say::note(&format!("wels.local is {}", found.address));
    ensure!(found.address.is_link_local(), "{} is no address of its own choice", found.address);
    Ok(())
}

pub(super) fn opens_only_its_doors(target: &mut Target) -> Result<()> {
    let lan = target.lan()?;
    let found = lan.who_is("wels.local", NAME_TIME_MAX)?;
    let open = lan.open_ports(found)?;
    say::note(&format!("open of 65535 TCP ports: {open:?}"));
    ensure!(open.contains(&PORTS[0]), "not even the page answers: the scan sees nothing");
    let others: Vec<_> = open.difference(&BTreeSet::from(PORTS)).copied().collect();
    ensure!(others.is_empty(), "open besides the page: {others:?}");
    Ok(())
}

pub(super) fn is_claimed(target: &mut Target) -> Result<()> {
    let code = target.claim_code()?;
    let mut page = target.page()?;
    let (status, text) = page.get("/")?;
    ensure!(status == 200 && text.contains("<html"), "no page: {status}");
    page.claim(&code)?;
    let answer = page.ask("What is the capital of France? Answer with one word.", 8)?;
    say::note(&format!("it says {answer:?}"));
    ensure!(answer.contains("Paris"), "that is no answer: {answer:?}");
    if !target.is_virtual() {
        return Ok(());
    }
    page.begin_chat(CHAT)?;
    target.keep_session(&page);
    let key = target.bench()?.maker.public_key(RELEASE)?;
    page.post("/api/admin/updates/keys", &json!({ "text": key }), None)?;
    target.remember(CLAIMED)
}

pub(super) fn hides_the_code(target: &mut Target) -> Result<()> {
    // The screen is cleared before it is drawn anew.
    let start = Instant::now();
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

pub(super) fn falls_back(target: &mut Target) -> Result<()> {
    target.cut_power()?;
    // Its disk is changed from here on.
    target.machine()?.forget()?;
    let machine = target.machine()?;
    let bad = machine.scratch("bad.efi");
    let kernel = machine.kernel()?;
    // A kernel without an initrd finds no root, and panics: as broken as an update can be.
    machine.tools.ukify(&kernel, "99", "console=ttyS0 panic=1 root=/dev/nothing", &bad)?;
    machine.with_disk(|_, esp| {
        let versions = esp.versions()?;
        say::note(&format!("after the first boot: {versions:?}"));
        ensure!(
            versions.iter().any(|name| name.starts_with("wels_") && !name.contains('+')),
            "it was not blessed"
        );
        esp.add(&bad, "wels_99+2.efi")
    })?;
    power_on(target, None)?;
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
