//! Bundles made, signed, checked, shown and written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use update::manifest::{CHUNK_BYTES_MAX, Requires};
use update::{Bundle, Carrier, CreateOptions, Target, WriteOptions};

use super::{bar, believe, keys, say};
use crate::cli::bundle::{Create, Info, Kind, Sign, Verify, Write};
use crate::size;

pub(super) fn create(args: &Create) -> Result<()> {
    let kind = match args.kind {
        Kind::Model => update::Kind::Model,
        Kind::System => update::Kind::System,
    };
    if kind == update::Kind::Model {
        if !args.source.join("pack.json").is_file() {
            bail!("{} is no pack; make one with `wels import`", args.source.display());
        }
        weights::open(&args.source).context("nobody could use this pack")?;
    }
    // Before hours of work.
    let key = args.key.as_deref().map(keys::secret).transpose()?;
    let lists = args.keys.as_deref().map(keys::key_lists).transpose()?;
    let options = CreateOptions {
        kind,
        name: args.name.clone(),
        title: args.title.clone().unwrap_or_else(|| args.name.clone()),
        version: args.counter,
        created: args.created.clone(),
        requires: Requires { memory_bytes: args.memory, system_version: None },
        previous: args.delta_from.clone(),
        chunk_bytes: CHUNK_BYTES_MAX,
    };
    let target = target(args);
    let (shown, moved) = bar("packing");
    let created = update::create(&args.source, &target, &options, &mut |done, total| moved(done, total));
    shown.finish_and_clear();
    created.with_context(|| format!("cannot make a bundle of {}", args.source.display()))?;
    let path = target.path();
    let bundle = match key {
        Some(key) => update::sign(&path, &key, lists.as_ref())?,
        None => Carrier::open(&path)?.unchecked()?,
    };
    print(&path, &bundle, key_line(&path)?.as_deref(), args.json);
    Ok(())
}

fn target(args: &Create) -> Target {
    match (&args.image, &args.folder) {
        (Some(image), _) => Target::Image(image.clone()),
        (None, folder) => Target::Folder(folder.clone().unwrap_or_else(|| PathBuf::from("."))),
    }
}

pub(super) fn sign(args: &Sign) -> Result<()> {
    let key = keys::secret(&args.key)?;
    let lists = args.keys.as_deref().map(keys::key_lists).transpose()?;
    let bundle = update::sign(&args.bundle, &key, lists.as_ref())?;
    print(&args.bundle, &bundle, key_line(&args.bundle)?.as_deref(), args.json);
    Ok(())
}

pub(super) fn info(args: &Info) -> Result<()> {
    let fingerprint = key_line(&args.bundle)?;
    let bundle = Carrier::open(&args.bundle)?.unchecked()?;
    print(&args.bundle, &bundle, fingerprint.as_deref(), args.json);
    Ok(())
}

/// The fingerprint of the key that it says it was signed with.
fn key_line(bundle: &Path) -> Result<Option<String>> {
    Ok(Carrier::open(bundle)?.claimed_fingerprint())
}

pub(super) fn verify(args: &Verify) -> Result<()> {
    let (bundle, _) = believe(&args.bundle, &args.believe)?;
    let (shown, moved) = bar("verifying");
    let verified = update::verify(&bundle, &mut |done, total| moved(done, total));
    shown.finish_and_clear();
    let verified = verified?;
    let signer = bundle.signer.as_ref().expect("believed by its signer");
    if args.json {
        let mut facts = facts(&args.bundle, &bundle, Some(&signer.fingerprint));
        facts["signer"] = json!(signer);
        facts["verified"] =
            json!({ "blobs": verified.blobs, "bytes": verified.bytes, "patches": verified.patches });
        say(facts);
        return Ok(());
    }
    say(format_args!("{}: signed by {} ({})", args.bundle.display(), signer.name, signer.fingerprint));
    say(format_args!("{} chunks, {}: all as they were signed", verified.blobs, size::format(verified.bytes)));
    if verified.left_out + verified.patches > 0 {
        say(format_args!(
            "{} chunks are left to an earlier version, {} are patches of one: they are checked when they are installed",
            verified.left_out, verified.patches
        ));
    }
    Ok(())
}

pub(super) fn write(args: &Write) -> Result<()> {
    let bundle = Carrier::open(&args.bundle)?.unchecked()?;
    let device = update::device(&args.dest)?;
    if let Some(device) = device.as_ref().filter(|_| !args.json) {
        let name = if device.name.is_empty() { "a device" } else { &device.name };
        say(format_args!("{}: {name}, {}", args.dest.display(), size::format(device.bytes)));
    }
    let (shown, moved) = bar("writing");
    let options = WriteOptions { force: args.force };
    let written = update::write(&bundle, &args.dest, options, &mut |done, total| moved(done, total));
    shown.finish_and_clear();
    let bytes = written?;
    if args.json {
        let mut facts = facts(&args.dest, &bundle, key_line(&args.dest)?.as_deref());
        facts["device_bytes"] = json!(bytes);
        say(facts);
        return Ok(());
    }
    say(format_args!("{}: written and read back; it may be pulled", args.dest.display()));
    Ok(())
}

fn facts(path: &Path, bundle: &Bundle, fingerprint: Option<&str>) -> Value {
    let manifest = &bundle.manifest;
    let (blobs, bytes, left_out) = bundle.contents();
    let files: Vec<_> = manifest
        .files
        .iter()
        .map(|file| json!({ "path": file.path, "bytes": file.bytes, "sha256": file.sha256, "chunks": file.chunks.len() }))
        .collect();
    json!({
        "bundle": path, "id": bundle.id, "kind": manifest.kind, "name": manifest.name, "title": manifest.title,
        "version": manifest.version, "created": manifest.created, "requires": manifest.requires,
        "bytes": manifest.bytes(), "carried_bytes": bytes, "carried_chunks": blobs, "left_out_chunks": left_out,
        "stream_bytes": bundle.stream_bytes(), "fingerprint": fingerprint, "files": files,
    })
}

fn print(path: &Path, bundle: &Bundle, fingerprint: Option<&str>, json: bool) {
    if json {
        say(facts(path, bundle, fingerprint));
        return;
    }
    let manifest = &bundle.manifest;
    let (blobs, bytes, left_out) = bundle.contents();
    say(format_args!("{}: {} ({} {})", path.display(), manifest.title, manifest.name, manifest.version));
    say(format_args!(
        "{} in {} files, carried in {} ({blobs} chunks)",
        size::format(manifest.bytes()),
        manifest.files.len(),
        size::format(bytes)
    ));
    if left_out > 0 {
        say(format_args!("{left_out} chunks are left to an earlier version"));
    }
    match fingerprint {
        Some(fingerprint) => {
            say(format_args!("says it is signed with {fingerprint}; `wels bundle verify` checks that"))
        }
        None => say("not signed yet: wels bundle sign"),
    }
}
