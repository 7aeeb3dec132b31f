//! `cargo xtask bench`: Wels and llama.cpp on the same file, in turn, on the same cores.
//!
//! Other programs share a machine's memory and caches, so a number alone says little: what counts is the ratio of two
//! runs next to each other, and of those the median.

mod peer;

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, fetch, run};
use peer::Peer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// smollm2 or coder-1.5b.
    #[arg(default_value = "smollm2")]
    model: String,
    /// Runs of each, in turn.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pairs: usize,
    /// Threads of each; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Which build of llama.cpp to measure against.
    #[arg(long, value_enum, default_value_t = peer::Build::Prebuilt)]
    peer: peer::Build,
}

/// What both are asked to do.
pub(crate) struct Work {
    threads: usize,
}

impl Work {
    /// Options that `wels bench` and the peer's script share.
    fn options(&self) -> Vec<String> {
        let pairs =
            [("threads", self.threads), ("prefill", 512), ("decode", 64), ("depth", 32), ("repeat", 3)];
        pairs.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]).collect()
    }
}

/// The last line that both print.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Speed {
    prefill_tok_s: f64,
    decode_tok_s: f64,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.pairs == 0 {
        bail!("--pairs starts at 1");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Work { threads: args.threads.unwrap_or(cores) };
    let wels = console::step("the daemon", || run::build(workspace))?;
    let model = fetch::model(workspace, &args.model)?;
    let peer = Peer::bring(workspace, args.peer)?;
    console::heading(format_args!("{}: {} pairs on {} threads", args.model, args.pairs, work.threads));
    warn_of_others(work.threads);
    let mut pairs = Vec::new();
    for n in 1..=args.pairs {
        let ours = ours(workspace, &wels, &model, &work)?;
        let theirs = speed(&peer.bench(workspace, &model, &work)?)?;
        console::note(format_args!(
            "pair {n}: prefill {:.0} and {:.0} tok/s, decode {:.1} and {:.1} tok/s",
            ours.prefill_tok_s, theirs.prefill_tok_s, ours.decode_tok_s, theirs.decode_tok_s
        ));
        pairs.push((ours, theirs));
    }
    report(&pairs);
    Ok(())
}

fn ours(workspace: &Workspace, wels: &Path, model: &Path, work: &Work) -> Result<Speed> {
    let bench = Tool::new(workspace, wels).args(["bench", "--json", "--model"]).arg(model);
    speed(&bench.args(work.options()).output()?)
}

fn speed(output: &str) -> Result<Speed> {
    let line = output.lines().next_back().context("the benchmark printed nothing")?;
    let speed: Speed =
        serde_json::from_str(line).with_context(|| format!("not the line of a benchmark: {line}"))?;
    let is_rate = |rate: f64| rate.is_finite() && rate > 0.0;
    if !is_rate(speed.prefill_tok_s) || !is_rate(speed.decode_tok_s) {
        bail!("the benchmark printed a rate that is none: {line}");
    }
    Ok(speed)
}

fn report(pairs: &[(Speed, Speed)]) {
    let row = |name: &str, rate: fn(&Speed) -> f64| {
        let ours = median(pairs.iter().map(|(ours, _)| rate(ours)));
        let theirs = median(pairs.iter().map(|(_, theirs)| rate(theirs)));
        let ratio = median(pairs.iter().map(|(ours, theirs)| rate(ours) / rate(theirs)));
        console::line(&format!("{name:<20} {ours:>10.1} {theirs:>12.1} {ratio:>8.2}"));
    };
    console::line("");
    let heads = format!("{:<20} {:>10} {:>12} {:>8}", "tok/s, medians", "wels", "llama.cpp", "ratio");
    console::line(&console::bold(heads));
    row("prefill 512", |speed| speed.prefill_tok_s);
    row("decode 64 after 32", |speed| speed.decode_tok_s);
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

/// Both spin while they wait for each other's threads: on a busy machine the numbers mean nothing.
fn warn_of_others(threads: usize) {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0);
    if load > 0.5 * threads as f64 {
        console::note(format_args!(
            "the machine is busy (load {load:.1}): let it rest for numbers that mean something"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let speed =
            speed("prefill  12\n{\"prefill_tok_s\": 100.0, \"decode_tok_s\": 10, \"model\": \"m\"}\n")
                .unwrap();
        assert_eq!((speed.prefill_tok_s, speed.decode_tok_s), (100.0, 10.0));
    }

    #[test]
    fn nonsense_is_no_speed() {
        for nonsense in ["", "words", "{}", "{\"prefill_tok_s\": 0, \"decode_tok_s\": 1}"] {
            assert!(speed(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn the_median_ignores_what_stands_out() {
        assert_eq!(median([1.0, 900.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([900.0, 1.0, 2.0, 4.0].into_iter()), 3.0);
    }
}
