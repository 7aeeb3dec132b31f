//! `cargo xtask image`: the bootable image, from an empty Debian 12 machine, in one command.
//!
//! ```text
//! apt's sources -> mirrors -> tools tree (mmdebstrap, once) ─┐
//! the page -> the daemon ──────────────────────> stage ──────┴─> mkosi -> image -> lock, SBOM, system's folder, table
//! os-image/ ─────────────────────────────────────┘
//! ```
//!
//! Everything lies in `target/image`. Start reading at [`run`].

mod compare;
mod disk;
mod lock;
mod mirrors;
mod sbom;
mod stage;
mod system;
mod tools;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, page, run as daemon, setup, size};
pub(crate) use tools::Tree;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Version of the image; by default the workspace's.
    #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"), value_parser = version)]
    version: String,
    /// Build a second time and compare: name every range of bytes that differs, by partition.
    #[arg(long)]
    check: bool,
    /// Make a second image with this pack installed, to test with.
    #[arg(long, value_name = "PACK")]
    model: Option<PathBuf>,
    /// The maker's public root key, from `wels bundle keygen --role root`: only whom it names signs new systems for these boxes.
    /// Without one, keys that an administrator adds sign them.
    #[arg(long, value_name = "KEY.pub")]
    root_key: Option<PathBuf>,
    /// Take the versions of packages that the mirror has now, and write them into os-image/packages.lock.
    #[arg(long)]
    accept_packages: bool,
}

impl Args {
    /// The image that `hw-tests` boots: today's, with this pack on it, made by whoever has this root.
    pub(crate) fn to_test(pack: PathBuf, root_key: &Path) -> Self {
        Self { model: Some(pack), ..Self::to_bring(env!("CARGO_PKG_VERSION"), root_key) }
    }

    /// The image of a version that a stick brings to it.
    pub(crate) fn to_bring(version: &str, root_key: &Path) -> Self {
        let root_key = Some(root_key.to_owned());
        Self { version: version.into(), check: false, model: None, root_key, accept_packages: false }
    }
}

/// A version becomes part of file names and of the boot loader's.
fn version(text: &str) -> Result<String, String> {
    let fits =
        !text.is_empty() && text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    if fits { Ok(text.to_owned()) } else { Err("letters, digits and dots, 32 at most".into()) }
}

/// What a part took.
struct Part {
    name: &'static str,
    seconds: f64,
}

/// Where the parts of the image lie.
pub(crate) struct Files {
    folder: PathBuf,
    version: String,
}

impl Files {
    /// The image of that version, built or not.
    pub(crate) fn of(workspace: &Workspace, version: &str) -> Self {
        Self { folder: workspace.target().join("image/work/out"), version: version.to_owned() }
    }

    /// The folder that `wels bundle create --kind system` packs.
    pub(crate) fn system(&self) -> PathBuf {
        self.folder.join(format!("system_{}", self.version))
    }

    /// The file of that kind: `raw`, `efi`, `root.raw`, `manifest`.
    pub(crate) fn kind(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("wels_{}.{kind}", self.version))
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if Tool::new(workspace, "id").arg("-u").output()?.trim() != "0" {
        bail!(
            "the image is built in a tree of its own, which needs root: run `sudo --preserve-env cargo xtask image`"
        );
    }
    let files = Files::of(workspace, &args.version);
    let mut parts = Vec::new();
    let mut timed = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let start = Instant::now();
        console::heading(name);
        work()?;
        parts.push(Part { name, seconds: start.elapsed().as_secs_f64() });
        Ok(())
    };
    timed("what this machine lacks", &mut || {
        setup::tools(workspace, &[setup::TO_RUN, setup::TO_IMAGE].concat())
    })?;
    timed("the page", &mut || page::build(workspace))?;
    timed("the daemon", &mut || daemon::build(workspace).map(drop))?;
    let sources = mirrors::sources(workspace)?;
    let mut tree = None;
    timed("the tools tree", &mut || Tree::make(workspace, &sources).map(|made| tree = Some(made)))?;
    let tree = tree.context("the tools tree was just made")?;
    timed("the image", &mut || build(workspace, &tree, &sources, args))?;
    timed("packages and SBOM", &mut || {
        lock::compare(workspace, &files, args.accept_packages)?;
        sbom::write(workspace, &files)
    })?;
    if args.check {
        timed("the same again", &mut || again(workspace, &tree, &sources, args, &files))?;
    }
    system::write(&files)?;
    if let Some(pack) = &args.model {
        timed("an image with a model, for tests", &mut || disk::with_model(&tree, &files, pack))?;
    }
    report(workspace, &files, &parts)
}

fn build(workspace: &Workspace, tree: &Tree, sources: &[mirrors::Source], args: &Args) -> Result<()> {
    stage::make(workspace, tree, sources, args.accept_packages)?;
    stage::add_root_key(tree, args.root_key.as_deref())?;
    stage::mkosi(workspace, tree, &args.version)
}

/// Builds once more from the same inputs and says what differs.
fn again(
    workspace: &Workspace,
    tree: &Tree,
    sources: &[mirrors::Source],
    args: &Args,
    files: &Files,
) -> Result<()> {
    let first = files.kind("first.raw");
    fs::rename(files.kind("raw"), &first).with_context(|| format!("cannot rename {}", first.display()))?;
    build(workspace, tree, sources, args)?;
    let outcome = compare::images(tree, &first, &files.kind("raw"));
    fs::remove_file(&first).with_context(|| format!("cannot remove {}", first.display()))?;
    outcome
}

fn report(workspace: &Workspace, files: &Files, parts: &[Part]) -> Result<()> {
    console::line("");
    console::line(&console::bold(format_args!("{:<34} {:>9}", "part", "seconds")));
    for Part { name, seconds } in parts {
        console::line(&format!("{name:<34} {seconds:>9.1}"));
    }
    let seconds: f64 = parts.iter().map(|part| part.seconds).sum();
    console::line(&format!("{:<34} {seconds:>9.1}\n", "together"));
    console::line(&console::bold(format_args!("{:<34} {:>9} {:>9}", "file", "size", "on disk")));
    let daemon = workspace.target().join("release/wels");
    let all = [
        ("the daemon", daemon),
        ("kernel and initrd (UKI)", files.kind("efi")),
        ("initrd", files.kind("initrd")),
    ];
    let slots = [("root slot", files.kind("root.raw")), ("its hashes", files.kind("root-verity.raw"))];
    let whole = [("SBOM (CycloneDX)", files.kind("cdx.json")), ("the image", files.kind("raw"))];
    let test = [("the image with a model", files.kind("test.raw"))];
    for (name, path) in all.into_iter().chain(slots).chain(whole).chain(test) {
        if let Ok(found) = fs::metadata(&path) {
            let (apparent, used) = (size::format(found.len()), size::format(found.blocks() * 512));
            console::line(&format!("{name:<34} {apparent:>9} {used:>9}  {}", workspace.shown(&path)));
        }
    }
    console::line(&format!(
        "\nwrite it to a drive: dd if={} of=/dev/DRIVE bs=4M conv=fsync,sparse",
        shown(workspace, files)
    ));
    console::line(&format!(
        "bring it to a box that runs: wels bundle create {} --kind system --image STICK.img --name wels-system --counter N --key KEY",
        workspace.shown(&files.system())
    ));
    Ok(())
}

fn shown(workspace: &Workspace, files: &Files) -> String {
    workspace.shown(Path::new(&files.kind("raw"))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_fit_for_a_file_name() {
        assert!(version("0.1.0").is_ok() && version("2026.11.rc1").is_ok());
        for bad in ["", "a/b", "1+3", "1_2", "../x"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }
}
