//! Other programs: started in the checkout, with the fetched tools in reach, and errors that say what to do.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::console;
use crate::workspace::Workspace;

/// Lines of a failed program's output that its error repeats.
const TAIL_LINES_MAX: usize = 60;
/// Words of a command that its error repeats.
const SHOWN_WORDS_MAX: usize = 20;

/// A program and its arguments. It runs in the root of the checkout, without standard input.
pub(crate) struct Tool {
    command: Command,
    remedy: String,
}

impl Tool {
    pub(crate) fn new(workspace: &Workspace, program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(workspace.root()).stdin(Stdio::null()).env("PATH", path_with_tools(workspace));
        Self { command, remedy: String::new() }
    }

    /// The cargo that runs this command.
    pub(crate) fn cargo(workspace: &Workspace) -> Self {
        let mut tool = Self::new(workspace, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What cargo sets for xtask itself says nothing about the crates built next.
        for (name, _) in std::env::vars_os() {
            let ours = name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if ours {
                tool.command.env_remove(name);
            }
        }
        tool.env("CARGO_TERM_COLOR", if console::colours() { "always" } else { "never" })
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<I: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = I>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it in a cgroup.
    pub(crate) fn within(mut self, cgroup: &Cgroup) -> Self {
        let [shell, words @ ..] = cgroup.entrance();
        let mut command = Command::new(shell);
        command.args(words).arg(self.command.get_program()).args(self.command.get_args());
        command.stdin(Stdio::null());
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
        self
    }

    /// What to do if it fails, in words that follow a semicolon.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Runs it silently and returns what it printed on standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.command.output().with_context(|| self.cannot_start())?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let both = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
            let lines: Vec<&str> = both.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES_MAX)..];
            bail!("{}\n{}", self.failed(&output.status.to_string()), tail.join("\n"));
        }
        Ok(stdout)
    }

    /// Runs it in the terminal of this command.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| self.cannot_start())?;
        if !status.success() {
            bail!("{}", self.failed(&status.to_string()));
        }
        Ok(())
    }

    /// Becomes it, so that signals reach it and nothing waits in between. Returns only what kept it from starting.
    pub(crate) fn become_it(mut self) -> anyhow::Error {
        let error = self.command.stdin(Stdio::inherit()).exec();
        anyhow::Error::new(error).context(self.cannot_start())
    }

    /// Runs it, shows what it prints and hands each line to `see`.
    pub(crate) fn watch(self, mut see: impl FnMut(&str)) -> Result<()> {
        self.lines(|line| {
            console::line(line);
            see(line);
        })
    }

    /// Runs it and hands each line it prints to `see`; what it said last is shown only if it fails.
    pub(crate) fn follow(self, mut see: impl FnMut(&str)) -> Result<()> {
        let mut tail = VecDeque::new();
        let outcome = self.lines(|line| {
            tail.push_back(line.to_owned());
            if tail.len() > TAIL_LINES_MAX {
                tail.pop_front();
            }
            see(line);
        });
        if outcome.is_err() {
            tail.iter().for_each(|line| console::line(line));
        }
        outcome
    }

    fn lines(mut self, mut see: impl FnMut(&str)) -> Result<()> {
        let (ours, theirs) = std::io::pipe().context("cannot make a pipe")?;
        self.command.stdout(theirs.try_clone().context("cannot make a pipe")?).stderr(theirs);
        let mut child = self.command.spawn().with_context(|| self.cannot_start())?;
        // The command holds the pipe's other end, which must close when the program ends.
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        for line in BufReader::new(ours).split(b'\n') {
            let line = line.context("cannot read what the program prints")?;
            see(&String::from_utf8_lossy(&line));
        }
        let status = child.wait().with_context(|| self.cannot_start())?;
        if !status.success() {
            bail!("{}", self.failed(&status.to_string()));
        }
        Ok(())
    }

    /// The command as one would type it; of a long list of arguments the beginning.
    fn shown(&self) -> String {
        let words: Vec<_> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_string_lossy)
            .collect();
        let rest = if words.len() > SHOWN_WORDS_MAX { " ..." } else { "" };
        format!("{}{rest}", words[..words.len().min(SHOWN_WORDS_MAX)].join(" "))
    }

    fn cannot_start(&self) -> String {
        format!("cannot start `{}`{}", self.shown(), self.what_now())
    }

    fn failed(&self, status: &str) -> String {
        format!("`{}` failed ({status}){}", self.shown(), self.what_now())
    }

    fn what_now(&self) -> String {
        if self.remedy.is_empty() { String::new() } else { format!("; {}", self.remedy) }
    }
}

/// Whether a program of that name can be started.
pub(crate) fn on_path(workspace: &Workspace, program: &str) -> bool {
    let path = path_with_tools(workspace);
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The tools fetched for this checkout come first.
fn path_with_tools(workspace: &Workspace) -> std::ffi::OsString {
    let ours = [workspace.venv().join("bin"), workspace.cargo_tools().join("bin")];
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let dirs = ours.into_iter().chain(std::env::split_paths(&inherited));
    std::env::join_paths(dirs).unwrap_or(inherited)
}
