//! The image with a model on its last partition: for tests, where a stick would otherwise have to bring one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Files, Tree, compare, stage};
use crate::process::Tool;
use crate::{console, size};

/// Room beside the model: for the file system, and for a second one to be installed.
const ROOM: u64 = 1 << 30;
/// Partitions begin and end at these.
const ALIGN: u64 = 1 << 20;
const MODELS: &str = "wels-models";

/// Writes `wels_VERSION.test.raw` beside the image.
pub(super) fn with_model(tree: &Tree, files: &Files, pack: &Path) -> Result<()> {
    if !pack.join("pack.json").is_file() {
        bail!("--model {}: not a pack; make one with `wels import`", pack.display());
    }
    let name = pack.file_stem().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let content = tree.work().join("models");
    if content.exists() {
        fs::remove_dir_all(&content).with_context(|| format!("cannot remove {}", content.display()))?;
    }
    stage::copy(pack, &content.join(&name).join("1"))?;
    std::os::unix::fs::symlink("1", content.join(&name).join("current"))?;
    let disk = files.kind("test.raw");
    Tool::new(tree.workspace(), "cp").arg("--sparse=always").arg(files.kind("raw")).arg(&disk).output()?;
    let part = grow(tree, &disk, folder_bytes(&content)? + ROOM)?;
    let blocks = format!("{}k", part.size / 1024);
    let offset = format!("offset={}", part.start);
    let mkfs = tree.tool("mkfs.ext4").args(["-q", "-F", "-L", MODELS, "-E", &offset, "-d"]);
    mkfs.arg(tree.inside(&content)).arg(tree.inside(&disk)).arg(blocks).output()?;
    fs::remove_dir_all(&content).with_context(|| format!("cannot remove {}", content.display()))?;
    console::note(format_args!("{name} lies on {MODELS} ({})", size::format(part.size)));
    Ok(())
}

/// Makes the disk and its last partition larger.
fn grow(tree: &Tree, disk: &Path, bytes: u64) -> Result<compare::Partition> {
    let last = |tree: &Tree| -> Result<compare::Partition> {
        let last = compare::partitions(tree, disk)?.into_iter().next_back();
        last.filter(|part| part.name == MODELS)
            .with_context(|| format!("{MODELS} is not the disk's last partition"))
    };
    let start = last(tree)?.start;
    let n = compare::partitions(tree, disk)?.len();
    let end = (start + bytes).next_multiple_of(ALIGN);
    // The second table lies behind the last partition.
    fs::OpenOptions::new().write(true).open(disk)?.set_len(end + ALIGN)?;
    let script = format!(
        "sfdisk -q --relocate gpt-bak-std \"$1\" && echo ', {}' | sfdisk -q --no-reread -N {n} \"$1\"",
        (end - start) / 512
    );
    tree.tool("bash").args(["-euc", &script, "_"]).arg(tree.inside(disk)).output()?;
    last(tree)
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let found = fs::symlink_metadata(&path)?;
        bytes += if found.is_dir() { folder_bytes(&path)? } else { found.len() };
    }
    Ok(bytes)
}
