//! `cargo xtask tidy`: the rules of the house that no lint can hold.

mod arrows;
mod pages;
mod rust;
mod shaders;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::console;
use crate::process::Tool;
use crate::workspace::Workspace;

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: PathBuf,
    /// Counted from 1; 0 stands for the whole file.
    line: usize,
    what: String,
    /// Worth a look, but no reason to fail.
    is_warning: bool,
}

impl Finding {
    fn error(path: impl Into<PathBuf>, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.into(), line, what: what.into(), is_warning: false }
    }

    fn warning(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self { path: path.into(), line: 0, what: what.into(), is_warning: true }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = if self.line == 0 { String::new() } else { format!(":{}", self.line) };
        let kind = if self.is_warning { "warning: " } else { "" };
        write!(out, "{}{line}: {kind}{}", self.path.display(), self.what)
    }
}

/// A text file of the repository; paths are relative to the root.
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }
}

/// Checks every rule and prints what breaks them.
///
/// # Errors
/// A rule is broken, or the files can't be read.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let sources = sources(workspace)?;
    let findings = check(workspace, &sources)?;
    for finding in &findings {
        console::note(finding);
    }
    let n_errors = findings.iter().filter(|finding| !finding.is_warning).count();
    if n_errors > 0 {
        bail!("{n_errors} broken rules of {} files; each line above says which and where", sources.len());
    }
    console::note(format_args!("{} files keep the rules", sources.len()));
    Ok(())
}

fn check(workspace: &Workspace, sources: &[Source]) -> Result<Vec<Finding>> {
    let rust: Vec<_> = sources.iter().filter(|source| source.has_extension("rs")).collect();
    let mut findings = Vec::new();
    for source in &rust {
        findings.extend(rust::check(source));
    }
    findings.extend(rust::check_list(&rust));
    findings.extend(sources.iter().flat_map(text::check));
    findings.extend(arrows::check(workspace)?);
    findings.extend(shaders::check(sources));
    findings.extend(pages::check(sources));
    Ok(findings)
}

/// The text files that git tracks or would track.
fn sources(workspace: &Workspace) -> Result<Vec<Source>> {
    let git =
        Tool::new(workspace, "git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = git.remedy("tidy reads the list of files from git: run it in a clone").output()?;
    let mut sources = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()).map(Path::new) {
        let full = workspace.join(path);
        // A deleted file is still tracked until the deletion is committed.
        let Ok(found) = fs::symlink_metadata(&full) else { continue };
        if !found.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("cannot read {}", path.display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}
