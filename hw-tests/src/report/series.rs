//! The load over time: lines, and the first minutes beside the last.

use std::fmt::Write as _;

use serde_json::Value;

use super::chart::{self, Line};
use super::document::table;
use super::html::{digits, or_unknown, text, time};

const GIGA: f64 = 1e9;
const TERA: f64 = 1e12;
/// Samples that are taken of a report.
const SAMPLES_MAX: usize = 2000;
/// The first part and the last are compared: ten minutes, or less where it is short.
const PART_S: f64 = 600.0;

/// Minutes and value, where there is one.
type Points = Vec<(f64, Option<f64>)>;

/// The load over time, in minutes.
#[derive(Default)]
pub(super) struct Series {
    /// Escaped.
    pub(super) model: Option<String>,
    seconds: Vec<f64>,
    rate: Points,
    pub(super) processor: Points,
    drive: Points,
    card: Points,
    clock: Points,
    card_clock: Points,
    throttled: Points,
}

impl Series {
    pub(super) fn of(load: &Value) -> Self {
        let samples = load["samples"].as_array().map_or(&[][..], Vec::as_slice);
        let samples: Vec<&Value> =
            samples.iter().take(SAMPLES_MAX).filter(|sample| sample["at_s"].is_f64()).collect();
        let points = |key: &str, scale: f64| -> Points {
            let point = |sample: &&Value| {
                let value = sample[key].as_f64().map(|value| value / scale);
                (sample["at_s"].as_f64().unwrap_or(0.0) / 60.0, value)
            };
            samples.iter().map(point).collect()
        };
        let model = text(&load["model"]);
        let rate = points("rate", if model.is_some() { 1.0 } else { TERA });
        Self {
            model,
            seconds: samples.iter().map(|sample| sample["seconds"].as_f64().unwrap_or(0.0)).collect(),
            rate,
            processor: points("processor_c", 1.0),
            drive: points("drive_c", 1.0),
            card: points("card_c", 1.0),
            clock: points("clock_hz", GIGA),
            card_clock: points("card_clock_hz", GIGA),
            throttled: points("throttled", 1.0),
        }
    }

    fn unit(&self) -> &'static str {
        if self.model.is_some() { "tokens a second" } else { "Top/s" }
    }

    /// Seconds that are compared, and the mean rates of the first and the last.
    pub(super) fn ends(&self) -> Option<(f64, f64, f64)> {
        let part = self.part()?;
        Some((part, self.mean(&self.rate, Part::First)?, self.mean(&self.rate, Part::Last)?))
    }

    fn part(&self) -> Option<f64> {
        self.rate.last().map(|(end, _)| PART_S.min(end * 60.0 / 2.0))
    }

    /// By time: samples may differ in length. The middle of one decides where it belongs.
    fn mean(&self, points: &Points, which: Part) -> Option<f64> {
        let (end, part) = (self.rate.last()?.0 * 60.0, self.part()?);
        let (mut sum, mut weight) = (0.0, 0.0);
        for ((minutes, value), seconds) in points.iter().zip(&self.seconds) {
            let middle = minutes * 60.0 - seconds / 2.0;
            let is_in = if which == Part::First { middle <= part } else { middle >= end - part };
            if let (true, Some(value)) = (is_in, value) {
                sum += value * seconds;
                weight += seconds;
            }
        }
        (weight > 0.0).then(|| sum / weight)
    }

    pub(super) fn hottest(&self, points: &Points) -> Option<f64> {
        points.iter().filter_map(|(_, value)| *value).reduce(f64::max)
    }

    pub(super) fn section(&self) -> String {
        let Some(part) = self.part() else { return String::new() };
        let line = |name, points: &Points| Line { name, points: points.clone() };
        let what = self.model.as_ref().map_or_else(
            || "All cores multiplied whole numbers.".to_owned(),
            |model| format!("One answer after the other, with {model}."),
        );
        let minutes = self.rate.last().map_or(0.0, |(end, _)| *end);
        let mut out = format!("<h2>Over {}</h2>\n<p>{what}</p>\n", time(minutes * 60.0));
        let heat = [line("processor", &self.processor), line("drive", &self.drive), line("card", &self.card)];
        let clocks = [line("processor", &self.clock), line("card", &self.card_clock)];
        let charts = [
            ("Speed", chart::draw("Speed over time", self.unit(), &[line("speed", &self.rate)], true)),
            ("Temperature", chart::draw("Temperature over time", "°C", &heat, false)),
            ("Clock", chart::draw("Clocks over time", "GHz", &clocks, true)),
        ];
        for (name, svg) in charts {
            let svg = svg
                .unwrap_or_else(|| "<p class=\"soft\">Unknown: the system tells of no sensor.</p>\n".into());
            let _ = write!(out, "<h3>{name}</h3>\n{svg}");
        }
        let _ = writeln!(out, "<h3>The first {0} and the last</h3>", time(part));
        out.push_str(&self.comparison());
        out
    }

    fn comparison(&self) -> String {
        let rows = [
            ("Speed", &self.rate, self.unit()),
            ("Processor", &self.processor, "°C"),
            ("Drive", &self.drive, "°C"),
            ("Card", &self.card, "°C"),
            ("Processor's clock", &self.clock, "GHz"),
            ("Card's clock", &self.card_clock, "GHz"),
        ];
        let rows = rows.into_iter().map(|(name, points, unit)| {
            let (first, last) = (self.mean(points, Part::First), self.mean(points, Part::Last));
            let words =
                |value: Option<f64>| or_unknown(value.map(|value| format!("{} {unit}", digits(value))));
            let change = first.zip(last).filter(|(first, _)| *first > 0.0 && unit != "°C");
            let change = change
                .map_or(String::new(), |(first, last)| format!("{:+.1} %", 100.0 * (last / first - 1.0)));
            vec![name.to_owned(), words(first), words(last), change]
        });
        let mut rows: Vec<_> = rows.collect();
        let throttled = self.throttled.iter().rev().find_map(|(_, count)| *count);
        let throttled = or_unknown(throttled.map(|count| format!("{count:.0} times")));
        rows.push(vec!["Slowed down by itself against heat".into(), String::new(), throttled, String::new()]);
        table(&["", "first", "last", "change"], &rows, 1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Last,
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn first_and_last_ten_minutes_are_compared() {
        let report = example();
        let series = Series::of(&report["load"]);
        let (part, first, last) = series.ends().unwrap();
        assert!(
            part == 600.0 && (14.1..14.3).contains(&first) && (12.8..13.0).contains(&last),
            "{first} {last}"
        );
        assert!(super::super::document::page(&report).contains("kept 91 %"));
    }
}
