//! A passphrase: a file's first line, or typed without being shown.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use backup::{PASSPHRASE_BYTES_MAX, PASSPHRASE_CHARS_MIN};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::cli::backup::Passphrase;

/// One for a new backup: a typing mistake would lock everybody out, so it is typed twice.
pub(super) fn new(args: &Passphrase) -> Result<String> {
    if let Some(path) = &args.passphrase_file {
        return first_line(path);
    }
    let passphrase = typed(&format!("new passphrase, {PASSPHRASE_CHARS_MIN} characters or more: "))?;
    if typed("the same again: ")? != passphrase {
        bail!("the two are not the same; start again");
    }
    Ok(passphrase)
}

/// That of a backup there is.
pub(super) fn asked(args: &Passphrase) -> Result<String> {
    match &args.passphrase_file {
        Some(path) => first_line(path),
        None => typed("passphrase: "),
    }
}

fn first_line(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    line(file).with_context(|| format!("cannot read a passphrase from {}", path.display()))
}

/// Asks at the terminal, wherever input and output go.
fn typed(question: &str) -> Result<String> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut terminal = terminal.context(
        "there is no terminal to ask for the passphrase; give it in a file with --passphrase-file",
    )?;
    terminal.write_all(question.as_bytes())?;
    let hidden = Hidden::on(&terminal)?;
    let typed = line(&terminal);
    drop(hidden);
    terminal.write_all(b"\n")?;
    typed
}

fn line(from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    // With its end, which may have two bytes.
    BufReader::new(from.take(PASSPHRASE_BYTES_MAX as u64 + 2)).read_until(b'\n', &mut bytes)?;
    let text = String::from_utf8(bytes).context("it is no UTF-8")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that doesn't show what is typed, as long as this lives.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn on(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_it_ends() {
        for text in ["a b c", "a b c\n", "a b c\r\n", "a b c\nmore\n"] {
            assert_eq!(line(text.as_bytes()).unwrap(), "a b c");
        }
        assert_eq!(line(" 鲇鱼 ".as_bytes()).unwrap(), " 鲇鱼 ");
        assert!(line(&b"\xff"[..]).is_err());
    }
}
