//! Ratios, as people and programs read them.

use serde_json::{Map, Value, json};

use super::contest::{Outcome, Rival, Speed, works};
use crate::console;

/// The middle one, or the mean of the two in the middle; NaN of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => f64::midpoint(values[(n - 1) / 2], values[n / 2]),
    }
}

/// One kind of work on one model.
struct Row {
    work: String,
    ours: f64,
    /// Speed of each peer, and the median of the ratios of neighbouring runs, ours to its; none of one that failed.
    theirs: Vec<Option<(f64, f64)>>,
}

impl Row {
    fn of(outcome: &Outcome, idx: usize, work: String) -> Self {
        let rate = |speed: &Speed| speed.rates()[idx];
        let rival = |rival: &Rival| {
            let ratios =
                outcome.ours.iter().zip(&rival.speeds).map(|(ours, theirs)| rate(ours) / rate(theirs));
            let is_there = rival.failed.is_none() && !rival.speeds.is_empty();
            is_there.then(|| (median(rival.speeds.iter().map(rate)), median(ratios)))
        };
        let theirs = outcome.theirs.iter().map(rival).collect();
        Self { work, ours: median(outcome.ours.iter().map(rate)), theirs }
    }

    /// The peer against whom we look worst, and the ratio.
    fn best(&self) -> Option<(usize, f64)> {
        let ratios =
            self.theirs.iter().enumerate().filter_map(|(i, theirs)| theirs.map(|(_, ratio)| (i, ratio)));
        ratios.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// A table for each model, and where asked for a line of JSON with all of them.
pub(super) fn print(outcomes: &[Outcome], with_json: bool) {
    outcomes.iter().for_each(print_one);
    if with_json {
        let models: Vec<Value> = outcomes.iter().map(json_of).collect();
        console::line(&json!({ "models": models }).to_string());
    }
}

fn rows(outcome: &Outcome) -> Vec<Row> {
    works().into_iter().enumerate().map(|(idx, work)| Row::of(outcome, idx, work)).collect()
}

fn print_one(outcome: &Outcome) {
    console::line("");
    let names: String = outcome.theirs.iter().map(|rival| format!(" {:>21}", rival.name)).collect();
    let head = format!("{:<20} {:>8}{names} {:>8}  to the best of them", outcome.model, "wels", "ratio");
    console::line(&console::bold(head));
    for row in rows(outcome) {
        let cell = |theirs: &Option<(f64, f64)>| match theirs {
            Some((rate, ratio)) => format!(" {:>21}", format!("{rate:.1} ({ratio:.2})")),
            None => format!(" {:>21}", "failed"),
        };
        let cells: String = row.theirs.iter().map(cell).collect();
        let best = row
            .best()
            .map_or_else(String::new, |(idx, ratio)| format!(" {ratio:>8.2}  {}", outcome.theirs[idx].name));
        console::line(&format!("{:<20} {:>8.1}{cells}{best}", row.work, row.ours));
    }
    outcome.theirs.iter().for_each(note);
}

/// What else there is to know of a peer.
fn note(rival: &Rival) {
    let Rival { name, likeness, failed, .. } = rival;
    if let Some(reason) = failed {
        console::note(format_args!("{name} {reason}"));
    }
    if let Some(like) = likeness {
        let token = if like.same_token { "same likeliest token" } else { "another likeliest token" };
        console::note(format_args!(
            "{name}: logits behind the prompt: cosine {:.6}, {:.3} apart at most, {token}",
            like.cosine, like.max_difference
        ));
    }
}

fn json_of(outcome: &Outcome) -> Value {
    let name = |idx: usize| outcome.theirs[idx].name.clone();
    let works = rows(outcome).into_iter().map(|row| {
        let peers = row.theirs.iter().enumerate().map(|(idx, theirs)| {
            let numbers = theirs.map(|(rate, ratio)| json!({ "tok_s": rate, "ratio": ratio }));
            (name(idx), numbers.unwrap_or(Value::Null))
        });
        let best = row.best();
        json!({
            "work": row.work, "wels_tok_s": row.ours, "peers": peers.collect::<Map<_, _>>(),
            "best": best.map(|(idx, _)| name(idx)), "ratio": best.map(|(_, ratio)| ratio),
        })
    });
    let peers = outcome.theirs.iter().map(|rival| {
        let logits = rival.likeness.map(|like| {
            json!({ "cosine": like.cosine, "max_difference": like.max_difference, "same_token": like.same_token })
        });
        (rival.name.clone(), json!({ "failed": rival.failed, "logits": logits }))
    });
    let peers: Map<String, Value> = peers.collect();
    json!({
        "model": outcome.model, "pairs": outcome.ours.len(), "works": works.collect::<Vec<_>>(), "peers": peers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(prefill: f64, one: f64, eight: f64) -> Speed {
        let decode = json!([{ "sequences": 1, "tok_s": one }, { "sequences": 8, "tok_s": eight }]);
        serde_json::from_value(json!({ "prefill_tok_s": prefill, "decode": decode })).unwrap()
    }

    fn rival(name: &str, speeds: Vec<Speed>, failed: Option<String>) -> Rival {
        Rival { name: name.into(), speeds, likeness: None, failed }
    }

    #[test]
    fn the_median_ignores_what_stands_out() {
        assert_eq!(median([1.0, 900.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([900.0, 1.0, 2.0, 4.0].into_iter()), 3.0);
    }

    #[test]
    fn each_work_is_compared_with_the_best_at_it() {
        let outcome = Outcome {
            model: "m".into(),
            ours: vec![speed(100.0, 10.0, 40.0), speed(50.0, 5.0, 20.0)],
            theirs: vec![
                rival("a", vec![speed(200.0, 5.0, 40.0), speed(100.0, 2.5, 20.0)], None),
                rival("b", vec![speed(50.0, 20.0, 80.0), speed(25.0, 10.0, 40.0)], None),
                rival("c", vec![speed(900.0, 900.0, 900.0)], Some("crashed".into())),
            ],
        };
        let best: Vec<_> = rows(&outcome).iter().map(|row| row.best().unwrap()).collect();
        assert_eq!(best, [(0, 0.5), (1, 0.5), (1, 0.5)]);
        let json = json_of(&outcome);
        assert_eq!((&json["works"][0]["best"], &json["works"][0]["ratio"]), (&json!("a"), &json!(0.5)));
        assert_eq!(json["works"][0]["peers"]["c"], Value::Null);
        assert_eq!(json["peers"]["c"]["failed"], "crashed");
    }
}
