//! The comparison in words and in JSON.

use std::fmt::Write as _;

use experts::replay::{Choice, Counts, DECODE_TOKENS_MAX, Outcome, Row, Table};
use experts::trace::Trace;
use serde_json::{Value, json};

use crate::size;

/// What was compared, and what came out.
pub(super) struct Report<'a> {
    pub(super) trace: &'a Trace,
    pub(super) table: &'a Table,
}

/// Which steps a table is about.
type Steps = fn(&Outcome) -> &Counts;

/// As the daemon reads it.
pub(super) fn choice(choice: &Choice) -> Value {
    json!({ "policy": choice.policy.to_string(), "pinned_share": choice.pinned_share })
}

impl Report<'_> {
    pub(super) fn words(&self) -> String {
        let mut out = self.head();
        let kinds: [(&str, Steps); 2] = [("decode steps", |o| &o.decode), ("prompts", |o| &o.prefill)];
        for (name, steps) in kinds.into_iter().filter(|(_, steps)| steps(&self.table.unbounded).uses > 0) {
            let _ = write!(out, "\n\nHits of {name}, in percent of the experts wanted; * is chosen\n");
            out.push_str(&self.grid(steps));
        }
        out.push('\n');
        for (idx, &records) in self.table.sizes.iter().enumerate() {
            let _ = write!(out, "\n{records} records: {}", self.verdict(idx));
        }
        out
    }

    fn head(&self) -> String {
        let (trace, header) = (self.trace, self.trace.header());
        let name = [header.model.as_str(), header.fingerprint.as_str()].join(" ");
        let mut out = format!(
            "{}\n{} layers of {} experts, {} a token: {} records\n",
            name.trim(),
            header.layers.len(),
            header.n_experts,
            header.top_k,
            self.table.n_records,
        );
        if let Some(at) = trace.cut_at() {
            let _ = writeln!(out, "The file is cut at byte {at}: what came after it is lost.");
        }
        let Outcome { decode, prefill } = self.table.unbounded;
        let _ = write!(
            out,
            "{} steps: the first half fills the caches and is the profile for the pins, the second counts:\n\
             {} decode steps of up to {DECODE_TOKENS_MAX} tokens ({} tokens), {} of prompts ({} tokens)",
            trace.n_steps(),
            decode.steps,
            decode.tokens,
            prefill.steps,
            prefill.tokens,
        );
        out
    }

    /// Rows of policies, columns of sizes.
    fn grid(&self, steps: Steps) -> String {
        let Table { sizes, rows, belady, unbounded, n_records } = self.table;
        let mut lines = vec![
            ("records".to_owned(), sizes.iter().map(|n| format!("{n} ")).collect()),
            ("of all".to_owned(), sizes.iter().map(|&n| share(n, *n_records)).collect()),
        ];
        let rate = |outcome: &Outcome| steps(outcome).hit_rate().unwrap_or_default() * 100.0;
        let cells = |outcomes: &[Outcome]| -> Vec<String> {
            outcomes.iter().map(|outcome| format!("{:.1} ", rate(outcome))).collect()
        };
        for row in rows {
            let mut cells = cells(&row.outcomes);
            for (idx, cell) in cells.iter_mut().enumerate() {
                if self.table.choose(idx).choice == row.choice {
                    cell.pop();
                    cell.push('*');
                }
            }
            lines.push((row.choice.to_string(), cells));
        }
        lines.push(("Belady's bound".to_owned(), cells(belady)));
        lines.push(("without limit".to_owned(), cells(&vec![*unbounded; sizes.len()])));
        align(&lines)
    }

    /// What is chosen at a size, and how far it is from the best and from the bound.
    fn verdict(&self, size: usize) -> String {
        let (chosen, best) = (self.table.choose(size), self.table.best(size));
        let steps: Steps = if self.table.unbounded.decode.uses > 0 { |o| &o.decode } else { |o| &o.prefill };
        let counts = |row: &Row| *steps(&row.outcomes[size]);
        let (got, bound) = (counts(chosen), *steps(&self.table.belady[size]));
        let mut out = format!("{}, {:.1} records", chosen.choice, got.misses_per_token());
        if got.bytes > 0 {
            let _ = write!(out, " ({})", size::format(got.bytes_per_token() as u64));
        }
        out.push_str(" read a token; ");
        let below = |other: &Counts| {
            (other.hit_rate().unwrap_or_default() - got.hit_rate().unwrap_or_default()) * 100.0
        };
        if chosen.choice == best.choice {
            out.push_str("the best of all");
        } else {
            let _ = write!(out, "{:.1} points below the best, {}", below(&counts(best)), best.choice);
        }
        let _ = write!(out, "; {:.1} below Belady's bound", below(&bound));
        out
    }

    pub(super) fn json(&self) -> Value {
        let Table { sizes, n_records, rows, belady, unbounded } = self.table;
        let header = self.trace.header();
        let outcomes = |list: &[Outcome]| list.iter().map(outcome).collect::<Vec<_>>();
        let chosen = |idx| choice(&self.table.choose(idx).choice);
        let best = |idx| choice(&self.table.best(idx).choice);
        json!({
            "model": header.model,
            "fingerprint": header.fingerprint,
            "layers": header.layers.len(),
            "n_experts": header.n_experts,
            "top_k": header.top_k,
            "steps": self.trace.n_steps(),
            "cut_at": self.trace.cut_at(),
            "n_records": n_records,
            "records": sizes,
            "chosen": (0..sizes.len()).map(chosen).collect::<Vec<_>>(),
            "best": (0..sizes.len()).map(best).collect::<Vec<_>>(),
            "rows": rows.iter().map(|row| json!({
                "policy": row.choice.policy.to_string(),
                "pinned_share": row.choice.pinned_share,
                "outcomes": outcomes(&row.outcomes),
            })).collect::<Vec<_>>(),
            "belady": outcomes(belady),
            "unbounded": outcome(unbounded),
        })
    }
}

fn outcome(outcome: &Outcome) -> Value {
    json!({ "decode": counts(&outcome.decode), "prefill": counts(&outcome.prefill) })
}

fn counts(counts: &Counts) -> Value {
    let are_sizes_known = counts.bytes > 0 || counts.misses == 0;
    json!({
        "steps": counts.steps,
        "tokens": counts.tokens,
        "uses": counts.uses,
        "misses": counts.misses,
        "hit_rate": counts.hit_rate(),
        "misses_per_token": counts.misses_per_token(),
        "bytes_per_token": are_sizes_known.then(|| counts.bytes_per_token()),
    })
}

/// `5 %`, `0.8 %`.
fn share(n: usize, of: usize) -> String {
    let percent = n as f64 / of as f64 * 100.0;
    if percent < 1.0 { format!("{percent:.2} %") } else { format!("{percent:.0} %") }
}

/// Names to the left, cells to the right.
fn align(lines: &[(String, Vec<String>)]) -> String {
    let name = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let cell = lines.iter().flat_map(|(_, cells)| cells).map(String::len).max().unwrap_or(0);
    let line = |(title, cells): &(String, Vec<String>)| {
        let cells: String = cells.iter().map(|text| format!("  {text:>cell$}")).collect();
        format!("{title:name$}{}", cells.trim_end())
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
