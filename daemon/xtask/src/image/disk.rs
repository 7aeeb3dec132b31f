//! The image with a model on its last partition, installed there as a stick would have: for tests.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Files, Tree, compare};
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
    install(tree, &name, pack, &content)?;
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

/// Installs the pack into the folder of models as its own maker's bundle, with a key that is thrown away.
fn install(tree: &Tree, name: &str, pack: &Path, models: &Path) -> Result<()> {
    let bench = tree.work().join("bench");
    if bench.exists() {
        fs::remove_dir_all(&bench).with_context(|| format!("cannot remove {}", bench.display()))?;
    }
    fs::create_dir_all(&bench).with_context(|| format!("cannot make {}", bench.display()))?;
    let wels = |verb: &str| {
        let daemon = tree.workspace().target().join("release/wels");
        Tool::new(tree.workspace(), daemon).args(["bundle", verb])
    };
    let (key, image) = (bench.join("bench.key"), bench.join("model.img"));
    wels("keygen").args(["--role", "release", "--name", "bench", "--out"]).arg(&key).output()?;
    let create = wels("create").arg(pack).args(["--name", name, "--counter", "1", "--image"]).arg(&image);
    create.arg("--key").arg(&key).output()?;
    wels("trust").arg(bench.join("bench.key.pub")).arg("--state").arg(&bench).output()?;
    wels("install").arg(&image).arg("--models").arg(models).arg("--state").arg(&bench).output()?;
    fs::remove_dir_all(&bench).with_context(|| format!("cannot remove {}", bench.display()))
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
