//! Lines over time, as SVG inside the page. A line breaks where a sensor says nothing.

use std::fmt::Write as _;

use super::html::{digits, escape};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
/// The plot's edges.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 830.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 210.0;
/// Lines across, at least.
const TICKS: f64 = 4.0;
/// Of the highest value, the room above it.
const HEADROOM: f64 = 1.05;
/// Between the legend's entries.
const LEGEND_STEP: f64 = 190.0;

/// One thing over time.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// Minutes and value.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

impl Line {
    /// Whether anything was seen at all.
    pub(super) fn is_known(&self) -> bool {
        self.points.iter().any(|(_, value)| value.is_some())
    }
}

/// Where values lie.
struct Axes {
    minutes: f64,
    low: f64,
    high: f64,
}

/// Draws the known ones of `lines` above an axis of minutes; `None` where nothing is known.
pub(super) fn draw(title: &str, unit: &str, lines: &[Line], from_zero: bool) -> Option<String> {
    let known: Vec<&Line> = lines.iter().filter(|line| line.is_known()).collect();
    let values = || known.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let (min, max) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
    let step = step(if from_zero { max * HEADROOM } else { (max - min).max(4.0) });
    let low = if from_zero { 0.0 } else { (min / step).floor() * step };
    let high = ((max * if from_zero { HEADROOM } else { 1.0 }) / step).ceil() * step;
    let ends = known.iter().flat_map(|line| &line.points).map(|(minutes, _)| *minutes);
    let minutes = ends.reduce(f64::max)?.max(1.0 / 60.0);
    let axes = Axes { minutes, low, high: if high > low { high } else { low + step } };
    let (title, unit) = (escape(title), escape(unit));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n<text x=\"{LEFT}\" y=\"12\">{unit}</text>\n"
    );
    axes.frame(&mut svg, step);
    for (i, line) in known.iter().enumerate() {
        for part in line.points.split(|(_, value)| value.is_none()).filter(|part| !part.is_empty()) {
            let _ = writeln!(svg, "<polyline class=\"line l{i}\" points=\"{}\"/>", axes.points(part));
        }
        let (x, y) = (LEFT + LEGEND_STEP * i as f64, HEIGHT - 8.0);
        let _ = writeln!(
            svg,
            "<path class=\"line l{i}\" d=\"M{x} {}h22\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 4.0,
            x + 28.0,
            escape(line.name)
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

impl Axes {
    fn at_x(&self, minutes: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * minutes / self.minutes
    }

    fn at_y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low)
    }

    /// A single point is a short stroke.
    fn points(&self, part: &[(f64, Option<f64>)]) -> String {
        let place = |(minutes, value): &(f64, Option<f64>)| {
            (self.at_x(*minutes), self.at_y(value.unwrap_or(self.low)))
        };
        let mut places: Vec<(f64, f64)> = part.iter().map(place).collect();
        if let [(x, y)] = places[..] {
            places.push((x - 2.0, y));
        }
        places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
    }

    fn frame(&self, svg: &mut String, value_step: f64) {
        let n_values = ((self.high - self.low) / value_step).round() as u32;
        for i in 0..=n_values {
            let value = self.low + value_step * f64::from(i);
            let y = self.at_y(value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                short(value)
            );
        }
        let minute_step = step(self.minutes);
        for i in 0..=(self.minutes / minute_step + 1e-9) as u32 {
            let minutes = minute_step * f64::from(i);
            let _ = writeln!(
                svg,
                "<text class=\"middle\" x=\"{:.1}\" y=\"{}\">{} min</text>",
                self.at_x(minutes),
                BOTTOM + 18.0,
                short(minutes)
            );
        }
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>");
    }
}

/// A round number that is a fourth of `range`, or somewhat less.
fn step(range: f64) -> f64 {
    let rough = (range / TICKS).max(1e-6);
    let ten = 10_f64.powf(rough.log10().floor());
    let steps = [5.0, 2.0, 1.0].into_iter().map(|n| n * ten);
    steps.into_iter().find(|step| *step <= rough * 1.000_001).unwrap_or(ten)
}

/// A tick's number, without zeroes that say nothing.
fn short(value: f64) -> String {
    if (value - value.round()).abs() < 1e-6 { format!("{value:.0}") } else { digits(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &'static str, values: &[Option<f64>]) -> Line {
        Line { name, points: values.iter().enumerate().map(|(i, value)| (i as f64, *value)).collect() }
    }

    #[test]
    fn nothing_known_draws_nothing() {
        assert_eq!(draw("t", "u", &[line("a", &[None, None]), line("b", &[])], true), None);
    }

    #[test]
    fn a_line_breaks_where_the_sensor_was_silent() {
        let svg = draw(
            "t",
            "°C",
            &[line("a", &[Some(50.0), Some(60.0), None, Some(70.0)]), line("b", &[None])],
            false,
        )
        .unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains(">b<"), "{svg}");
    }

    #[test]
    fn flat_and_short_series_have_axes_all_the_same() {
        for values in [&[Some(0.0)][..], &[Some(7.0), Some(7.0)], &[Some(3e-9)], &[Some(4e9)]] {
            for from_zero in [false, true] {
                let svg = draw("t", "u", &[line("a", values)], from_zero).unwrap();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{values:?}: {svg}");
                assert!(svg.len() < 8000, "{values:?}: too many ticks");
            }
        }
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([60.0, 14.2, 44.0, 1.0].map(step), [10.0, 2.0, 10.0, 0.2]);
    }
}
