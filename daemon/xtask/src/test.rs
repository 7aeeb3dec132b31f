//! `cargo xtask test`: everything CI runs, quick checks first, and a table at the end.

mod counts;
mod hardware;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, fetch, fuzz, page, setup, tidy};
use counts::Counts;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what needs no page, browser or licence check: format, tidy, lints, Rust tests.
    #[arg(long)]
    fast: bool,
    /// Go on after a check that fails.
    #[arg(long)]
    keep_going: bool,
    /// Instead of all this: build the bootable image and test it in a virtual box; needs root, and on two cores more than
    /// an hour.
    #[arg(long, conflicts_with_all = ["fast", "keep_going"])]
    hw: bool,
    /// With --hw: only cases whose name holds these words, on the image that was built last.
    #[arg(long, value_name = "WORDS", requires = "hw")]
    only: Option<String>,
}

/// One thing that is checked; where it is made of tests, `run` counts them.
struct Check {
    name: &'static str,
    about: &'static str,
    fast: bool,
    run: fn(&Workspace, &mut Counts) -> Result<()>,
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
    counts: Counts,
    is_ok: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.hw {
        return hardware::run(workspace, args.only.as_deref());
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for check in CHECKS.iter().filter(|check| check.fast || !args.fast) {
        console::heading(format_args!("{}: {}", check.name, check.about));
        let start = Instant::now();
        let mut counts = Counts::default();
        let result = (check.run)(workspace, &mut counts);
        let seconds = start.elapsed().as_secs_f64();
        let is_ok = result.is_ok();
        outcomes.push(Outcome { name: check.name, seconds, counts, is_ok });
        match result {
            Ok(()) => console::note(format_args!("done in {seconds:.1} s")),
            Err(error) => console::error(&error),
        }
        if !is_ok && !args.keep_going {
            break;
        }
    }
    report(&outcomes)
}

fn report(outcomes: &[Outcome]) -> Result<()> {
    console::line("");
    console::line(&console::bold(format_args!("{:<12} {:>8}  result", "check", "seconds")));
    let mut total = Counts::default();
    for Outcome { name, seconds, counts, is_ok } in outcomes {
        let result = if *is_ok { "ok" } else { "FAILED" };
        let tests = if counts.is_empty() { String::new() } else { format!(": {counts}") };
        console::line(&format!("{name:<12} {seconds:>8.1}  {result}{tests}"));
        total += *counts;
    }
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
    console::line(&format!("{:<12} {seconds:>8.1}", "together"));
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| !outcome.is_ok).map(|outcome| outcome.name).collect();
    if !failed.is_empty() {
        bail!("failed: {} ({total}); what went wrong is printed below each one's heading", failed.join(", "));
    }
    console::line(&format!("\n{total}"));
    Ok(())
}

fn tools(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    setup::tools(workspace, &[setup::TO_RUN, setup::TO_TEST].concat())
}

/// Names the files only: how they would look, `cargo fmt` shows.
fn format(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    let fmt = Tool::cargo(workspace).args(["fmt", "--all", "--check", "--message-format", "short"]);
    fmt.remedy("run `cargo fmt --all`").run()
}

fn tidy(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    tidy::run(workspace)
}

fn spelling(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    Tool::new(workspace, "typos").remedy("correct it, or teach the word to typos.toml").run()
}

fn graph(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    console::note(
        "advisories are left out: their database needs the network (`cargo deny check advisories`)",
    );
    let deny = Tool::cargo(workspace).args(["deny", "--all-features", "check", "--hide-inclusion-graph"]);
    deny.args(["bans", "licenses", "sources"]).remedy("see deny.toml").output()?;
    Ok(())
}

fn page_types(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    page::npm(workspace, "check").run()
}

fn page_tests(workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    page::npm(workspace, "test").watch(|line| *counts += counts::of_vitest(line))
}

fn page_build(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    page::build(workspace)
}

fn lints(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    let clippy = Tool::cargo(workspace).args(["clippy", "--quiet", "--workspace", "--all-targets"]);
    clippy.args(["--", "--deny", "warnings"]).run()
}

fn test_data(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    fetch::for_tests(workspace)
}

/// Cargo's own runner: the tests of a file share one loaded model, which a process a test would load again and again.
fn tests(workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    let cargo = Tool::cargo(workspace).args(["test", "--quiet", "--workspace", "--no-fail-fast"]);
    cargo.watch(|line| *counts += counts::of_cargo(line))?;
    // Once more with subgroups twice as wide: no shader may know how wide they are.
    let cargo = Tool::cargo(workspace).args(["test", "--quiet", "--package", "shaders"]);
    let cargo = cargo.env("LP_NATIVE_VECTOR_WIDTH", "512");
    cargo.watch(|line| *counts += counts::of_cargo(line))
}

fn browser(workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    // The profile and the selection of the tests, so that nothing is compiled again.
    Tool::cargo(workspace).args(["build", "--quiet", "--workspace", "--bins"]).run()?;
    // The whole page; a graphics card that is lost in the middle of an answer; a box without a model, and sticks.
    ["e2e", "e2e:card", "e2e:sticks"].into_iter().try_for_each(|script| {
        let e2e = page::npm(workspace, script).env("WELS_BIN", workspace.target().join("debug/wels"));
        let e2e = e2e.env("WELS_MODEL", workspace.test_data().join("smollm2.gguf")).env("WELS_LOG", "warn");
        e2e.watch(|line| *counts += counts::of_browser(line))
    })
}

fn fuzz_seeds(workspace: &Workspace, _: &mut Counts) -> Result<()> {
    if workspace.join(fuzz::FOLDER).is_dir() {
        return fuzz::replay(workspace);
    }
    console::note("there are no fuzz targets");
    Ok(())
}
