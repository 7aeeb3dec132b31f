//! Models to measure on: the shapes of published ones, filled with random weights. Speed does not depend on their values,
//! and nothing has to be downloaded.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::Tool;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{console, size};

/// Left free on the disk.
const SPARE_BYTES: u64 = 2_000_000_000;

/// A shape, and what `synth_gguf.py` calls it.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    synth: &'static [&'static str],
    /// Of the GGUF file, about; the pack has as many.
    bytes: u64,
}

const SHAPES: [Shape; 6] = [
    Shape { name: "qwen1.5b", synth: &["qwen1.5b"], bytes: 1_120_000_000 },
    Shape { name: "qwen7b", synth: &["qwen7b"], bytes: 4_690_000_000 },
    Shape { name: "v2lite", synth: &["v2lite"], bytes: 9_540_000_000 },
    Shape { name: "v2slice", synth: &["v2lite", "--moe-layers", "3"], bytes: 1_500_000_000 },
    Shape { name: "r1slice", synth: &["r1slice"], bytes: 15_600_000_000 },
    Shape { name: "r1one", synth: &["r1slice", "--moe-layers", "1"], bytes: 9_070_000_000 },
];

/// A model as a GGUF file for the peers and as a pack for Wels.
pub(crate) struct Files {
    pub(crate) gguf: PathBuf,
    pub(crate) pack: PathBuf,
    /// Made here, so that it may be removed.
    is_ours: bool,
}

/// Where models lie.
pub(crate) struct Folder<'a> {
    pub(crate) workspace: &'a Workspace,
    /// A folder of files brought along, NAME.gguf; otherwise they are made.
    pub(crate) brought: Option<&'a Path>,
}

impl Folder<'_> {
    /// The model `name`, made and imported unless it is there.
    pub(crate) fn bring(&self, wels: &Path, name: &str) -> Result<Files> {
        let files = self.bring_gguf(name)?;
        self.import(wels, &files)?;
        Ok(files)
    }

    /// The same without the pack, which may be missing or old.
    pub(crate) fn bring_gguf(&self, name: &str) -> Result<Files> {
        let folder =
            self.brought.map_or_else(|| self.workspace.target().join("bench/models"), Path::to_owned);
        let gguf = folder.join(format!("{name}.gguf"));
        let files = Files { pack: gguf.with_extension("wels"), gguf, is_ours: self.brought.is_none() };
        if !files.gguf.is_file() {
            self.make(name, &files.gguf)?;
        }
        Ok(files)
    }

    fn make(&self, name: &str, gguf: &Path) -> Result<()> {
        if self.brought.is_some() {
            bail!("{} is missing; without --model-dir it would be made", gguf.display());
        }
        let Some(shape) = SHAPES.iter().find(|shape| shape.name == name) else {
            let names = SHAPES.map(|shape| shape.name).join(", ");
            bail!("no shape is named {name:?}; there are {names}");
        };
        let folder = gguf.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        self.expect_room(folder, 2 * shape.bytes)?;
        setup::tools(self.workspace, &[Need::Python, Need::Numpy, Need::Gguf])?;
        let script = self.workspace.join("daemon/xtask/src/bench/synth_gguf.py");
        let part = gguf.with_extension("part");
        console::step(
            format_args!("{name}: random weights in its shape, {}", size::format(shape.bytes)),
            || {
                let python = Tool::new(self.workspace, self.workspace.venv().join("bin/python")).arg(script);
                python.args(&shape.synth[..1]).arg(&part).args(&shape.synth[1..]).output()?;
                fs::rename(&part, gguf).with_context(|| format!("cannot write {}", gguf.display()))
            },
        )
    }

    /// A pack older than its source is made again.
    fn import(&self, wels: &Path, files: &Files) -> Result<()> {
        let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let source = changed(&files.gguf);
        if changed(&files.pack.join("pack.json"))
            .is_some_and(|pack| source.is_some_and(|source| pack >= source))
        {
            return Ok(());
        }
        let folder = files.gguf.parent().expect("a file lies in a folder");
        self.expect_room(folder, fs::metadata(&files.gguf)?.len())?;
        console::step(format_args!("import {}", files.gguf.display()), || {
            let wels = Tool::new(self.workspace, wels).args(["import", "--replace"]);
            wels.arg(&files.gguf).arg(&files.pack).output().map(drop)
        })
    }

    fn expect_room(&self, folder: &Path, bytes: u64) -> Result<()> {
        let df = Tool::new(self.workspace, "df").args(["--output=avail", "-B1"]).arg(folder).output()?;
        let free: u64 =
            df.lines().next_back().unwrap_or_default().trim().parse().context("df says no number")?;
        if free < bytes + SPARE_BYTES {
            bail!(
                "{} has {} free, {} are needed; --scarce keeps one model at a time",
                folder.display(),
                size::format(free),
                size::format(bytes + SPARE_BYTES)
            );
        }
        Ok(())
    }
}

impl Files {
    pub(crate) fn bytes(&self) -> Result<u64> {
        Ok(fs::metadata(&self.gguf).with_context(|| format!("cannot read {}", self.gguf.display()))?.len())
    }

    /// Makes room for the next model; what was brought along stays.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.is_ours {
            fs::remove_file(&self.gguf).context("cannot remove the model")?;
            if self.pack.is_dir() {
                fs::remove_dir_all(&self.pack).context("cannot remove the pack")?;
            }
        }
        Ok(())
    }
}
