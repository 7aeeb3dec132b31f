//! Tests of the whole box: one suite of verbs, two targets.
//!
//! A virtual box is QEMU with the image that `cargo xtask image` built, in the tools tree's own version; a real box is one on the
//! bench, by its address. `cargo xtask test --hw` runs the virtual one.
//!
//! ```text
//! suite (what must be so) -> target (boot, plug, pull, cut power, fill, restore, fetch, read the console) -> qemu | a real box
//!                                                                               └-> lan (the test is the network the box is in)
//! ```
//!
//! `--report` has the box measure itself, and makes a page of it for whoever thinks of buying one (`report.rs`).
//!
//! Depends on no crate of the workspace: it sees what a person sees. Start reading at `suite.rs`.

mod esp;
mod lan;
mod page;
mod qemu;
mod report;
mod say;
mod stick;
mod suite;
mod target;
mod updates;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use target::Target;

/// Tests a whole box: a virtual one, or a real one by its address.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub(crate) struct Args {
    /// The image of the virtual box, with a model on it.
    #[arg(long, value_name = "RAW", required_unless_present = "address")]
    image: Option<PathBuf>,
    /// The tools tree that brings QEMU.
    #[arg(long, value_name = "DIR", required_unless_present = "address")]
    tools: Option<PathBuf>,
    /// This machine's own `wels`, which makes sticks.
    #[arg(long, value_name = "FILE", required_unless_present = "address")]
    wels: Option<PathBuf>,
    /// A pack of a second model, to bring on a stick.
    #[arg(long, value_name = "PACK", required_unless_present = "address")]
    second: Option<PathBuf>,
    /// The files of a newer system, to bring on a stick.
    #[arg(long, value_name = "DIR", required_unless_present = "address")]
    system: Option<PathBuf>,
    /// The secret root key whose public half the image has.
    #[arg(long, value_name = "KEY", required_unless_present = "address")]
    root: Option<PathBuf>,
    /// Where the faults on the way begin: another number, other moments.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// A real box instead: its address and port.
    #[arg(long, value_name = "ADDR", conflicts_with = "image")]
    address: Option<SocketAddr>,
    /// The claim code on the real box's console.
    #[arg(long, value_name = "CODE", requires = "address")]
    code: Option<String>,
    /// Only cases whose name holds these words.
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// Write what the box has measured of itself as a page for people; FILE.json is written beside it.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// How long the box is kept busy while it measures itself: by default an hour where a report is wanted, else a minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=120))]
    minutes: Option<u32>,
    /// Keep the virtual box's disk and console here; by default they go with the test.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match Target::new(&args).and_then(|target| suite::run(target, args.only.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
