//! What encoding costs by the length and kind of a text: the numbers behind `MAX_ENCODE_BYTES`.
//!
//! `cargo run --release -p text --example encode_cost -- tokenizer.json [bytes]`
#![allow(clippy::print_stdout, reason = "a report for a person")]

use std::time::Instant;

use text::{Special, Tokenizer};

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kb.unwrap_or(f64::NAN) / 1024.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("the path of a tokenizer.json")?;
    let bytes: usize = args.next().map_or(Ok(text::MAX_ENCODE_BYTES), |n| n.parse())?;
    let started = Instant::now();
    let tokenizer = Tokenizer::from_json(&std::fs::read(path)?, None)?;
    println!("load {:.2} s, peak {:.0} MB", started.elapsed().as_secs_f64(), peak_mb());
    let kinds = [
        ("prose", "The quick brown fox jumps over the lazy dog, again and again. "),
        ("chinese", "北京是中国的首都，上海是最大的城市。"),
        ("code", "    if (a[i] != b[j]) { return -1; }\n"),
        ("one letter", "a"),
        ("one space", " "),
        ("one newline", "\n"),
        ("digits", "31415926535"),
        ("punctuation", "=-"),
        ("space then letter", "     \u{a0}x"),
        ("markers", "<think></think>"),
        ("half markers", "<｜"),
    ];
    for (name, unit) in kinds {
        for share in [4, 2, 1] {
            let text = unit.repeat(bytes / share / unit.len());
            let started = Instant::now();
            let ids = tokenizer.encode(&text, Special::Recognise)?;
            let s = started.elapsed().as_secs_f64();
            println!(
                "{name:>18} {:>9} bytes {:>8} tokens {s:>7.2} s, peak {:.0} MB",
                text.len(),
                ids.len(),
                peak_mb()
            );
        }
    }
    Ok(())
}
