//! A way into the virtual box, on its second serial line: root's shell, to fill its drive and to look at its folders. It comes with
//! the machine, as the units do that show the log; the image has none.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs each line that comes, without showing it again.
pub(crate) const UNIT: (&str, &str) = (
    "wels-shell",
    "[Unit]\nDefaultDependencies=no\n[Service]\nRestart=always\nStandardInput=tty-force\nStandardOutput=tty\nStandardError=tty\n\
    TTYPath=/dev/ttyS1\nExecStart=/bin/sh -c 'stty -echo -onlcr; while read -r line; do eval \"$$line\"; done'\n",
);
/// A line of a terminal holds no more.
const LINE_MAX: usize = 4000;
/// A line that was written while the shell wasn't there yet is written again.
const HELLO_EVERY: Duration = Duration::from_secs(5);
const HELLO_TIME_MAX: Duration = Duration::from_secs(120);
/// The box computes slowly.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(600);

/// The line's other end.
pub(crate) struct Shell {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    n_commands: u32,
}

impl Shell {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).context("the box's second serial line")?;
        let lines = BufReader::new(stream.try_clone()?);
        let mut shell = Self { stream, lines, n_commands: 0 };
        let start = Instant::now();
        loop {
            match shell.command("true", HELLO_EVERY) {
                Ok(_) => return Ok(shell),
                Err(error) if start.elapsed() > HELLO_TIME_MAX => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Runs a line of shell; gives what it printed.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn run(&mut self, line: &str) -> Result<String> {
        self.command(line, COMMAND_TIME_MAX)
    }

    fn command(&mut self, line: &str, limit: Duration) -> Result<String> {
        assert!(line.len() < LINE_MAX && !line.contains('\n'), "a line of a terminal");
        self.n_commands += 1;
        let n = self.n_commands;
        let (begin, end) = (format!("BEGIN-{n}"), format!("END-{n} "));
        writeln!(
            self.stream,
            "printf '%s-%s\\n' BEGIN {n}; {{ {line}; }} 2>&1; printf '\\n%s-%s %s\\n' END {n} $?"
        )?;
        let (start, mut said, mut text) = (Instant::now(), Vec::new(), String::new());
        self.stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        loop {
            match self.lines.read_until(b'\n', &mut said) {
                Ok(0) => bail!("the box's second serial line is gone"),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if start.elapsed() > limit {
                        bail!("in the box, `{line}` did not end within {} s: {text}", limit.as_secs());
                    }
                    continue;
                }
                Err(error) => return Err(error).context("the box's second serial line"),
            }
            let whole = String::from_utf8_lossy(&std::mem::take(&mut said)).into_owned();
            if whole.trim_end().ends_with(&begin) {
                // Firmware speaks on this line, too.
                text.clear();
                continue;
            }
            match whole.trim_end().strip_prefix(&end) {
                Some("0") => return Ok(text.trim().to_owned()),
                Some(status) => bail!("in the box, `{line}` failed ({status}): {}", text.trim()),
                None => text += &whole,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command};

    use super::*;

    /// A shell as the box has one, but for the terminal.
    fn shell(folder: &Path) -> (Child, Shell) {
        let path = folder.join("line");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let input: OwnedFd = stream.try_clone().unwrap().into();
            let output: OwnedFd = stream.into();
            let mut sh = Command::new("sh");
            sh.args(["-c", "while read -r line; do eval \"$line\"; done"]);
            sh.stdin(input).stdout(output).spawn().unwrap()
        });
        let shell = Shell::connect(&path).unwrap();
        (serve.join().unwrap(), shell)
    }

    #[test]
    fn what_a_line_prints_comes_back_and_so_does_its_failure() {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, mut shell) = shell(folder.path());
        assert_eq!(shell.run("echo one; printf two").unwrap(), "one\ntwo");
        assert_eq!(shell.run("true").unwrap(), "");
        shell.run("(sleep 0.2; printf 'the firmware says') & true").unwrap();
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(shell.run("echo one").unwrap(), "one");
        let error = shell.run("echo why; false").unwrap_err().to_string();
        assert!(error.contains("why") && error.contains("(1)"), "{error}");
        assert_eq!(shell.run("echo END-99 0").unwrap(), "END-99 0", "of another command");
        drop(shell);
        child.wait().unwrap();
    }
}
