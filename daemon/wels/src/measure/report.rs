//! What was measured, as JSON and in words. Numbers are in base units, named last; `null` is unknown.

use std::fmt::Write as _;

use serde::Serialize;

use super::drive::Reads;
use super::fit::Fit;
use super::series::{EVERY, Sample};
use crate::size;

/// Of a series, its first part and its last are compared: ten minutes, or less where it is short.
const PART_S: f64 = 600.0;

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(super) version: &'static str,
    /// When it was begun, milliseconds since 1970.
    pub(super) made_ms: i64,
    pub(super) minutes_wanted: u32,
    /// It was not stopped.
    pub(super) complete: bool,
    pub(super) processor: Option<Processor>,
    pub(super) memory: Option<Memory>,
    pub(super) drive: Option<Drive>,
    pub(super) card: Option<Card>,
    pub(super) load: Option<Load>,
    pub(super) models: Vec<Fit>,
    /// What could not be measured, and why; what else to know.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Processor {
    pub(super) name: String,
    /// Of the whole machine; `None` where the system doesn't say.
    pub(super) cores: Option<usize>,
    /// That computed.
    pub(super) threads: usize,
    /// The instructions that the kernels use.
    pub(super) level: String,
    pub(super) features: Vec<String>,
    pub(super) clock_hz_max: Option<f64>,
    /// Operations on 8-bit integers, two for a multiply-add.
    pub(super) int8_ops_s: f64,
    pub(super) int8_ops_s_after: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Memory {
    pub(super) bytes: u64,
    pub(super) read_bytes_s: f64,
    pub(super) read_bytes_s_after: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Drive {
    #[serde(flatten)]
    pub(super) found: super::drive::Drive,
    pub(super) reads: Option<Reads>,
    pub(super) bytes_s_after: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) memory_bytes: Option<u64>,
    pub(super) speeds: Option<CardSpeeds>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CardSpeeds {
    /// Of its own memory, with a token's weights.
    pub(super) read_bytes_s: f64,
    /// Two for a multiply-add, with a prompt's.
    pub(super) ops_s: f64,
    pub(super) link_bytes_s: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Load {
    /// The model that answered; `None` where whole numbers were multiplied.
    pub(super) model: Option<String>,
    /// Of the samples' rates: `tok/s` or `op/s`.
    pub(super) unit: &'static str,
    pub(super) every_s: u64,
    pub(super) samples: Vec<Sample>,
}

impl Load {
    pub(super) fn new(model: Option<String>, samples: Vec<Sample>) -> Self {
        let unit = if model.is_some() { "tok/s" } else { "op/s" };
        Self { model, unit, every_s: EVERY.as_secs(), samples }
    }

    /// Mean rates of its first part and its last; `None` of no samples.
    fn ends(&self) -> Option<(f64, f64, f64)> {
        let end = self.samples.last()?.at_s;
        let part = PART_S.min(end / 2.0);
        let rate = |is_in: &dyn Fn(&Sample) -> bool| {
            let samples = self.samples.iter().filter(|sample| is_in(sample));
            let (work, seconds) = samples.fold((0.0, 0.0), |(work, seconds), sample| {
                (work + sample.rate * sample.seconds, seconds + sample.seconds)
            });
            if seconds > 0.0 { work / seconds } else { 0.0 }
        };
        // The middle of a sample decides; a single one is in both.
        let middle = |sample: &Sample| sample.at_s - sample.seconds / 2.0;
        let first = rate(&|sample| middle(sample) <= part);
        Some((part, first, rate(&|sample| middle(sample) >= end - part)))
    }
}

impl Report {
    /// For people.
    pub(super) fn words(&self) -> String {
        let mut out = String::new();
        if let Some(processor) = &self.processor {
            let Processor { name, threads, level, int8_ops_s, .. } = processor;
            let gops = int8_ops_s / 1e9;
            let _ = writeln!(out, "processor  {name}; {threads} threads, {level}, {gops:.0} Gop/s");
        }
        if let Some(Memory { bytes, read_bytes_s, .. }) = &self.memory {
            let _ =
                writeln!(out, "memory     {}, read at {:.1} GB/s", size::format(*bytes), read_bytes_s / 1e9);
        }
        if let Some(drive) = &self.drive {
            let name = drive.found.model.as_deref().or(drive.found.device.as_deref()).unwrap_or("unknown");
            let reads = drive.reads.as_ref();
            let rate = reads
                .map_or("speed unknown".into(), |reads| format!("read at {:.2} GB/s", reads.bytes_s / 1e9));
            let _ = writeln!(out, "drive      {name}, {rate}");
        }
        match &self.card {
            Some(Card { name, speeds: Some(speeds), .. }) => {
                let _ = writeln!(out, "card       {name}, reads at {:.1} GB/s", speeds.read_bytes_s / 1e9);
            }
            Some(Card { name, .. }) => _ = writeln!(out, "card       {name}, speed unknown"),
            None => out.push_str("card       none that computes faster than the processor\n"),
        }
        if let Some(load) = &self.load {
            out.push_str(&load.words());
        }
        self.notes.iter().for_each(|note| _ = writeln!(out, "note       {note}"));
        let fits = self.models.iter().filter(|fit| fit.plan.is_some()).count();
        let _ = write!(
            out,
            "models     {fits} of the catalogue's {} fit; `wels plan` says how",
            self.models.len()
        );
        out
    }
}

impl Load {
    fn words(&self) -> String {
        let what = self
            .model
            .as_deref()
            .map_or("whole numbers multiplied".into(), |model| format!("answers of {model}"));
        let mut out = format!("load       {what}");
        if let Some((part, first, last)) = self.ends() {
            let (unit, scale) = if self.unit == "tok/s" { ("tok/s", 1.0) } else { ("Gop/s", 1e9) };
            let _ = write!(
                out,
                "; first {part:.0} s {:.1} {unit}, last {:.1} {unit} ({:+.0} %)",
                first / scale,
                last / scale,
                100.0 * (last / first.max(f64::MIN_POSITIVE) - 1.0)
            );
        }
        let hottest = |of: fn(&Sample) -> Option<f64>| self.samples.iter().filter_map(of).reduce(f64::max);
        let degrees = |c: Option<f64>| c.map_or("unknown".into(), |c| format!("{c:.0} °C"));
        let _ = writeln!(
            out,
            "\nhottest    processor {}, drive {}, card {}",
            degrees(hottest(|sample| sample.reading.processor_c)),
            degrees(hottest(|sample| sample.reading.drive_c)),
            degrees(hottest(|sample| sample.reading.card_c))
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::sensors::Reading;
    use super::*;

    fn sample(at_s: f64, seconds: f64, rate: f64) -> Sample {
        Sample { at_s, seconds, rate, reading: Reading::default() }
    }

    #[test]
    fn the_ends_of_a_series_are_compared() {
        let of = |samples| Load::new(Some("M".into()), samples).ends();
        assert_eq!(of(Vec::new()), None);
        assert_eq!(of(vec![sample(5.0, 5.0, 3.0)]), Some((2.5, 3.0, 3.0)));
        let long = (1..=300).map(|i| sample(10.0 * f64::from(i), 10.0, if i <= 60 { 20.0 } else { 15.0 }));
        assert_eq!(of(long.collect()), Some((600.0, 20.0, 15.0)));
    }

    #[test]
    fn unknown_sensors_are_null_in_json_and_unknown_in_words() {
        let load = Load::new(None, vec![sample(10.0, 10.0, 2e9)]);
        let json = serde_json::to_value(&load).unwrap();
        assert_eq!(json["unit"], "op/s");
        assert!(json["samples"][0]["processor_c"].is_null() && json["samples"][0]["rate"] == 2e9);
        assert!(
            load.words().contains("2.0 Gop/s") && load.words().contains("drive unknown"),
            "{}",
            load.words()
        );
    }
}
