//! Text as HTML, and numbers as people read them.

use serde_json::Value;

/// Longest text of the box's that is shown: names and reasons are short.
const CHARS_MAX: usize = 400;

/// What a text shows, without meaning anything to a browser. Control characters, which XML doesn't know, go.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()).take(CHARS_MAX) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A text of the report's, escaped; nothing where it has none.
pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(escape)
}

/// A number of the report's, in a unit of so many base units.
pub(super) fn number(value: &Value, scale: f64, unit: &str) -> Option<String> {
    value.as_f64().map(|value| format!("{} {unit}", digits(value / scale)))
}

/// With as many digits as say something.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What isn't known is said so.
pub(super) fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "unknown".into())
}

/// A time as people say it.
pub(super) fn time(seconds: f64) -> String {
    if seconds >= 120.0 { format!("{:.0} minutes", seconds / 60.0) } else { format!("{seconds:.0} seconds") }
}

/// Whole days since 1970 as a date. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub(super) fn date(ms: u64) -> String {
    let days = (ms / 86_400_000).min(10_000_000) as i64 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_mean_nothing_to_a_browser() {
        assert_eq!(escape("a<b> & \"c\" 'd'\u{0}\u{1b}"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
        assert_eq!(escape(&"<".repeat(9999)).len(), 4 * CHARS_MAX);
    }

    #[test]
    fn days_have_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400_000), "2000-02-29");
        assert_eq!(date(1_764_176_400_000), "2025-11-26");
        assert!(!date(u64::MAX).is_empty());
    }

    #[test]
    fn numbers_have_digits_that_say_something() {
        assert_eq!(["2.35", "14.2", "210"], [2.345, 14.24, 209.6].map(digits).each_ref().map(String::as_str));
    }
}
