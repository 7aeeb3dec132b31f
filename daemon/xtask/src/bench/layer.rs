//! The routed experts of one layer of R1, Wels against kt-kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::How;
use super::table::median;
use crate::process::Tool;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{console, fetch};

/// Width of the model and of an expert, experts of a token and of the layer. R1 has 256; so many fit in memory, twice.
const SHAPE: [usize; 4] = [7168, 2048, 8, 48];

/// Time of a step of some tokens.
#[derive(Clone, Debug, Deserialize)]
struct Step {
    /// How kt-kernel holds the weights; ours are in Q4_K.
    #[serde(default)]
    backend: String,
    /// Of the matrix that is held in a finer format in half of a model's layers.
    #[serde(default)]
    down_format: String,
    tokens: usize,
    seconds: f64,
}

/// What one side printed: steps, or why there are none.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    #[serde(default)]
    moe: Vec<Step>,
    /// Backends that this processor cannot run, or all of it, in words.
    #[serde(default)]
    missing: Vec<String>,
}

pub(super) fn run(workspace: &Workspace, wels: &Path, how: &How) -> Result<()> {
    let package = bring(workspace)?;
    console::heading(format_args!(
        "routed experts of one layer: {} rounds on {} threads",
        how.pairs,
        how.threads()
    ));
    let (mut ours, mut theirs, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=how.pairs {
        ours.push(of_wels(workspace, wels, how)?.moe);
        let line = of_kt(workspace, &package, how).unwrap_or_else(|error| Line {
            moe: Vec::new(),
            missing: vec![format!("kt-kernel does not run here: {}", last_line(&format!("{error:#}")))],
        });
        theirs.push(line.moe);
        missing = line.missing;
        console::note(format_args!("round {round} done"));
    }
    let rows = rows(&ours, &theirs);
    print(&rows, &missing);
    if how.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        console::line(&json!({ "moe_layer": rows, "pairs": how.pairs, "missing": missing }).to_string());
    }
    Ok(())
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}

fn bring(workspace: &Workspace) -> Result<PathBuf> {
    setup::tools(workspace, &[Need::Python, Need::Numpy])?;
    let folder = workspace.target().join("bench/kt-kernel");
    if !folder.is_dir() {
        console::step("kt-kernel 0.7.2, prebuilt (102 MB)", || {
            fetch::wheel(workspace, "kt-kernel", "0.7.2", &folder)
        })?;
    }
    Ok(folder)
}

fn of_wels(workspace: &Workspace, wels: &Path, how: &How) -> Result<Line> {
    let [d_model, d_expert, top_k, n_experts] = SHAPE;
    let bench = Tool::new(workspace, wels).args(["bench", "--kernels", "--json", "--threads"]);
    let bench = bench.arg(how.threads().to_string()).args([
        "--repeat",
        &how.repeat.unwrap_or(3).to_string(),
        "--moe",
    ]);
    let bench = bench.arg(format!("{d_model}x{d_expert}:{top_k}/{n_experts}"));
    let bench = match how.level {
        Some(level) => bench.env("WELS_CPU", level.wels()),
        None => bench,
    };
    parse(&bench.output()?)
}

fn of_kt(workspace: &Workspace, package: &Path, how: &How) -> Result<Line> {
    let script = workspace.join("daemon/xtask/src/bench/kt_bench.py");
    let python =
        Tool::new(workspace, workspace.venv().join("bin/python")).arg(script).arg("--package").arg(package);
    let python =
        python.args(["--threads", &how.threads().to_string(), "--shape"]).args(SHAPE.map(|n| n.to_string()));
    let python = match how.level {
        Some(level) => python.args(["--level", level.wels()]),
        None => python,
    };
    parse(&python.output()?)
}

fn parse(output: &str) -> Result<Line> {
    let line = output.lines().next_back().context("the benchmark printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("not the line of a benchmark: {line}"))
}

/// One number of tokens, with one format of down.
struct Row {
    down_format: String,
    tokens: usize,
    ours_s: f64,
    /// Backend, seconds, median of the ratios of speeds, ours to its.
    theirs: Vec<(String, f64, f64)>,
}

fn rows(ours: &[Vec<Step>], theirs: &[Vec<Step>]) -> Vec<Row> {
    let row = |(idx, step): (usize, &Step)| {
        let same = |other: &&Step| {
            other.tokens == step.tokens
                && (other.down_format.is_empty() || other.down_format == step.down_format)
        };
        let rivals = theirs.first().into_iter().flatten().filter(same);
        let rival = |rival: &Step| {
            let of_round = |round: &Vec<Step>| {
                let found = round.iter().filter(same).find(|other| other.backend == rival.backend);
                found.map_or(f64::NAN, |found| found.seconds)
            };
            let seconds: Vec<f64> = theirs.iter().map(of_round).collect();
            let ratios = ours.iter().zip(&seconds).map(|(ours, theirs)| theirs / ours[idx].seconds);
            (rival.backend.clone(), median(seconds.iter().copied()), median(ratios))
        };
        let ours_s = median(ours.iter().map(|round| round[idx].seconds));
        let (down_format, tokens) = (step.down_format.clone(), step.tokens);
        Row { down_format, tokens, ours_s, theirs: rivals.map(rival).collect() }
    };
    ours.first().into_iter().flatten().enumerate().map(row).collect()
}

fn print(rows: &[Row], missing: &[String]) {
    console::line("");
    let head = format!("{:<28} {:>10}   kt-kernel: ms, (ratio of speeds)", "R1 layer, Q4_K", "wels, ms");
    console::line(&console::bold(head));
    for row in rows {
        let name = format!("down {}, {} tokens", row.down_format, row.tokens);
        let theirs = row
            .theirs
            .iter()
            .map(|(backend, seconds, ratio)| format!("   {backend} {:.2} ({ratio:.2})", seconds * 1e3));
        let theirs: String = theirs.collect();
        let theirs = if theirs.is_empty() { "   none".to_owned() } else { theirs };
        console::line(&format!("{name:<28} {:>10.2}{theirs}", row.ours_s * 1e3));
    }
    missing.iter().for_each(console::note);
}

impl Row {
    fn json(&self) -> Value {
        let theirs = self.theirs.iter().map(
            |(backend, seconds, ratio)| json!({ "backend": backend, "seconds": seconds, "ratio": ratio }),
        );
        json!({
            "down_format": self.down_format, "tokens": self.tokens, "wels_seconds": self.ours_s,
            "kt_kernel": theirs.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(backend: &str, down_format: &str, tokens: usize, seconds: f64) -> Step {
        Step { backend: backend.into(), down_format: down_format.into(), tokens, seconds }
    }

    #[test]
    fn steps_are_compared_with_those_of_the_same_kind() {
        let ours =
            vec![vec![step("", "Q4_K", 1, 2.0), step("", "Q6_K", 1, 3.0), step("", "Q4_K", 8, 9.0)]; 2];
        let theirs = vec![vec![step("llamafile", "Q4_K", 1, 4.0), step("int4", "", 1, 1.0)]; 2];
        let rows = rows(&ours, &theirs);
        assert_eq!(rows[0].theirs, [("llamafile".into(), 4.0, 2.0), ("int4".into(), 1.0, 0.5)]);
        assert_eq!(rows[1].theirs.len(), 1);
        assert!(rows[2].theirs.is_empty());
    }

    #[test]
    fn a_peer_that_cannot_run_says_so() {
        let line = parse("words\n{\"moe\": [], \"missing\": [\"int4 needs AMX\"]}").unwrap();
        assert_eq!((line.moe.len(), line.missing), (0, vec!["int4 needs AMX".to_owned()]));
    }
}
