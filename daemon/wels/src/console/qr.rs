//! A QR code in half blocks: two modules, one above the other, are a letter.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code, which cameras want: the standard says four, two are enough on a screen.
const QUIET: usize = 2;

/// The lines of `text`'s code, light on a dark screen; none where it is too long.
pub(super) fn lines(text: &str) -> Vec<String> {
    // Upper case is the smaller code, and the same address.
    let Ok(code) = QrCode::with_error_correction_level(text.to_uppercase(), EcLevel::L) else {
        return Vec::new();
    };
    let width = code.width();
    let light = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < width);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => code[(x, y)] == Color::Light,
            _ => y < width + 2 * QUIET,
        }
    };
    let all = width + 2 * QUIET;
    let letter = |x: usize, y: usize| match (light(x, y), light(x, y + 1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    };
    (0..all).step_by(2).map(|y| (0..all).map(|x| letter(x, y)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_fits_a_small_screen() {
        let lines = lines("http://192.168.100.200");
        assert_eq!((lines.len(), lines[0].chars().count()), (13, 25));
        // The top left finder: a dark ring of seven modules around a light one, below and beside two light ones.
        assert!(lines[0].chars().all(|letter| letter == '█'), "{}", lines[0]);
        assert!(lines[1].starts_with("██ ▄▄▄▄▄ "), "{}", lines[1]);
    }

    #[test]
    fn what_is_too_long_has_no_code() {
        assert!(lines(&"x".repeat(5000)).is_empty());
    }
}
