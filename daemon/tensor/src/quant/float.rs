//! Plain floats narrower than f32.

use half::f16;

/// IEEE 754 half precision, exact.
#[inline]
pub fn f16_to_f32(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// The upper half of an f32, exact; the lower half is 0.
#[inline]
pub fn bf16_to_f32(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// FP8 E4M3FN, exact: no infinities, one NaN of either sign, largest value 448.
///
/// ```text
///  7   6 5 4 3   2 1 0
/// | s | exponent | mantissa |   exponent e > 0: (-1)^s 2^(e-7) (1 + m/8)
///                               exponent 0:     (-1)^s 2^-6 m/8
///                               0x7f, 0xff:     NaN
/// ```
/// Source: Micikevicius et al. 2022, arXiv:2209.05433.
#[inline]
pub fn e4m3_to_f32(code: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(code >> 3 & 15), u32::from(code & 7));
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_has_its_published_landmarks() {
        assert_eq!(e4m3_to_f32(0x7e), 448.0);
        assert_eq!(e4m3_to_f32(0x08), 2f32.powi(-6));
        assert_eq!(e4m3_to_f32(0x01), 2f32.powi(-9));
        assert_eq!(e4m3_to_f32(0xb8), -1.0);
        assert!(e4m3_to_f32(0x7f).is_nan() && e4m3_to_f32(0xff).is_nan());
        assert_eq!(e4m3_to_f32(0x80).to_bits(), (-0.0f32).to_bits());
    }
}
