//! `cargo xtask setup`: brings what the machine lacks, and nothing else. Quick where nothing is missing.
//!
//! System packages come from apt; Node and the small tools from pip, into a virtual environment below `target/tools`;
//! cargo-deny from cargo, below it too; the page's packages from npm. Each is used as the machine configures it.

mod apt;
mod node;
mod python;

use anyhow::{Context, Result};

use crate::console;
use crate::process::{self, Tool};
use crate::workspace::Workspace;

/// Which cargo-deny checks the dependency graph.
const CARGO_DENY: &str = "0.20.2";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what `cargo xtask run` needs: no browser, no tools for tests.
    #[arg(long)]
    no_tests: bool,
}

/// Something a command can't do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A C compiler and linker, for the parts of the dependencies that are written in C.
    Compiler,
    /// Python with a virtual environment of ours, from which packages are fetched.
    Python,
    /// Node and npm, new enough for the page.
    Node,
    /// The page's npm packages.
    PagePackages,
    /// A Vulkan device: Mesa's, in software where there is no card.
    Vulkan,
    /// The browser that tests drive.
    Browser,
    /// The checker of spelling.
    Typos,
    /// The checker of licences and sources.
    CargoDeny,
    /// Arrays for the benchmarks' scripts.
    Numpy,
    /// The writer of made-up models.
    Gguf,
    /// The compiler that makes a correct llama.cpp.
    Clang,
    /// What makes a Debian in a folder.
    Mmdebstrap,
}

/// To build and run the daemon and its page.
pub(crate) const TO_RUN: &[Need] = &[Need::Compiler, Need::Python, Need::Node, Need::PagePackages];
/// What the checks of `cargo xtask test` need on top.
pub(crate) const TO_TEST: &[Need] = &[Need::Vulkan, Need::Browser, Need::Typos, Need::CargoDeny];

/// What `cargo xtask image` needs on top; the rest is in a tree of its own.
pub(crate) const TO_IMAGE: &[Need] = &[Need::Mmdebstrap];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let needs = if args.no_tests { TO_RUN.to_vec() } else { [TO_RUN, TO_TEST].concat() };
    console::step("setup: what this machine lacks", || tools(workspace, &needs))
}

/// Sees to it that all of `needs` are met.
///
/// # Errors
/// Something can't be installed; the error says what to install by hand.
pub(crate) fn tools(workspace: &Workspace, needs: &[Need]) -> Result<()> {
    apt::install(
        workspace,
        &needs.iter().flat_map(|need| apt::missing(workspace, *need)).collect::<Vec<_>>(),
    )?;
    needs.iter().try_for_each(|need| match need {
        Need::Compiler | Need::Vulkan | Need::Browser | Need::Clang | Need::Mmdebstrap => Ok(()),
        Need::Python => python::environment(workspace),
        Need::Node => node::available(workspace),
        Need::PagePackages => node::page_packages(workspace),
        Need::Typos => python::package(workspace, "typos", "1.52.0"),
        Need::Numpy => python::package(workspace, "numpy", "2.4.6"),
        Need::Gguf => python::package(workspace, "gguf", "0.19.0"),
        Need::CargoDeny => cargo_deny(workspace),
    })
}

/// The wheel on PyPI is too old to read what today's cargo says, so it is built: once, without optimising.
fn cargo_deny(workspace: &Workspace) -> Result<()> {
    if process::on_path(workspace, "cargo-deny") {
        return Ok(());
    }
    console::note(format_args!("cargo-deny {CARGO_DENY}: compiling it, once (some minutes)"));
    let objects = workspace.target().join("tools/build");
    let cargo = Tool::cargo(workspace).args(["install", "--quiet", "--locked", "--debug", "--root"]);
    let cargo = cargo.arg(workspace.cargo_tools()).arg("--target-dir").arg(&objects);
    let cargo = cargo.args(["cargo-deny", "--version", CARGO_DENY]);
    cargo.remedy("install cargo-deny yourself, or see why its compilation fails").output()?;
    std::fs::remove_dir_all(&objects).with_context(|| format!("cannot remove {}", objects.display()))
}
