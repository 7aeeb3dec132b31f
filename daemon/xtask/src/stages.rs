//! `cargo xtask stages`: the table of what a token costs a graphics card, written anew into the architecture's page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, run};

/// Models of the catalogue, and what the table calls them.
const MODELS: [(&str, &str); 7] = [
    ("deepseek-r1", "R1"),
    ("deepseek-v2-lite", "V2-Lite"),
    ("r1-distill-qwen-1.5b", "distill, Qwen 1.5B"),
    ("r1-distill-qwen-7b", "distill, Qwen 7B"),
    ("r1-distill-llama-8b", "distill, Llama 8B"),
    ("r1-distill-qwen-32b", "distill, Qwen 32B"),
    ("r1-distill-llama-70b", "distill, Llama 70B"),
];
const PAGE: &str = "daemon/ARCHITECTURE.md";
const BEGIN: &str = "<!-- written by cargo xtask stages -->\n";
const END: &str = "<!-- up to here -->\n";

#[derive(Debug, Deserialize)]
struct Report {
    ways: Vec<Way>,
}

#[derive(Debug, Deserialize)]
struct Way {
    way: String,
    dispatches: usize,
    submits: usize,
    readbacks: usize,
    weight_bytes: u64,
    read_share: f64,
    moved_bytes: u64,
}

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let wels = console::step("the daemon", || run::build(workspace))?;
    let page = workspace.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let new = replaced(&text, &table(workspace, &wels)?)?;
    fs::write(&page, new).with_context(|| format!("cannot write {}", page.display()))?;
    console::note(format_args!("{PAGE}: the table is new"));
    Ok(())
}

fn table(workspace: &Workspace, wels: &Path) -> Result<String> {
    let mut out = String::from(
        "| model | layers | dispatches | submits | readbacks | weights read, MB | of what is needed | moved, MB |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (id, name) in MODELS {
        let output =
            Tool::new(workspace, wels).args(["plan", "--stages", "--json", "--model", id]).output()?;
        let report: Report =
            serde_json::from_str(&output).with_context(|| format!("not a report: {output}"))?;
        for Way { way, dispatches, submits, readbacks, weight_bytes, read_share, moved_bytes } in report.ways
        {
            let (read, moved) = (weight_bytes as f64 / 1e6, moved_bytes as f64 / 1e6);
            writeln!(
                out,
                "| {name} | {way} | {dispatches} | {submits} | {readbacks} | {read:.0} | {read_share:.3} | {moved:.2} |"
            )?;
        }
    }
    Ok(out)
}

/// The page with another table between its marks.
fn replaced(text: &str, table: &str) -> Result<String> {
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("{PAGE} lacks the marks {BEGIN:?} and {END:?} between which the table stands");
    };
    Ok(format!("{}{BEGIN}{table}{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_changes() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(replaced("no marks", "new\n").is_err());
    }
}
