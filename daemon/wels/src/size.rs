//! Sizes as people write them: `4GiB`, `512 MB`, `1000000`.

/// Bytes in `text`; the unit is one of B, KB, MB, GB, TB (1000s) or KiB, MiB, GiB, TiB (1024s).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| format!("{text:?} is no size; write e.g. 4GiB"))?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("{other:?} is no unit of size; write e.g. 4GiB or 500MB")),
    };
    Ok((number * unit) as u64)
}

/// Bytes a second in `text`: a size, and `/s`.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let wanted = || format!("{text:?} is no rate; write e.g. 7GB/s");
    let bytes = parse(text.trim().strip_suffix("/s").ok_or_else(wanted)?).map_err(|_| wanted())?;
    if bytes == 0 { Err(wanted()) } else { Ok(bytes as f64) }
}

/// `1.5 GiB`, for people.
pub(crate) fn format(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse("4GiB"), Ok(4 << 30));
        assert_eq!(parse(" 2.5 MB "), Ok(2_500_000));
        assert_eq!(parse("17"), Ok(17));
        assert!(parse("4 gallons").is_err());
        assert!(parse("much").is_err());
        assert_eq!(format(98_362_432), "93.8 MiB");
    }

    #[test]
    fn rates_are_sizes_a_second() {
        assert_eq!(parse_rate("7GB/s"), Ok(7e9));
        assert_eq!(parse_rate(" 1.5 GiB/s"), Ok(1.5 * 1024.0 * 1024.0 * 1024.0));
        for text in ["7GB", "fast", "0/s", "GB/s", "7GB/h"] {
            assert!(parse_rate(text).expect_err(text).contains("write e.g. 7GB/s"));
        }
    }
}
