//! `cargo xtask test`: everything CI runs, quick checks first, and a table at the end.

mod counts;

use std::fs;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::Tool;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{console, fetch, fuzz, page, tidy};
use counts::Counts;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what needs no page, browser or licence check: format, tidy, lints, Rust tests.
    #[arg(long)]
    fast: bool,
    /// Go on after a check that fails.
    #[arg(long)]
    keep_going: bool,
}

/// One thing that is checked; `run` returns how many tests it ran, if it is made of tests.
struct Check {
    name: &'static str,
    about: &'static str,
    fast: bool,
    run: fn(&Workspace) -> Result<Counts>,
}

/// In the order that fails early. What a check needs comes before it: the daemon carries the page.
const CHECKS: &[Check] = &[
    Check { name: "tools", about: "what this machine lacks", fast: false, run: tools },
    Check { name: "format", about: "rustfmt", fast: true, run: format },
    Check { name: "tidy", about: "the rules no lint can hold", fast: true, run: tidy },
    Check { name: "spelling", about: "typos", fast: false, run: spelling },
    Check {
        name: "graph",
        about: "licences, sources and duplicates of dependencies",
        fast: false,
        run: graph,
    },
    Check { name: "page types", about: "svelte-check", fast: false, run: page_types },
    Check { name: "page tests", about: "vitest", fast: false, run: page_tests },
    Check { name: "page build", about: "vite", fast: false, run: page_build },
    Check { name: "lints", about: "clippy, every warning an error", fast: true, run: lints },
    Check { name: "test data", about: "models and tokenizers out of packages", fast: true, run: test_data },
    Check { name: "tests", about: "unit, property, fixture and document tests", fast: true, run: tests },
    Check {
        name: "browser",
        about: "a real browser, the real daemon, a real model",
        fast: false,
        run: browser,
    },
    Check {
        name: "fuzz seeds",
        about: "every fuzz target builds and takes its seeds",
        fast: false,
        run: fuzz_seeds,
    },
];

/// What became of a check.
struct Outcome {
    name: &'static str,
    seconds: f64,
    result: Result<Counts>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for check in CHECKS.iter().filter(|check| check.fast || !args.fast) {
        console::heading(format_args!("{}: {}", check.name, check.about));
        let start = Instant::now();
        let result = (check.run)(workspace);
        if let Err(error) = &result {
            console::error(error);
        }
        let failed = result.is_err();
        outcomes.push(Outcome { name: check.name, seconds: start.elapsed().as_secs_f64(), result });
        if failed && !args.keep_going {
            break;
        }
    }
    report(&outcomes)
}

fn report(outcomes: &[Outcome]) -> Result<()> {
    console::line("");
    console::line(&console::bold(format_args!("{:<12} {:>8}  result", "check", "seconds")));
    let mut total = Counts::default();
    for Outcome { name, seconds, result } in outcomes {
        let words = match result {
            Ok(counts) => counts.to_string(),
            Err(_) => "FAILED".to_owned(),
        };
        console::line(&format!("{name:<12} {seconds:>8.1}  {words}"));
        total += result.as_ref().copied().unwrap_or_default();
    }
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
    console::line(&format!("{:<12} {seconds:>8.1}", "together"));
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.result.is_err()).map(|outcome| outcome.name).collect();
    if !failed.is_empty() {
        bail!("failed: {}; what went wrong is printed above, below the check's heading", failed.join(", "));
    }
    console::line(&format!("{} passed, {} failed", total.passed, total.failed));
    Ok(())
}

fn tools(workspace: &Workspace) -> Result<Counts> {
    setup::tools(workspace, &[setup::TO_RUN, setup::TO_TEST].concat())?;
    Ok(Counts::default())
}

fn format(workspace: &Workspace) -> Result<Counts> {
    Tool::cargo(workspace).args(["fmt", "--all", "--check"]).remedy("run `cargo fmt --all`").run()?;
    Ok(Counts::default())
}

fn tidy(workspace: &Workspace) -> Result<Counts> {
    tidy::run(workspace)?;
    Ok(Counts::default())
}

fn spelling(workspace: &Workspace) -> Result<Counts> {
    Tool::new(workspace, "typos").remedy("correct it, or teach the word to typos.toml").run()?;
    Ok(Counts::default())
}

fn graph(workspace: &Workspace) -> Result<Counts> {
    console::note(
        "advisories are not checked here: their database needs the network (`cargo deny check advisories`)",
    );
    let deny = Tool::cargo(workspace).args(["deny", "--all-features", "check", "--hide-inclusion-graph"]);
    deny.args(["bans", "licenses", "sources"]).remedy("see deny.toml").output()?;
    Ok(Counts::default())
}

fn page_types(workspace: &Workspace) -> Result<Counts> {
    page::npm(workspace, "check").run()?;
    Ok(Counts::default())
}

fn page_tests(workspace: &Workspace) -> Result<Counts> {
    let mut counts = Counts::default();
    page::npm(workspace, "test").watch(|line| counts += counts::of_vitest(line))?;
    Ok(counts)
}

fn page_build(workspace: &Workspace) -> Result<Counts> {
    page::build(workspace)?;
    Ok(Counts::default())
}

fn lints(workspace: &Workspace) -> Result<Counts> {
    let clippy = Tool::cargo(workspace).args(["clippy", "--quiet", "--workspace", "--all-targets"]);
    clippy.args(["--", "--deny", "warnings"]).run()?;
    Ok(Counts::default())
}

fn test_data(workspace: &Workspace) -> Result<Counts> {
    fetch::for_tests(workspace)?;
    Ok(Counts::default())
}

/// Cargo's own runner: the tests of a file share one loaded model, which a process a test would load again and again.
fn tests(workspace: &Workspace) -> Result<Counts> {
    let mut counts = Counts::default();
    let cargo = Tool::cargo(workspace).args(["test", "--quiet", "--workspace", "--no-fail-fast"]);
    let result = cargo.watch(|line| counts += counts::of_cargo(line));
    if result.is_err() && counts.failed > 0 {
        bail!("{counts}");
    }
    result.map(|()| counts)
}

fn browser(workspace: &Workspace) -> Result<Counts> {
    setup::tools(workspace, &[Need::Browser])?;
    // The profile and the selection of the tests, so that nothing is compiled again.
    Tool::cargo(workspace).args(["build", "--quiet", "--workspace", "--bins"]).run()?;
    let mut counts = Counts::default();
    let e2e = page::npm(workspace, "e2e").env("WELS_BIN", workspace.target().join("debug/wels"));
    let e2e = e2e.env("WELS_MODEL", workspace.test_data().join("smollm2.gguf"));
    e2e.watch(|line| counts += counts::of_browser(line))?;
    Ok(counts)
}

fn fuzz_seeds(workspace: &Workspace) -> Result<Counts> {
    if fs::metadata(workspace.join(fuzz::FOLDER)).is_err() {
        console::note("there are no fuzz targets");
        return Ok(Counts::default());
    }
    fuzz::replay(workspace)?;
    Ok(Counts::default())
}
