//! What the suite says while it runs.
#![expect(clippy::print_stdout, reason = "the suite talks to a person")]

use std::time::Instant;

/// A detail of the case under way.
pub(crate) fn note(what: &str) {
    println!("      {what}");
}

/// A case begins.
pub(crate) fn begins(name: &str) -> Instant {
    println!("run   {name}");
    Instant::now()
}

/// How it ended.
pub(crate) fn ended(name: &str, since: Instant, outcome: &str) {
    println!("{outcome:<5} {name} ({:.0} s)", since.elapsed().as_secs_f64());
}

/// The last word of a suite that found something wrong.
pub(crate) fn failure(what: &str) {
    eprintln!("error: {what}");
}

/// Lines as they are.
pub(crate) fn lines(text: &str) {
    text.lines().for_each(|line| println!("    | {line}"));
}
