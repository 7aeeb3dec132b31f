//! What sticks bring: shown, agreed to, installed, rolled back.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::page::Page;
use crate::qemu::Stick;
use crate::say;
use crate::stick::{RELEASE, STRANGER, Spec};
use crate::target::Target;
use crate::updates::{self, Content};

/// What the second model is called on sticks.
pub(super) const NAME: &str = "second";
/// Its version here, so that there is an older one.
pub(super) const COUNTER: u64 = 2;

/// The model that was there first, as the image has it.
const FIRST: &str = "smollm2 1";

/// A stick with the second model.
pub(super) fn second(target: &Target, counter: u64, key: &'static str) -> Result<PathBuf> {
    let bench = target.bench()?;
    bench.maker.image(&Spec { source: &bench.second, kind: "model", name: NAME, counter, key })
}

/// Puts a stick in, and waits until the box says what is on it.
pub(super) fn show(target: &mut Target, page: &Page, stick: &Stick) -> Result<Content> {
    target.vm()?.plug(stick)?;
    updates::stick(page)
}

/// Puts a stick in, agrees to what is shown, and waits for its end.
pub(super) fn bring(target: &mut Target, page: &mut Page, stick: &Stick) -> Result<()> {
    let content = show(target, page, stick)?;
    ensure!(content.refusal().is_none(), "it is refused: {content:?}");
    updates::install(page, &content)?;
    updates::ended_well(page)
}

/// What answers, as programs see it.
fn answering(page: &mut Page) -> Result<String> {
    let made = page.post("/api/keys", &json!({ "name": "who" }), None)?;
    let key = made["key"].as_str().unwrap_or_default().to_owned();
    let ask =
        json!({ "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 4, "temperature": 0 });
    let answer = page.post("/v1/chat/completions", &ask, Some(&key))?;
    say::note(&format!("{} says {}", answer["model"], answer["choices"][0]["message"]["content"]));
    Ok(answer["model"].as_str().unwrap_or_default().to_owned())
}

pub(super) fn refuses_strangers(target: &mut Target) -> Result<()> {
    let (image, mut page) = (second(target, COUNTER, STRANGER)?, target.admin()?);
    let content = show(target, &page, &Stick::of(&image))?;
    ensure!(content.refusal().as_deref() == Some("unknown_key"), "{content:?}");
    let tried = updates::install(&mut page, &content);
    ensure!(tried.is_err(), "it was installed all the same");
    let key = target.bench()?.maker.public_key(STRANGER)?;
    page.post("/api/admin/updates/keys", &json!({ "text": key }), None)?;
    target.vm()?.pull()?;
    updates::no_stick(&page)?;
    let content = show(target, &page, &Stick::of(&image))?;
    ensure!(content.refusal().is_none(), "an administrator believes it, and the box does not: {content:?}");
    say::note(&format!("{}", content.preview()?["signer"]));
    Ok(())
}

pub(super) fn installs(target: &mut Target) -> Result<()> {
    let (image, mut page) = (second(target, COUNTER, RELEASE)?, target.admin()?);
    let before = answering(&mut page)?;
    bring(target, &mut page, &Stick::of(&image))?;
    target.vm()?.note_cpu();
    updates::serving(&page, &format!("{NAME} {COUNTER}"))?;
    let after = answering(&mut page)?;
    ensure!(after != before, "{before} still answers");
    super::faults::is_whole(target)?;
    target.vm()?.pull()?;
    updates::no_stick(&page)
}

pub(super) fn does_nothing_twice(target: &mut Target) -> Result<()> {
    let (image, page) = (second(target, COUNTER, RELEASE)?, target.admin()?);
    let content = show(target, &page, &Stick::of(&image))?;
    ensure!(content.preview()?["verdict"] == "serves", "{content:?}");
    updates::serving(&page, &format!("{NAME} {COUNTER}"))?;
    target.vm()?.pull()?;
    updates::no_stick(&page)
}

pub(super) fn refuses_older(target: &mut Target) -> Result<()> {
    let bench = target.bench()?;
    let spec = Spec { source: &bench.second, kind: "model", name: NAME, counter: COUNTER - 1, key: RELEASE };
    // A stick as it is bought, with a file system.
    let (image, page) = (bench.maker.fat(&spec)?, target.admin()?);
    let content = show(target, &page, &Stick::of(&image))?;
    ensure!(content.refusal().as_deref() == Some("older"), "{content:?}");
    target.vm()?.pull()?;
    updates::no_stick(&page)
}

pub(super) fn rolls_back(target: &mut Target) -> Result<()> {
    let mut page = target.admin()?;
    let before = answering(&mut page)?;
    page.post("/api/admin/updates/rollback", &json!({ "kind": "model" }), None)?;
    let error = updates::ended(&page)?;
    ensure!(error.is_none(), "it ended with {error:?}");
    updates::serving(&page, FIRST)?;
    let after = answering(&mut page)?;
    ensure!(after != before, "{before} still answers");
    Ok(())
}
