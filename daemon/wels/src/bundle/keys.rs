//! Keys, lists of them, and whom this machine believes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use update::{KeyLists, NamedKey, PublicKeyFile, SecretKey};

use super::{believed, read, say};
use crate::cli::bundle::{Keygen, Keys, Role, Trust};

pub(super) fn keygen(args: &Keygen) -> Result<()> {
    let role = match args.role {
        Role::Root => update::Role::Root,
        Role::Release => update::Role::Release,
    };
    let key = SecretKey::generate(role, &args.name)?;
    let mut public = args.out.clone().into_os_string();
    public.push(".pub");
    let public = PathBuf::from(public);
    write_new(&args.out, 0o600, &key.to_json())?;
    write_new(&public, 0o644, &serde_json::to_vec_pretty(&key.public())?)?;
    let fingerprint = key.public_key().fingerprint();
    if args.json {
        say(
            json!({ "key": args.out, "public": public, "public_key": key.public_key(), "fingerprint": fingerprint }),
        );
        return Ok(());
    }
    say(format_args!("{}: fingerprint {fingerprint}", args.out.display()));
    say(format_args!("keep it where nobody else comes; {} is for others", public.display()));
    Ok(())
}

/// Never over a key that is there: it may be the only copy.
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let write = |mut file: File| file.write_all(bytes).and_then(|()| file.sync_all());
    file.and_then(write)
        .with_context(|| format!("cannot make {}; keys are never overwritten", path.display()))
}

pub(super) fn secret(path: &Path) -> Result<SecretKey> {
    SecretKey::parse(&read(path)?)
        .with_context(|| format!("{} is no secret key; `wels bundle keygen` makes one", path.display()))
}

fn public(path: &Path) -> Result<PublicKeyFile> {
    PublicKeyFile::parse(&read(path)?).with_context(|| {
        format!("{} is no public key; give the .pub file that `keygen` made", path.display())
    })
}

pub(super) fn key_lists(path: &Path) -> Result<KeyLists> {
    KeyLists::parse(&read(path)?)
        .with_context(|| format!("{} holds no lists of keys; `wels bundle keys` makes them", path.display()))
}

fn of_role(key: SecretKey, role: update::Role) -> Result<SecretKey> {
    if key.role != role {
        bail!("the key {:?} is for {:?}, not for {role:?}", key.name, key.role);
    }
    Ok(key)
}

pub(super) fn lists(args: &Keys) -> Result<()> {
    let mut lists = if args.lists.exists() { key_lists(&args.lists)? } else { KeyLists::default() };
    let root = of_role(secret(&args.root)?, update::Role::Root)?;
    let next =
        args.next_root.as_deref().map(|path| of_role(secret(path)?, update::Role::Root)).transpose()?;
    let mut release = Vec::new();
    for path in &args.release {
        let file = public(path)?;
        if file.role != update::Role::Release {
            bail!("{} is a root key: only release keys go on the list", path.display());
        }
        release.push(NamedKey { name: file.name, key: file.public_key });
    }
    let list = lists.push(&root, next.as_ref(), release)?;
    let new = args.lists.with_extension("new");
    fs::write(&new, lists.to_json())
        .and_then(|()| fs::rename(&new, &args.lists))
        .with_context(|| format!("cannot write {}", args.lists.display()))?;
    if args.json {
        say(serde_json::to_string(&list)?);
        return Ok(());
    }
    say(format_args!(
        "{}: list {} with {} release keys",
        args.lists.display(),
        list.counter,
        list.release.len()
    ));
    list.release.iter().for_each(|key| say(named(key)));
    say(format_args!("boxes trust the root {} from it on", list.root.fingerprint()));
    Ok(())
}

fn named(key: &NamedKey) -> String {
    format!("  {}  {}", key.key.fingerprint(), key.name)
}

pub(super) fn trust(args: &Trust) -> Result<()> {
    let mut trust = believed(&args.believe)?;
    let mut changed = None;
    if let Some(path) = &args.key {
        changed = Some(trust.add(&public(path)?));
        trust.save()?;
    }
    if let Some(fingerprint) = &args.remove {
        if !trust.remove(fingerprint) {
            bail!(
                "no key of the fingerprint {fingerprint} was added here; those of the root's list go with a newer list"
            );
        }
        changed = Some(true);
        trust.save()?;
    }
    let listed = trust.list().map_or(&[][..], |list| &list.release);
    if args.json {
        let keys = |keys: &[NamedKey]| -> Vec<_> {
            keys.iter().map(|key| json!({ "name": key.name, "fingerprint": key.key.fingerprint() })).collect()
        };
        say(json!({
            "root": trust.root().map(|root| root.fingerprint()), "list": trust.list().map(|list| list.counter),
            "release": keys(listed), "added": keys(trust.added()), "changed": changed,
        }));
        return Ok(());
    }
    match trust.root() {
        Some(root) => say(format_args!("root key:\n  {}", root.fingerprint())),
        None => say("no root key"),
    }
    if let Some(list) = trust.list() {
        say(format_args!("release keys, by the root's list {}:", list.counter));
        listed.iter().for_each(|key| say(named(key)));
    }
    if !trust.added().is_empty() {
        say("added on this machine:");
        trust.added().iter().for_each(|key| say(named(key)));
    }
    Ok(())
}
