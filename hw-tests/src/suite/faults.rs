//! What goes wrong on the way, at moments that a seed chooses: afterwards every model that is there is whole, the chats are there,
//! and the daemon answers.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::boot::CHAT;
use super::sticks::{COUNTER, NAME, second, show};
use super::{CLAIMED, boot};
use crate::qemu::Stick;
use crate::stick::{self, Lie, RELEASE, STRANGER};
use crate::target::{BOOT_TIME_MAX, Target};
use crate::{say, updates};

/// What a slow stick gives a second, so that there is a middle to pull it in.
const SLOW_BYTES_PER_S: u64 = 12 << 20;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The stick is pulled while it is copied, and comes back.
    Pulled,
    /// The power goes while it is copied; the stick stays in.
    CutCopying,
    /// The power goes while the new model is tested or takes over.
    CutSwitching,
    /// The drive is full before anything begins.
    Full,
    /// The drive is filled once the administrator has agreed.
    FullLater,
    /// A bit of a chunk has turned.
    Corrupt,
    /// A bit of what was signed has changed.
    Changed,
    /// Signed by nobody the box knows.
    Stranger,
    /// Signed lies.
    Lies(Lie),
    /// The first copy of the stick's partition table is gone.
    TornTable,
}

const FAULTS: [Fault; 20] = [
    Fault::Pulled,
    Fault::Pulled,
    Fault::Pulled,
    Fault::Pulled,
    Fault::CutCopying,
    Fault::CutCopying,
    Fault::CutSwitching,
    Fault::CutSwitching,
    Fault::Full,
    Fault::FullLater,
    Fault::Corrupt,
    Fault::Corrupt,
    Fault::Corrupt,
    Fault::Changed,
    Fault::Stranger,
    Fault::Lies(Lie::Size),
    Fault::Lies(Lie::Path),
    Fault::Lies(Lie::Hundred),
    Fault::Lies(Lie::Truncated),
    Fault::TornTable,
];

pub(super) fn all(target: &mut Target) -> Result<()> {
    let mut random = Random(target.bench()?.seed);
    for (idx, fault) in FAULTS.into_iter().enumerate() {
        let share = random.share();
        let what = format!("fault {idx} of seed {}: {fault:?} at {share:.2}", target.bench()?.seed);
        let since = std::time::Instant::now();
        target.restore(CLAIMED).and_then(|()| one(target, fault, share)).context(what.clone())?;
        say::note(&format!("{what}: well after {:.0} s", since.elapsed().as_secs_f64()));
    }
    Ok(())
}

fn one(target: &mut Target, fault: Fault, share: f64) -> Result<()> {
    match fault {
        Fault::Pulled => pulled(target, share),
        Fault::CutCopying => cut(target, |page| updates::copied(page, share)),
        Fault::CutSwitching => cut(target, |page| updates::step(page, &["test", "switch", "done"])),
        Fault::Full => full(target),
        Fault::FullLater => full_later(target),
        Fault::Corrupt => damaged(target, "damaged", |image| stick::flip(image, 0.3 + share * 0.6)),
        Fault::Changed => refused(target, "bad_signature", |target| changed(target, RELEASE, stick::retitle)),
        Fault::Stranger => refused(target, "unknown_key", |target| second(target, COUNTER, STRANGER)),
        Fault::Lies(lie) => {
            let code = match lie {
                Lie::Size | Lie::Path => "bad_manifest",
                Lie::Hundred => "no_space",
                Lie::Truncated => "truncated",
            };
            refused(target, code, |target| stick::lie(&target.bench()?.maker, lie))
        }
        Fault::TornTable => {
            let image = changed(target, RELEASE, stick::tear_table)?;
            finishes(target, &Stick::of(&image))
        }
    }?;
    is_well(target)
}

/// A copy of the second model's stick, changed.
fn changed(
    target: &Target,
    key: &'static str,
    change: fn(&std::path::Path) -> Result<()>,
) -> Result<PathBuf> {
    let to = target.bench()?.maker.path("changed.img");
    stick::copy(&second(target, COUNTER, key)?, &to)?;
    change(&to)?;
    Ok(to)
}

fn pulled(target: &mut Target, share: f64) -> Result<()> {
    let (image, mut page) = (second(target, COUNTER, RELEASE)?, target.admin()?);
    let slow = Stick::of(&image).slow(SLOW_BYTES_PER_S);
    let content = show(target, &page, &slow)?;
    updates::install(&mut page, &content)?;
    let step = updates::copied(&page, share)?;
    target.vm()?.pull()?;
    ensure!(step == "copy", "there was no middle to pull it in: {step}");
    let error = updates::ended(&page)?;
    ensure!(error.as_deref() == Some("carrier_gone"), "it ended with {error:?}");
    is_well(target)?;
    finishes(target, &Stick::of(&image))
}

fn cut(target: &mut Target, moment: impl FnOnce(&crate::page::Page) -> Result<String>) -> Result<()> {
    let (image, mut page) = (second(target, COUNTER, RELEASE)?, target.admin()?);
    let content = show(target, &page, &Stick::of(&image).slow(SLOW_BYTES_PER_S))?;
    updates::install(&mut page, &content)?;
    let step = moment(&page)?;
    target.cut_power()?;
    say::note(&format!("cut in {step}"));
    boot::power_on(target, Some(&Stick::of(&image)))?;
    // What was agreed to goes on by itself.
    let page = target.admin()?;
    updates::wait(&page, "it goes on", updates::INSTALL_TIME_MAX, |state| Ok(is_second(state).then_some(())))
}

fn is_second(state: &Value) -> bool {
    state["model"]["current"]["name"] == NAME
}

/// A stick that was in the box, or one like it, is put in and installs to the end.
fn finishes(target: &mut Target, stick: &Stick) -> Result<()> {
    let mut page = target.admin()?;
    updates::no_stick(&page)?;
    let content = show(target, &page, stick)?;
    // What was agreed to may be going on by itself, or be there already.
    if let Err(error) = updates::install(&mut page, &content) {
        say::note(&format!("not asked for again: {error:#}"));
    }
    updates::wait(&page, "it is installed", updates::INSTALL_TIME_MAX, |state| {
        Ok(is_second(state).then_some(()))
    })
}

fn full(target: &mut Target) -> Result<()> {
    target.vm()?.fill_disk(16 << 20)?;
    refused(target, "no_space", |target| second(target, COUNTER, RELEASE))
}

fn full_later(target: &mut Target) -> Result<()> {
    let (image, mut page) = (second(target, COUNTER, RELEASE)?, target.admin()?);
    let content = show(target, &page, &Stick::of(&image).slow(SLOW_BYTES_PER_S))?;
    target.vm()?.fill_disk(16 << 20)?;
    if let Err(error) = updates::install(&mut page, &content) {
        say::note(&format!("{error:#}"));
        return Ok(());
    }
    let error = updates::ended(&page)?;
    ensure!(matches!(error.as_deref(), Some("no_space" | "disk_full")), "it ended with {error:?}");
    Ok(())
}

fn damaged(
    target: &mut Target,
    code: &str,
    damage: impl FnOnce(&std::path::Path) -> Result<()>,
) -> Result<()> {
    let image = target.bench()?.maker.path("damaged.img");
    stick::copy(&second(target, COUNTER, RELEASE)?, &image)?;
    damage(&image)?;
    let mut page = target.admin()?;
    let content = show(target, &page, &Stick::of(&image))?;
    updates::install(&mut page, &content)?;
    let error = updates::ended(&page)?;
    ensure!(error.as_deref() == Some(code), "it ended with {error:?}");
    Ok(())
}

fn refused(target: &mut Target, code: &str, image: impl FnOnce(&Target) -> Result<PathBuf>) -> Result<()> {
    let (image, mut page) = (image(target)?, target.admin()?);
    let content = show(target, &page, &Stick::of(&image))?;
    ensure!(content.refusal().as_deref() == Some(code), "not {code}: {content:?}");
    ensure!(updates::install(&mut page, &content).is_err(), "it was taken all the same");
    Ok(())
}

/// What must be so whatever went wrong.
fn is_well(target: &mut Target) -> Result<()> {
    let page = target.admin()?;
    page.wait(BOOT_TIME_MAX)?;
    let chats = page.chats()?;
    ensure!(chats.iter().any(|title| title == CHAT), "the chat is gone: {chats:?}");
    is_whole(target)
}

/// Every version at its place is, to the byte, what its manifest says.
pub(super) fn is_whole(target: &mut Target) -> Result<()> {
    let shell = target.vm()?.shell()?;
    let folders = shell.run("cd /var/lib/wels-models && ls -d [a-z0-9]*/[0-9]* || true")?;
    for folder in folders.lines() {
        let folder = format!("/var/lib/wels-models/{}", folder.trim());
        // The first model was put there by hand, without a manifest.
        let Ok(manifest) = shell.run(&format!("cat {folder}/bundle.json")) else { continue };
        let manifest: Value = serde_json::from_str(&manifest).with_context(|| folder.clone())?;
        for file in manifest["files"].as_array().context("a manifest without files")? {
            let path = file["path"].as_str().context("a file without a path")?;
            let sum = shell.run(&format!("sha256sum {folder}/{path}"))?;
            ensure!(file["sha256"].as_str() == sum.split_whitespace().next(), "{folder}/{path} is not whole");
        }
    }
    Ok(())
}

/// A generator of moments: SplitMix64.
struct Random(u64);

impl Random {
    /// From 0.05 to 0.75: what is left of a copy takes two seconds even then, so that a hand is not too late.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        0.05 + 0.7 * ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
