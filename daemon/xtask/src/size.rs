//! Sizes as people read and write them.

/// `n` bytes in the unit that keeps the number short; decimal units, as in the sizes of downloads.
pub(crate) fn format(n: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| n >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", n as f64 / *unit as f64),
        None => format!("{n} B"),
    }
}

/// Bytes of "4.8GB" (of 1000 each), "512 MiB" (of 1024 each), "4096".
///
/// # Errors
/// What it should have been, in words.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let start = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(start);
    let unit: f64 = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => f64::from(1 << 10),
        "MiB" => f64::from(1 << 20),
        "GiB" => f64::from(1 << 30),
        _ => return Err(format!("no unit is named {unit}; there are kB, MB, GB, KiB, MiB, GiB")),
    };
    let bytes =
        number.trim().parse::<f64>().map_err(|_| format!("{text:?} does not start with a number"))? * unit;
    // Exact up to 9 PB, and nobody has more.
    if (1.0..=9e15).contains(&bytes) { Ok(bytes as u64) } else { Err(format!("{text:?} is no size")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_differ() {
        assert_eq!(parse("4.8GB"), Ok(4_800_000_000));
        assert_eq!(parse("2 GiB"), Ok(2 << 30));
        assert_eq!(parse("4096"), Ok(4096));
    }

    #[test]
    fn nonsense_is_no_size() {
        for text in ["", "GB", "-1GB", "0", "nan", "1e30GB", "4.8 parsecs", "4.8gb"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
