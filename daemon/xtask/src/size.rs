//! Sizes as people read them.

/// `n` bytes in the unit that keeps the number short; decimal units, as in the sizes of downloads.
pub(crate) fn format(n: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| n >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", n as f64 / *unit as f64),
        None => format!("{n} B"),
    }
}
