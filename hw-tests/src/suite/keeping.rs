//! What a box knows: kept on a stick, forgotten, brought home; and the way in for who lost the password.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::boot::CHAT;
use super::sticks::show;
use super::system::await_restart;
use crate::page::{PASSWORD, Page};
use crate::qemu::Stick;
use crate::say;
use crate::target::{BOOT_TIME_MAX, Target};
use crate::updates::{self, STICK_TIME_MAX};

const PASSPHRASE: &str = "five words that nobody guesses";

pub(super) fn comes_home(target: &mut Target) -> Result<()> {
    let image = target.bench()?.maker.exfat("keeper.exfat")?;
    let mut page = target.admin()?;
    let stick = Stick { is_writable: true, ..Stick::of(&image) };
    show(target, &page, &stick)?;
    let shown = updates::state(&page)?;
    ensure!(shown["stick"]["label"] == "KEEPER", "its name is not shown: {}", shown["stick"]);
    let wish = json!({ "stick": id(&page)?, "passphrase": PASSPHRASE });
    page.post("/api/admin/backup", &wish, None)?;
    updates::ended_well(&page)?;
    let file = backup_on(&page)?;
    say::note(&format!("{file} is on the stick"));
    page.post("/api/admin/factory-reset", &json!({ "password": PASSWORD }), None)?;
    await_restart(&page)?;
    let mut page = target.page()?;
    // The console has shown another code before.
    let code = target.shows()?["claim_code"].as_str().context("it has no code")?.to_owned();
    page.claim(&code)?;
    ensure!(page.chats()?.is_empty(), "it remembers chats");
    say::note(&format!("it serves {}", updates::state(&page)?["model"]["current"]["name"]));
    // The stick is in it still.
    updates::stick(&page)?;
    let wish = json!({ "stick": id(&page)?, "file": backup_on(&page)?, "passphrase": PASSPHRASE });
    page.post("/api/admin/restore", &wish, None)?;
    // The daemon takes it at its next start, which is at once; nobody is signed in then.
    page.wait_signed_out(STICK_TIME_MAX)?;
    page.wait(BOOT_TIME_MAX)?;
    target.forget_session()?;
    let page = target.admin()?;
    ensure!(page.chats()?.iter().any(|title| title == CHAT), "the chat did not come home");
    target.vm()?.note_cpu();
    target.vm()?.pull()?;
    updates::no_stick(&page)
}

pub(super) fn lets_in(target: &mut Target) -> Result<()> {
    const NEW: &str = "another long enough password";
    let image = target.bench()?.maker.fat_with("wels-recovery.txt")?;
    let (mut page, admin) = (target.page()?, target.admin()?);
    let wrong = json!({ "code": "AAAA-AAAA", "name": "ada", "password": NEW });
    ensure!(page.post("/api/recover", &wrong, None).is_err(), "without a stick any code is right");
    show(target, &admin, &Stick::of(&image))?;
    let code = shown_code(target, &admin)?;
    page.post("/api/recover", &json!({ "code": code, "name": "ada", "password": NEW }), None)?;
    let mut sign_in =
        |password: &str| page.post("/api/login", &json!({ "name": "ada", "password": password }), None);
    sign_in(NEW).context("the new password is not right")?;
    ensure!(sign_in(PASSWORD).is_err(), "the old password is still right");
    ensure!(page.chats()?.iter().any(|title| title == CHAT), "the chat is gone");
    target.vm()?.pull()
}

/// The code that the console shows while the stick is in.
fn shown_code(target: &mut Target, admin: &Page) -> Result<String> {
    updates::wait(admin, "the console shows a code", STICK_TIME_MAX, |_| {
        Ok(target.shows()?["recovery_code"].as_str().map(str::to_owned))
    })
}

fn id(page: &Page) -> Result<String> {
    let state = updates::state(page)?;
    Ok(state["stick"]["id"].as_str().context("no stick is shown")?.to_owned())
}

/// The newest backup that the stick is shown with.
fn backup_on(page: &Page) -> Result<String> {
    updates::wait(page, "the stick has a backup", STICK_TIME_MAX, |state| {
        Ok(state["stick"]["backups"][0]["file"].as_str().map(str::to_owned))
    })
}
