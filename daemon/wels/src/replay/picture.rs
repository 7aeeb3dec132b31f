//! The comparison as a picture: hits by size of the cache.
//!
//! A policy has a colour and a share of pins a dash; the bound is dashed and without colour. Rings are what is chosen. One file
//! for light and dark: the browser's setting decides.

use std::fmt::Write as _;

use experts::Policy;
use experts::replay::{Choice, Outcome, Table};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
/// The plot's edges.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 424.0;
/// Between lines of the legend.
const LEGEND_STEP: f64 = 22.0;

/// Colours by policy, in the order they come; told apart on white and on black, also by most who see few colours.
/// Source: Okabe & Ito 2008, "Color Universal Design".
const COLOURS: [&str; 7] = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#b38f00", "#56b4e9", "#888888"];
/// By share of pins, in the order they come: none, some, more.
const DASHES: [&str; 3] = ["", "1 4", "8 3 1 3"];

const STYLE: &str = "\
svg { background: #fff; color: #1a1a1a; font: 13px system-ui, sans-serif }
text { fill: currentColor }
.title { font-size: 15px; font-weight: 600 }
.grid { stroke: currentColor; stroke-opacity: .15 }
.axis, .bound { stroke: currentColor; fill: none }
.line { fill: none; stroke-width: 2; stroke-linecap: round }
.bound { stroke-width: 2; stroke-dasharray: 7 5 }
.chosen { fill: none; stroke: currentColor; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { svg { background: #16181c; color: #e8e8e8 } }";

/// Decode steps' hits, or prompts' where there are no others.
pub(super) fn draw(table: &Table) -> String {
    let is_decode = table.unbounded.decode.uses > 0;
    let rate = |outcome: &Outcome| {
        let counts = if is_decode { &outcome.decode } else { &outcome.prefill };
        counts.hit_rate().unwrap_or_default()
    };
    let places = |outcomes: &[Outcome]| -> Vec<(f64, f64)> {
        let share = |&records: &usize| records as f64 / table.n_records as f64;
        table.sizes.iter().map(share).zip(outcomes.iter().map(rate)).collect()
    };
    let key = Key::of(table);
    let mut svg = frame(if is_decode { "decode steps" } else { "prompts" });
    svg.push_str(&line("class=\"bound\"", &places(&table.belady)));
    // The first are the simplest: they lie on top.
    for row in table.rows.iter().rev() {
        svg.push_str(&line(&key.stroke(&row.choice), &places(&row.outcomes)));
    }
    for idx in 0..table.sizes.len() {
        let (x, y) = places(&table.choose(idx).outcomes)[idx];
        let _ = writeln!(svg, r#"<circle class="chosen" cx="{:.1}" cy="{:.1}" r="6"/>"#, at_x(x), at_y(y));
    }
    svg.push_str(&key.legend());
    svg.push_str("</svg>\n");
    svg
}

fn at_x(share: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * share
}

fn at_y(rate: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * rate
}

/// Axes, their numbers and their names.
fn frame(steps: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>Hits of {steps} by size of the cache</title>\n<style>{STYLE}</style>\n"
    );
    let _ =
        writeln!(svg, r#"<text class="title" x="{LEFT}" y="28">Experts found in the cache: {steps}</text>"#);
    for percent in (0..=100).step_by(20) {
        let (x, y) = (at_x(f64::from(percent) / 100.0), at_y(f64::from(percent) / 100.0));
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{LEFT} {y:.1}H{RIGHT}M{x:.1} {TOP}V{BOTTOM}"/>
<text x="{:.1}" y="{:.1}" text-anchor="end">{percent} %</text>
<text x="{x:.1}" y="{:.1}" text-anchor="middle">{percent} %</text>
"#,
            LEFT - 8.0,
            y + 4.0,
            BOTTOM + 20.0,
        );
    }
    let _ = write!(
        svg,
        r#"<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>
<text x="{:.1}" y="{:.1}" text-anchor="middle">size of the cache, in percent of the model's records</text>
<text transform="translate(16 {:.1}) rotate(-90)" text-anchor="middle">hits, in percent of the experts wanted</text>
"#,
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 44.0,
        (TOP + BOTTOM) / 2.0,
    );
    svg
}

/// A line through places, each a share of the axes.
fn line(stroke: &str, places: &[(f64, f64)]) -> String {
    let points: Vec<_> = places.iter().map(|&(x, y)| format!("{:.1},{:.1}", at_x(x), at_y(y))).collect();
    if let [(x, y)] = places {
        // One size makes no line.
        return format!("<path {stroke} d=\"M{:.1} {:.1}h12\"/>\n", at_x(*x) - 6.0, at_y(*y));
    }
    format!("<polyline {stroke} points=\"{}\"/>\n", points.join(" "))
}

/// What colours and dashes stand for.
struct Key {
    policies: Vec<Policy>,
    shares: Vec<f64>,
}

impl Key {
    fn of(table: &Table) -> Self {
        let (mut policies, mut shares) = (Vec::new(), Vec::new());
        for Choice { policy, pinned_share } in table.rows.iter().map(|row| row.choice) {
            if !policies.contains(&policy) {
                policies.push(policy);
            }
            if !shares.contains(&pinned_share) {
                shares.push(pinned_share);
            }
        }
        Self { policies, shares }
    }

    fn stroke(&self, choice: &Choice) -> String {
        let policy = self.policies.iter().position(|policy| *policy == choice.policy).unwrap_or_default();
        let share = self.shares.iter().position(|share| *share == choice.pinned_share).unwrap_or_default();
        let (colour, dash) = (COLOURS[policy % COLOURS.len()], DASHES[share % DASHES.len()]);
        format!(r#"class="line" stroke="{colour}" stroke-dasharray="{dash}""#)
    }

    fn legend(&self) -> String {
        let mut svg = String::new();
        let mut y = TOP + 6.0;
        let mut entry = |mark: &str, text: &str| {
            let x = RIGHT + 32.0;
            let _ = write!(
                svg,
                "<path {mark} d=\"M{x} {y}h32\"/>\n<text x=\"{}\" y=\"{}\">{text}</text>\n",
                x + 42.0,
                y + 4.0
            );
            y += LEGEND_STEP;
        };
        entry(r#"class="bound""#, "Belady's bound");
        for &policy in &self.policies {
            entry(&self.stroke(&Choice { policy, pinned_share: self.shares[0] }), &policy.to_string());
        }
        for (share, dash) in self.shares.iter().zip(DASHES) {
            let mark = format!(r#"class="line" stroke="currentColor" stroke-dasharray="{dash}""#);
            entry(&mark, &format!("{} % pinned", share * 100.0));
        }
        let (x, y) = (RIGHT + 48.0, y);
        let _ = writeln!(svg, "<circle class=\"chosen\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">chosen at that size</text>", x + 26.0, y + 4.0);
        svg
    }
}
