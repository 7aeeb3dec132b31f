//! The end of an import: hashes into the manifest, small files, the rename.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::decide::coding_of;
use super::journal::State;
use super::plan::{Plan, Slot};
use super::workspace::{JOURNAL, REWRITTEN, Workspace, discard, write_error};
use crate::Error;
use crate::pack::{EXPERTS, Experts, Hash, MANIFEST, Manifest, PAGE_BYTES, SideFile};

/// The manifest with all hashes.
pub(super) fn manifest(plan: &Plan, state: &State) -> Manifest {
    let mut manifest = plan.manifest.clone();
    // Hashes of the parts of every record, [layer][expert][part].
    let layers = manifest.experts.as_ref().map_or(&[][..], |experts| &experts.layers);
    let mut parts: Vec<Vec<Vec<Hash>>> =
        layers.iter().map(|layer| vec![vec![Hash::default(); layer.parts.len()]; layer.xxh3.len()]).collect();
    for (piece, &hash) in plan.pieces.iter().zip(&state.hashes) {
        match piece.slot {
            Slot::Dense { tensor } => manifest.dense.tensors[tensor].xxh3 = hash,
            Slot::Record { layer, expert, part } => parts[layer][expert][part] = hash,
        }
    }
    let layers = manifest.experts.iter_mut().flat_map(|experts| &mut experts.layers);
    for (layer, parts) in layers.zip(parts) {
        layer.xxh3 = parts.iter().map(|parts| Hash::of_parts(parts)).collect();
    }
    if let Some(experts) = manifest.experts.as_mut().filter(|_| state.is_coded()) {
        place_rewritten(experts, state);
    }
    for (file, digest) in manifest.provenance.files.iter_mut().zip(&state.digests) {
        file.sha256 = Some(digest.clone());
    }
    manifest.files = plan.side_files.iter().map(|(name, content)| side_file(name, content)).collect();
    manifest
}

/// Puts codings, places, sizes and hashes of rewritten records into the table.
fn place_rewritten(experts: &mut Experts, state: &State) {
    let choices = state.choices.as_deref().unwrap_or_default();
    let mut records = state.rewritten.as_slice();
    experts.bytes = 0;
    for layer in &mut experts.layers {
        let (of_layer, rest) = records.split_at(layer.xxh3.len());
        records = rest;
        layer.parts.iter_mut().for_each(|part| part.coding = coding_of(choices, part));
        layer.offset = experts.bytes;
        if layer.is_coded() {
            layer.stored = of_layer.iter().map(|(bytes, _)| *bytes).collect();
            layer.xxh3 = of_layer.iter().map(|(_, hash)| *hash).collect();
        }
        experts.bytes += of_layer.iter().map(|(bytes, _)| bytes.next_multiple_of(PAGE_BYTES)).sum::<u64>();
    }
}

fn side_file(name: &str, content: &[u8]) -> SideFile {
    SideFile { name: name.into(), bytes: content.len() as u64, xxh3: Hash::of(content) }
}

/// Writes and syncs everything but the data files.
pub(super) fn write(
    workspace: &Workspace,
    plan: &Plan,
    manifest: &Manifest,
    step: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    for (name, content) in &plan.side_files {
        step(name);
        write_synced(&workspace.part.join(name), content)?;
    }
    step(MANIFEST);
    write_synced(&workspace.part.join(MANIFEST), &manifest.to_json())?;
    let rewritten = workspace.part.join(REWRITTEN);
    if rewritten.exists() {
        step(EXPERTS);
        let experts = workspace.part.join(EXPERTS);
        fs::rename(&rewritten, &experts).map_err(Error::io(&experts, "rename to"))?;
    }
    sync_dir(&workspace.part)
}

fn write_synced(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(write_error(path, "create"))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(write_error(path, "write"))
}

/// Puts the finished pack in its place, in one step; a replaced pack goes afterwards.
pub(super) fn publish(workspace: Workspace, replace: bool, step: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let Workspace { part, dest, journal, .. } = workspace;
    step("rename");
    let replaced = replace && dest.exists();
    if replaced {
        exchange(&part, &dest)?
    } else {
        fs::rename(&part, &dest).map_err(Error::io(&dest, "rename to"))?
    }
    sync_dir(dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    step("clean up");
    drop(journal);
    let journal = dest.join(JOURNAL);
    fs::remove_file(&journal).map_err(Error::io(&journal, "remove"))?;
    if replaced {
        discard(&part)?;
    }
    sync_dir(&dest)
}

/// Swaps two folders; where the file system can't, the old one steps aside first.
fn exchange(part: &Path, dest: &Path) -> Result<(), Error> {
    match renameat2(AT_FDCWD, part, AT_FDCWD, dest, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            let aside = part.with_extension("old");
            fs::rename(dest, &aside).map_err(Error::io(dest, "move aside"))?;
            fs::rename(part, dest).map_err(Error::io(dest, "rename to"))?;
            fs::rename(&aside, part).map_err(Error::io(&aside, "rename"))
        }
        Err(errno) => Err(Error::io(dest, "replace")(errno.into())),
    }
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io(dir, "sync"))
}
