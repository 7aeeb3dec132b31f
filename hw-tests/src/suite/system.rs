//! A newer system from a stick: it starts; and one that cannot start leaves the box to the one before.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::boot::CHAT;
use super::sticks::{bring, show};
use crate::page::Page;
use crate::qemu::Stick;
use crate::say;
use crate::stick::{MAKER, RELEASE, Spec};
use crate::target::{BOOT_TIME_MAX, Target};
use crate::updates;

const NAME: &str = "wels-system";
const BROKEN_VERSION: &str = "98";

pub(super) fn updates(target: &mut Target) -> Result<()> {
    let folder = target.bench()?.system.clone();
    let about: Value = serde_json::from_slice(&fs::read(folder.join("system.json"))?)?;
    let version = about["version"].as_str().context("a system without a version")?.to_owned();
    refuses_others(target, &folder)?;
    install(target, &folder, 2)?;
    restart(target)?;
    let page = target.admin()?;
    updates::wait(&page, "the new system is committed", BOOT_TIME_MAX, |state| {
        Ok((state["system"]["current"]["version"] == 2).then_some(()))
    })?;
    runs(target, &version)?;
    let broken = target.bench()?.maker.path("broken-system");
    break_system(target, &broken)?;
    install(target, &broken, 3)?;
    restart(target)?;
    let page = target.admin()?;
    let why = updates::wait(&page, "the one before runs again", BOOT_TIME_MAX, |state| {
        let why = [&state["abandoned"], &state["fell_back"]].into_iter().find(|why| !why.is_null());
        Ok(why.cloned())
    })?;
    say::note(&format!("fell back: {why}"));
    runs(target, &version)
}

/// That version runs, and the chats are there.
fn runs(target: &mut Target, version: &str) -> Result<()> {
    let page = target.admin()?;
    ensure!(page.chats()?.iter().any(|title| title == CHAT), "the chat is gone");
    let found = target.vm()?.shell()?.run(". /usr/lib/os-release; echo $IMAGE_VERSION; cat /proc/cmdline")?;
    say::note(&found);
    ensure!(found.lines().next() == Some(version), "{version} does not run");
    target.vm()?.note_cpu();
    Ok(())
}

/// Whoever signs models for this box doesn't sign its systems.
fn refuses_others(target: &mut Target, folder: &Path) -> Result<()> {
    let spec = Spec { source: folder, kind: "system", name: NAME, counter: 2, key: RELEASE };
    let (image, page) = (target.bench()?.maker.image(&spec)?, target.admin()?);
    let content = show(target, &page, &Stick::of(&image))?;
    ensure!(content.refusal().as_deref() == Some("not_for_systems"), "{content:?}");
    target.vm()?.pull()?;
    updates::no_stick(&page)
}

fn install(target: &mut Target, folder: &Path, counter: u64) -> Result<()> {
    let spec = Spec { source: folder, kind: "system", name: NAME, counter, key: MAKER };
    let (image, mut page) = (target.bench()?.maker.image(&spec)?, target.admin()?);
    bring(target, &mut page, &Stick::of(&image))?;
    updates::wait(&page, "it waits for a restart", updates::STICK_TIME_MAX, |state| {
        Ok((state["restart_wanted"] == true).then_some(()))
    })?;
    target.vm()?.note_cpu();
    target.vm()?.pull()?;
    updates::no_stick(&page)
}

fn restart(target: &mut Target) -> Result<()> {
    let mut page = target.admin()?;
    page.post("/api/admin/updates/restart", &Value::Null, None)?;
    await_restart(&page)
}

/// It goes down before it comes up.
pub(super) fn await_restart(page: &Page) -> Result<()> {
    page.wait_gone(BOOT_TIME_MAX)?;
    page.wait(BOOT_TIME_MAX)
}

/// The first system with a boot file that has no initrd: whatever is signed and whole may still not start.
fn break_system(target: &mut Target, to: &Path) -> Result<()> {
    let machine = target.machine()?;
    let folder = machine.system()?;
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for name in ["root.img", "root-verity.img"] {
        fs::hard_link(folder.join(name), to.join(name)).with_context(|| format!("cannot link {name}"))?;
    }
    let about: Value = serde_json::from_slice(&fs::read(folder.join("system.json"))?)?;
    // A root of its own, which no slot will ever have: what runs is told by it.
    let roothash: String =
        about["roothash"].as_str().context("a system without a root hash")?.chars().rev().collect();
    let about = json!({ "version": BROKEN_VERSION, "roothash": roothash });
    fs::write(to.join("system.json"), about.to_string())?;
    let words = format!("console=ttyS0 panic=1 root=/dev/nothing roothash={roothash}");
    machine.tools.ukify(&machine.kernel()?, BROKEN_VERSION, &words, &to.join("boot.efi"))
}
