//! The numbers, as people and programs read them.

use serde_json::{Map, Value, json};

use super::outcome::{Measured, Outcome, Phase, Streaming};
use crate::bench::table::median;
use crate::{console, size};

/// A table for each outcome, and where asked for a line of JSON with all of them.
pub(super) fn print(outcomes: &[Outcome], with_json: bool) {
    outcomes.iter().for_each(print_one);
    if with_json {
        let outcomes: Vec<Value> = outcomes.iter().map(json_of).collect();
        console::line(&json!({ "streaming": outcomes }).to_string());
    }
}

fn print_one(outcome: &Outcome) {
    let Outcome { model, model_bytes, limit_bytes, decode, .. } = outcome;
    let (bytes, limit) = (size::format(*model_bytes), size::format(*limit_bytes));
    console::line("");
    console::line(&console::bold(format_args!("{model}, {bytes} in {limit}, {decode} tokens")));
    let head = [
        "read-ahead",
        "decode tok/s",
        "ratio",
        "ms/token",
        "MB/token",
        "prefill tok/s",
        "ratio",
        "peak",
        "at limit",
    ];
    console::line(&row("engine", head.map(str::to_owned)));
    (0..outcome.entrants.len()).for_each(|idx| console::line(&entrant(outcome, idx)));
    console::note(
        "ratio: how many times faster wels is; ms/token: the median of an answer's tokens; medians of rounds",
    );
    drive(outcome);
    for (name, phase) in phases() {
        streamed(outcome, name, phase);
    }
}

fn row(name: &str, cells: [String; 9]) -> String {
    let widths = [11, 13, 7, 9, 9, 14, 7, 9, 9];
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:>width$}"));
    format!("{name:<24}{}", cells.collect::<String>())
}

fn entrant(outcome: &Outcome, idx: usize) -> String {
    let entrant = &outcome.entrants[idx];
    let cell = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
    };
    let decode = outcome.median(idx, |run| run.decode_tok_s);
    let (peak, hits) = outcome.usage(idx);
    let cells = [
        entrant.read_ahead_kib.map_or_else(|| "-".into(), |kib| format!("{kib} KiB")),
        if entrant.failed.is_some() { "failed".into() } else { cell(decode, 2) },
        cell(outcome.ratio(idx, |run| run.decode_tok_s), 2),
        cell(outcome.median(idx, token_ms), 0),
        cell(outcome.median(idx, |run| run.token_bytes / 1e6), 0),
        cell(outcome.median(idx, |run| run.prefill_tok_s), 1),
        cell(outcome.ratio(idx, |run| run.prefill_tok_s), 2),
        peak.map_or_else(|| "-".into(), size::format),
        hits.to_string(),
    ];
    row(entrant.name, cells)
}

/// Of the token in the middle; where an engine does not tell, of the mean.
fn token_ms(run: &Measured) -> f64 {
    1e3 * run.token_median_s.unwrap_or(1.0 / run.decode_tok_s)
}

/// The drive's own speed.
fn drive(outcome: &Outcome) {
    let speeds: Vec<f64> =
        outcome.rounds.iter().flat_map(|round| [round.before.bytes_s, round.after.bytes_s]).collect();
    let (lowest, highest) =
        speeds.iter().fold((f64::MAX, 0_f64), |(low, high), s| (low.min(*s), high.max(*s)));
    let loads: Vec<String> = outcome.rounds.iter().map(|round| format!("{:.1}", round.load)).collect();
    console::note(format_args!(
        "the drive alone: {:.2} GB/s ({:.2} to {:.2}) by direct reads of {}; the machine's load {}",
        median(speeds.into_iter()) / 1e9,
        lowest / 1e9,
        highest / 1e9,
        size::format(outcome.record_bytes),
        loads.join(", ")
    ));
}

type PhaseOf = fn(&Streaming) -> Phase;

fn phases() -> [(&'static str, PhaseOf); 2] {
    [("decode", |streaming| streaming.decode), ("prefill", |streaming| streaming.prefill)]
}

/// How near Wels comes to the drive.
fn streamed(outcome: &Outcome, name: &str, phase: PhaseOf) {
    let Some(numbers) = Streamed::of(outcome, phase) else { return };
    console::note(format_args!(
        "wels, {name}: {:.2} GB/s while it reads ({:.0} % of the drive alone), {:.2} GB/s in all ({:.0} %); {:.3} bytes read \
         for one needed, {:.0} % were there, {:.0} % of the time waited",
        numbers.busy_bytes_s / 1e9,
        100.0 * numbers.busy_share,
        numbers.wall_bytes_s / 1e9,
        100.0 * numbers.wall_share,
        numbers.read_for_needed,
        100.0 * numbers.hit_rate,
        100.0 * numbers.stall_share
    ));
}

/// Medians over the rounds.
#[derive(serde::Serialize)]
struct Streamed {
    busy_bytes_s: f64,
    /// Of the drive's own speed.
    busy_share: f64,
    wall_bytes_s: f64,
    wall_share: f64,
    read_for_needed: f64,
    hit_rate: f64,
    stall_share: f64,
}

impl Streamed {
    fn of(outcome: &Outcome, phase: PhaseOf) -> Option<Self> {
        let number = |number: fn(&Phase) -> f64| outcome.streamed(|streaming, _| number(&phase(streaming)));
        let share = |number: fn(&Phase) -> f64| {
            outcome.streamed(|streaming, drive| number(&phase(streaming)) / drive)
        };
        Some(Self {
            busy_bytes_s: number(Phase::busy_bytes_s)?,
            busy_share: share(Phase::busy_bytes_s)?,
            wall_bytes_s: number(Phase::wall_bytes_s)?,
            wall_share: share(Phase::wall_bytes_s)?,
            read_for_needed: number(Phase::read_for_needed)?,
            hit_rate: number(Phase::hit_rate)?,
            stall_share: number(Phase::stall_share)?,
        })
    }
}

fn json_of(outcome: &Outcome) -> Value {
    let engines = outcome.entrants.iter().enumerate().map(|(idx, entrant)| {
        let runs: Vec<_> = outcome.rounds.iter().map(|round| round.runs[idx]).collect();
        json!({
            "engine": entrant.name, "read_ahead_kib": entrant.read_ahead_kib, "failed": entrant.failed,
            "decode_tok_s": outcome.median(idx, |run| run.decode_tok_s),
            "decode_ratio": outcome.ratio(idx, |run| run.decode_tok_s),
            "token_ms": outcome.median(idx, token_ms), "token_bytes": outcome.median(idx, |run| run.token_bytes),
            "prefill_tok_s": outcome.median(idx, |run| run.prefill_tok_s),
            "prefill_ratio": outcome.ratio(idx, |run| run.prefill_tok_s),
            "peak_bytes": outcome.usage(idx).0, "limit_hits": outcome.usage(idx).1, "runs": runs,
        })
    });
    let rounds = outcome
        .rounds
        .iter()
        .map(|round| json!({ "load": round.load, "before": round.before, "after": round.after }));
    let drive = median(outcome.rounds.iter().map(|round| round.drive_bytes_s()));
    let wels: Map<String, Value> = phases()
        .into_iter()
        .map(|(name, phase)| (name.to_owned(), json!(Streamed::of(outcome, phase))))
        .collect();
    json!({
        "model": outcome.model, "model_bytes": outcome.model_bytes, "ram": outcome.limit_bytes,
        "threads": outcome.threads, "decode_tokens": outcome.decode, "record_bytes": outcome.record_bytes,
        "drive_bytes_s": drive, "rounds": rounds.collect::<Vec<_>>(), "engines": engines.collect::<Vec<_>>(),
        "wels": wels,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::engine::Entrant;
    use super::super::outcome::Round;
    use super::super::raw::Speed;
    use super::*;
    use crate::cgroup::Usage;

    fn run(tok_s: f64, streaming: Option<Streaming>) -> Measured {
        let usage = Usage { peak_bytes: Some(90), limit_hits: 3, killed: 0 };
        Measured {
            load_s: 1.0,
            prefill_tok_s: 10.0 * tok_s,
            prefill_bytes: 1000,
            decode_tok_s: tok_s,
            token_median_s: None,
            token_bytes: 100.0,
            drive_bytes: 2000,
            usage,
            streaming,
        }
    }

    fn outcome() -> Outcome {
        let phase = Phase {
            hits: 1,
            misses: 3,
            needed_bytes: 100,
            reads: 3,
            bytes_read: 102,
            busy_s: 0.5,
            stall_s: 0.25,
            wall_s: 1.0,
            tokens: 4,
        };
        let streaming = Streaming { record_bytes: 30, prefill: phase, decode: phase };
        let speed = |bytes_s| Speed { bytes_s, depth: 4 };
        let round = |ours, theirs| Round {
            load: 0.5,
            before: speed(200.0),
            after: speed(208.0),
            runs: vec![Some(run(ours, Some(streaming))), theirs],
        };
        // Two of Wels, as another engine takes a library; the second counts as a peer.
        let entrants = vec![Entrant::wels(Path::new("a")), Entrant::wels(Path::new("b"))];
        Outcome {
            model: "m".into(),
            model_bytes: 200,
            limit_bytes: 100,
            record_bytes: 30,
            decode: 4,
            threads: 2,
            entrants,
            rounds: vec![
                round(4.0, Some(run(2.0, None))),
                round(6.0, Some(run(1.0, None))),
                round(9.0, None),
            ],
        }
    }

    #[test]
    fn ratios_are_of_neighbours_and_only_where_both_ran() {
        let json = json_of(&outcome());
        let engines = json["engines"].as_array().unwrap();
        assert_eq!(engines[0]["decode_ratio"], Value::Null);
        assert_eq!((&engines[1]["decode_ratio"], &engines[1]["decode_tok_s"]), (&json!(4.0), &json!(1.5)));
        assert_eq!(engines[1]["runs"][2], Value::Null);
    }

    #[test]
    fn wels_is_held_against_the_drive_of_its_round() {
        let json = json_of(&outcome());
        assert_eq!(json["drive_bytes_s"], 204.0);
        let decode = &json["wels"]["decode"];
        assert_eq!((&decode["busy_share"], &decode["wall_share"]), (&json!(1.0), &json!(0.5)));
        assert_eq!((&decode["read_for_needed"], &decode["hit_rate"]), (&json!(1.02), &json!(0.25)));
    }

    #[test]
    fn without_wels_there_is_nothing_of_it() {
        let mut outcome = outcome();
        outcome.entrants.clear();
        outcome.rounds.iter_mut().for_each(|round| round.runs.clear());
        assert_eq!(json_of(&outcome)["wels"], json!({ "decode": null, "prefill": null }));
    }
}
