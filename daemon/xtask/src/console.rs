//! What the commands say: a heading for each thing done, what it found, how long it took.
#![expect(clippy::print_stdout, reason = "the commands talk to a person")]

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Instant;

use anyhow::Result;

/// Says that `what` begins, does it, says how long it took.
///
/// # Errors
/// Those of `work`.
pub(crate) fn step<T>(what: impl Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    heading(&what);
    let start = Instant::now();
    let done = work()?;
    note(format_args!("done in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(done)
}

/// The first line of something that takes a while.
pub(crate) fn heading(what: impl Display) {
    println!("{} {}", bold("==>"), bold(what));
}

/// A detail below a heading.
pub(crate) fn note(what: impl Display) {
    println!("    {what}");
}

/// A line as another program printed it.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// The last word of a command that found something wrong.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("{} {error:#}", if colours() { "\x1b[1;31merror:\x1b[0m" } else { "error:" });
}

pub(crate) fn bold(text: impl Display) -> String {
    if colours() { format!("\x1b[1;36m{text}\x1b[0m") } else { text.to_string() }
}

/// Whether a person looks at a terminal that shows colours.
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
