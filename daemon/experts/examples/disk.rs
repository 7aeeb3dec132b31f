//! Speed of this box's drive: reads of whole records, through threads and through io_uring, at several depths.
//!
//! `cargo run --release -p experts --example disk -- FILE RECORD_BYTES [SECONDS [checked]]`; `checked` computes checksums, too.
//! Numbers compare only within one run: the drive may be shared.
#![expect(clippy::print_stdout, reason = "prints a table")]

use std::path::PathBuf;
use std::time::Duration;

use experts::disk::{Load, measure};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [file, record_bytes, rest @ ..] = &args[..] else {
        return Err("give FILE RECORD_BYTES [SECONDS [checked]]".into());
    };
    let seconds = rest.first().map_or(Ok(10.0), |seconds| seconds.parse())?;
    let is_checked = rest.get(1).is_some_and(|word| word == "checked");
    let load = Load { record_bytes: record_bytes.parse()?, is_checked };
    println!("{}", measure(&PathBuf::from(file), load, Duration::try_from_secs_f64(seconds)?)?);
    Ok(())
}
