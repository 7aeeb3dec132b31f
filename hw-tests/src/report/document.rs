//! The page: what is in the box, what was measured, how it kept up, what it would serve, and what none of this says.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::{date, digits, escape, number, or_unknown, text, time};
use super::series::Series;

const GB: f64 = 1e9;
const TERA: f64 = 1e12;
const GIB: f64 = (1_u64 << 30) as f64;
/// Rows of a table at most: the box's own limits are below.
const ROWS_MAX: usize = 200;

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --soft: #667; --rule: #d8dadf; --l0: #0072b2; --l1: #d55e00; --l2: #009e73 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --soft: #9aa; --rule: #363a42; --l0: #56b4e9; --l1: #e8884a; --l2: #3cc79b } }
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; margin-bottom: 0 } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem } h3 { font-size: 1rem; margin: 1.2rem 0 .2rem }
.soft { color: var(--soft) } .sum { font-size: 1.1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--rule); vertical-align: top }
thead th { color: var(--soft); font-weight: 500 } tbody th { font-weight: 500; min-width: 9rem } .num { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif } svg text { fill: var(--ink) } .end { text-anchor: end } .middle { text-anchor: middle }
.grid { stroke: var(--rule) } .axis { stroke: var(--soft); fill: none } .line { fill: none; stroke-width: 2; stroke-linejoin: round }
.l0 { stroke: var(--l0) } .l1 { stroke: var(--l1) } .l2 { stroke: var(--l2) }
@media print { body { margin: 0; max-width: none } h2 { break-after: avoid } svg, tr { break-inside: avoid } }";

/// The whole page, of what a box found.
pub(super) fn page(report: &Value) -> String {
    let made = date(report["made_ms"].as_u64().unwrap_or(0));
    let version = or_unknown(text(&report["version"]));
    let series = Series::of(&report["load"]);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <title>A Wels box, measured on {made}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n\
         <h1>A Wels box, measured</h1>\n<p class=\"soft\">{made}, Wels {version}. The box measured itself.</p>\n"
    );
    let _ = writeln!(out, "<p class=\"sum\">{}</p>", summary(report, &series));
    out.push_str(&inside(report));
    out.push_str(&measured(report));
    out.push_str(&series.section());
    out.push_str(&models(&report["models"]));
    out.push_str(&limits(report));
    out.push_str("</body>\n</html>\n");
    out
}

/// The most important in a few sentences.
fn summary(report: &Value, series: &Series) -> String {
    let mut out = Vec::new();
    if let (Some(model), Some((_, _, last))) = (&series.model, series.ends()) {
        out.push(format!("It answers with {model} at {} tokens a second once it is warm.", digits(last)));
    }
    if let Some((part, first, last)) = series.ends() {
        let kept = 100.0 * last / first.max(f64::MIN_POSITIVE);
        out.push(format!("In the last {} it kept {kept:.0} % of the speed of the first.", time(part)));
    }
    if let Some(hottest) = series.hottest(&series.processor) {
        out.push(format!("Its processor reached {hottest:.0} °C."));
    }
    let models = report["models"].as_array().map_or(&[][..], Vec::as_slice);
    let fit = models.iter().filter(|model| model["plan"].is_object()).count();
    if !models.is_empty() {
        out.push(format!("{fit} of the {} models of the catalogue fit.", models.len()));
    }
    out.join(" ")
}

/// A table of HTML that is escaped already; numbers stand to the right from column `numbers` on.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let class = |column: usize| if column >= numbers { " class=\"num\"" } else { "" };
    let mut out = String::from("<div class=\"wide\"><table>\n");
    if !head.is_empty() {
        out.push_str("<thead><tr>");
        head.iter().enumerate().for_each(|(i, name)| _ = write!(out, "<th{}>{name}</th>", class(i)));
        out.push_str("</tr></thead>\n");
    }
    out.push_str("<tbody>\n");
    for row in rows.iter().take(ROWS_MAX) {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let tag = if i == 0 { "th" } else { "td" };
            let _ = write!(out, "<{tag}{}>{cell}</{tag}>", class(i));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn inside(report: &Value) -> String {
    let (processor, drive, card) = (&report["processor"], &report["drive"], &report["card"]);
    let count = |value: &Value, what: &str| value.as_u64().map(|n| format!("{n} {what}"));
    let list = processor["features"].as_array().map_or(&[][..], Vec::as_slice);
    let features: Vec<String> = list.iter().take(ROWS_MAX).filter_map(text).collect();
    let processor = [
        text(&processor["name"]),
        count(&processor["cores"], "cores"),
        number(&processor["clock_hz_max"], GB, "GHz at most"),
        (!features.is_empty()).then(|| features.join(" ")),
    ];
    let memory = number(&report["memory"]["bytes"], GIB, "GiB for Wels");
    let drive = [text(&drive["model"]), text(&drive["device"]), number(&drive["bytes"], GB, "GB")];
    let card = if card.is_object() {
        let memory = number(&card["memory_bytes"], GIB, "GiB");
        joined([text(&card["name"]), memory, text(&card["driver"])])
    } else {
        "none that computes faster than the processor".into()
    };
    let rows = [
        ("Processor", joined(processor)),
        ("Memory", or_unknown(memory)),
        ("Drive with the models", joined(drive)),
        ("Graphics card", card),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(name, words)| vec![name.to_owned(), words]).collect();
    format!("<h2>What is in the box</h2>\n{}", table(&[], &rows, usize::MAX))
}

/// What is known, a comma between.
fn joined<const N: usize>(words: [Option<String>; N]) -> String {
    let known: Vec<String> = words.into_iter().flatten().collect();
    if known.is_empty() { "unknown".into() } else { known.join(", ") }
}

fn measured(report: &Value) -> String {
    let (processor, memory, drive) = (&report["processor"], &report["memory"], &report["drive"]);
    let reads = &drive["reads"];
    let row = |name: &str, cool: &Value, warm: &Value, scale: f64, unit: &str| {
        vec![name.to_owned(), or_unknown(number(cool, scale, unit)), or_unknown(number(warm, scale, unit))]
    };
    let mut rows = vec![
        row("Memory, read by all cores", &memory["read_bytes_s"], &memory["read_bytes_s_after"], GB, "GB/s"),
        row(
            "Processor, 8-bit products",
            &processor["int8_ops_s"],
            &processor["int8_ops_s_after"],
            TERA,
            "Top/s",
        ),
        row("Drive, large reads", &reads["bytes_s"], &drive["bytes_s_after"], GB, "GB/s"),
    ];
    let depths = reads["depths"].as_array().map_or(&[][..], Vec::as_slice);
    let mib =
        reads["read_bytes"].as_u64().map(|bytes| format!(" of {} MiB", bytes >> 20)).unwrap_or_default();
    for depth in depths.iter().take(ROWS_MAX) {
        let name = match depth["depth"].as_u64().unwrap_or(0) {
            1 => format!("… one read{mib} after the other"),
            n => format!("… {n} reads{mib} at once"),
        };
        rows.push(vec![name, or_unknown(number(&depth["bytes_s"], GB, "GB/s")), String::new()]);
    }
    let speeds = &report["card"]["speeds"];
    let of_card = [
        ("Card, its own memory read", &speeds["read_bytes_s"], GB, "GB/s"),
        ("Card, products for a prompt", &speeds["ops_s"], TERA, "Top/s"),
        ("Card, written from memory", &speeds["link_bytes_s"], GB, "GB/s"),
    ];
    if report["card"].is_object() {
        let rows_of_card = of_card.into_iter().map(|(name, value, scale, unit)| {
            vec![name.to_owned(), or_unknown(number(value, scale, unit)), String::new()]
        });
        rows.extend(rows_of_card);
    }
    let head = ["", "at the start", "after the load"];
    format!("<h2>What was measured</h2>\n{}", table(&head, &rows, 1))
}

fn models(list: &Value) -> String {
    let models = list.as_array().map_or(&[][..], Vec::as_slice);
    if models.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = models.iter().take(ROWS_MAX).map(model).collect();
    let format = models[0]["format"].as_str().map(escape);
    let head = ["Model", "Where it would lie", "Size", "Answer", "Prompt"];
    format!(
        "<h2>What it would serve</h2>\n<p>Computed, not measured: the catalogue's models with weights in {}, by what was \
         measured above. Tokens a second of one answer behind a few thousand tokens, and of a prompt; a token is some \
         three quarters of an English word.</p>\n{}",
        or_unknown(format),
        table(&head, &rows, 2)
    )
}

fn model(model: &Value) -> Vec<String> {
    let (name, size) = (or_unknown(text(&model["name"])), or_unknown(number(&model["bytes"], GB, "GB")));
    let plan = &model["plan"];
    if !plan.is_object() {
        let reason = or_unknown(text(&model["reason"]));
        return vec![
            name,
            format!("<span class=\"soft\">does not fit: {reason}</span>"),
            size,
            "–".into(),
            "–".into(),
        ];
    }
    let tiers = [("vram_bytes", "card"), ("ram_bytes", "memory"), ("nvme_bytes", "drive")];
    let places: Vec<&str> = tiers
        .into_iter()
        .filter(|(key, _)| plan[key].as_u64().is_some_and(|bytes| bytes > 0))
        .map(|(_, name)| name)
        .collect();
    let speed = |key: &str| or_unknown(number(&plan[key], 1.0, "tok/s"));
    vec![name, places.join(", "), size, speed("decode_tok_s"), speed("prefill_tok_s")]
}

fn limits(report: &Value) -> String {
    let mut items: Vec<String> = [
        "A sensor that this page does not show was not there, or the system does not tell of it; then nothing is known of it.",
        "Temperatures depend on the room, the dust and where the box stands. The room was not measured.",
        "The box served whoever asked meanwhile; that makes speeds here smaller, none larger.",
        "How fast an answer is depends on its words, too: Wels guesses some ahead where that pays.",
        "The load is one answer after the other. Several people at once get more tokens together, and fewer each.",
        "Speeds of parts are the best of a few tries. What a model makes of them is in the lines over time.",
        "Power, noise and writes to the drive were not measured.",
    ]
    .map(str::to_owned)
    .to_vec();
    if report["load"].is_object() && !report["load"]["model"].is_string() {
        items.push("No model was on the box: all cores multiplied whole numbers instead, which heats more than answers do.".into());
    }
    let notes = report["notes"].as_array().map_or(&[][..], Vec::as_slice);
    items.extend(notes.iter().take(ROWS_MAX).filter_map(text));
    let items: String = items.iter().map(|item| format!("<li>{item}</li>\n")).collect();
    format!("<h2>What this does not say</h2>\n<ul>\n{items}</ul>\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::example;
    use super::*;

    /// Every tag that opens closes, in order, and nothing else looks like one.
    fn expect_well_formed(page: &str) {
        let mut open = Vec::new();
        let body = page.strip_prefix("<!DOCTYPE html>").unwrap();
        for piece in body.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("no end: {piece}"));
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{piece}");
            let name = tag.split_whitespace().next().unwrap().trim_end_matches('/');
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.to_owned()), "{piece}");
            } else if !tag.ends_with('/') {
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{piece}");
                open.push(name.to_owned());
            }
            for entity in text.split('&').skip(1) {
                let name = entity.split(';').next().unwrap();
                assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "{entity}");
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_else() {
        let page = page(&example());
        expect_well_formed(&page);
        for reference in ["http:", "https:", " src=", "href=", "<script", "url(", "@import", "//"] {
            assert!(!page.to_lowercase().contains(reference), "{reference}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
    }

    #[test]
    fn what_the_box_says_is_text() {
        let page = page(&example());
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt;")
                && page.contains("&lt;7950X&gt; &amp; &quot;friends&quot;")
        );
        // Every text of the report, wherever it stands.
        fn poison(value: &mut Value) {
            match value {
                Value::String(text) => text.push_str("\"><img src=x onerror='1'>\u{7}"),
                Value::Array(list) => list.iter_mut().for_each(poison),
                Value::Object(fields) => fields.values_mut().for_each(poison),
                _ => {}
            }
        }
        let mut poisoned = example();
        poison(&mut poisoned);
        let page = super::page(&poisoned);
        expect_well_formed(&page);
        assert!(!page.contains("<img") && page.contains("&lt;img"));
    }

    #[test]
    fn a_box_without_sensors_card_or_model_has_a_page() {
        let sample = json!({ "at_s": 10.0, "seconds": 10.0, "rate": 2e12, "processor_c": null });
        for report in [
            json!({}),
            json!(null),
            json!({ "load": { "model": null, "samples": [sample] }, "notes": ["x"] }),
        ] {
            let page = page(&report);
            expect_well_formed(&page);
            assert!(page.contains("unknown") && !page.contains("NaN"), "{report}");
        }
        let nonsense = json!({ "made_ms": -1, "load": { "samples": [{ "at_s": "x" }, 7, null] }, "models": [1], "card": { "speeds": 3 }, "drive": [] });
        expect_well_formed(&page(&nonsense));
    }
}
