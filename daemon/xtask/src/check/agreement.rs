//! How often the fast path's most likely token is the reference's, by model and level.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::references::{Pair, pairs};
use crate::workspace::Workspace;
use crate::{console, run};

/// The kernels' levels, as `WELS_CPU` names them.
const LEVELS: [&str; 4] = ["scalar", "avx2", "avx512", "amx"];
/// What the daemon says of a level that this processor lacks.
const LACKS: &str = "cannot run level";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of models as for `check references`.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    let mut rows = Vec::new();
    for pair in pairs(&args.dir)? {
        let counts = LEVELS.iter().map(|level| agreement(&wels, &pair, level)).collect::<Result<Vec<_>>>()?;
        // Results without the most likely tokens are of other things.
        if counts.iter().any(|count| count.is_some_and(|[_, n]| n > 0)) {
            rows.push((pair.model, counts));
        }
    }
    ensure!(!rows.is_empty(), "{}: no model with expected most likely tokens", args.dir.display());
    console::line(&format!(
        "{:>9} {:>9} {:>9} {:>9}  most likely tokens that agree",
        "scalar", "avx2", "avx512", "amx"
    ));
    for (model, counts) in &rows {
        let shown: Vec<_> = counts.iter().map(|count| format!("{:>9}", percent(*count))).collect();
        console::line(&format!("{}  {}", shown.join(" "), model.display()));
    }
    Ok(())
}

/// Most likely tokens that agree, and all of them; `None` on a level that this processor lacks.
fn agreement(wels: &Path, pair: &Pair, level: &str) -> Result<Option<[u64; 2]>> {
    let output = Command::new(wels)
        .args(["eval", "--precision", "fast", "--json"])
        .args([Path::new("--model"), &pair.model, Path::new("--expect"), &pair.expected])
        .envs([("WELS_CPU", level), ("WELS_LOG", "warn")])
        .output()
        .with_context(|| format!("cannot run {}", wels.display()))?;
    let (found, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if errors.contains(LACKS) {
        return Ok(None);
    }
    // It fails where anything is apart from the reference, which is what is counted here.
    if found.is_empty() {
        bail!("{}: nothing compared on {level}: {errors}", pair.model.display());
    }
    Ok(Some(found.lines().filter_map(equal).fold([0; 2], |[a, b], [equal, n]| [a + equal, b + n])))
}

/// The counts in a line about most likely tokens.
fn equal(line: &str) -> Option<[u64; 2]> {
    let line: Value = serde_json::from_str(line).ok()?;
    let equal = &line["equal"];
    line["tensor"].as_str()?.ends_with(".argmax").then_some([equal[0].as_u64()?, equal[1].as_u64()?])
}

fn percent(count: Option<[u64; 2]>) -> String {
    match count {
        Some([equal, n]) if n > 0 => format!("{:.1} %", 100.0 * equal as f64 / n as f64),
        _ => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_most_likely_tokens_are_counted() {
        let line = r#"{"tensor":"p33.argmax","agrees":false,"found":"31 of 33 equal","equal":[31,33]}"#;
        assert_eq!(equal(line), Some([31, 33]));
        assert_eq!(equal(&line.replace("argmax", "greedy_ids")), None);
        assert_eq!(equal("model tiny"), None);
    }

    #[test]
    fn a_level_that_is_not_there_has_no_share() {
        assert_eq!(percent(None), "-");
        assert_eq!(percent(Some([1, 8])), "12.5 %");
    }
}
