//! Floats taken apart and put together: a plane of signs and mantissas, a byte for each exponent.

use tensor::DType;

use super::quarter;

/// A float that is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    /// 8 exponent bits, 7 of mantissa.
    BF16,
    /// FP8 E4M3: 4 exponent bits, 3 of mantissa.
    E4M3,
}

impl Float {
    pub(super) fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::BF16 => Some(Self::BF16),
            DType::F8E4M3 => Some(Self::E4M3),
            _ => None,
        }
    }

    pub(super) fn value_bytes(self) -> usize {
        match self {
            Self::BF16 => 2,
            Self::E4M3 => 1,
        }
    }

    /// Exponents there are.
    pub(super) fn symbols(self) -> usize {
        match self {
            Self::BF16 => 256,
            Self::E4M3 => 16,
        }
    }

    /// Bytes of the signs and mantissas of `n` values.
    pub(super) fn plane_bytes(self, n: usize) -> usize {
        match self {
            Self::BF16 => n,
            Self::E4M3 => half(n),
        }
    }

    /// Bytes of the exponents of `n` values as they are.
    pub(super) fn exponent_bytes(self, n: usize) -> usize {
        self.plane_bytes(n)
    }
}

/// Values in low nibbles: those of the first two streams.
pub(super) fn half(n: usize) -> usize {
    n.min(2 * quarter(n))
}

/// Appends signs and mantissas to `plane`, and fills `exponents`, a byte a value.
pub(super) fn split(float: Float, values: &[u8], plane: &mut Vec<u8>, exponents: &mut Vec<u8>) {
    exponents.clear();
    match float {
        Float::BF16 => {
            let words = values.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
            exponents.extend(words.clone().map(|word| (word >> 7) as u8));
            plane.extend(words.map(|word| (word >> 8 & 0x80 | word & 0x7f) as u8));
        }
        Float::E4M3 => {
            exponents.extend(values.iter().map(|code| code >> 3 & 15));
            nibbles(values.iter().map(|code| code >> 4 & 8 | code & 7), values.len(), plane);
        }
    }
}

/// Appends exponents as they are.
pub(super) fn pack(float: Float, exponents: &[u8], plane: &mut Vec<u8>) {
    match float {
        Float::BF16 => plane.extend(exponents),
        Float::E4M3 => nibbles(exponents.iter().copied(), exponents.len(), plane),
    }
}

/// Appends `n` nibbles, the first half of them low ones.
fn nibbles(mut nibbles: impl Iterator<Item = u8>, n: usize, plane: &mut Vec<u8>) {
    let start = plane.len();
    plane.extend(nibbles.by_ref().take(half(n)));
    plane[start..].iter_mut().zip(nibbles).for_each(|(low, high)| *low |= high << 4);
}

/// Fills `out` from two planes.
pub(super) fn join_plain(float: Float, plane: &[u8], exponents: &[u8], out: &mut [u8]) {
    match float {
        Float::BF16 => join(float, plane, exponents, 0, out),
        Float::E4M3 => {
            let value = |sm: u8, e: u8| sm << 4 & 0x80 | e << 3 | sm & 7;
            let (low, high) = out.split_at_mut(plane.len());
            for (out, (&sm, &e)) in low.iter_mut().zip(plane.iter().zip(exponents)) {
                *out = value(sm & 15, e & 15);
            }
            for (out, (&sm, &e)) in high.iter_mut().zip(plane.iter().zip(exponents)) {
                *out = value(sm >> 4, e >> 4);
            }
        }
    }
}

/// Fills `out`, a run of the chunk's values from the one at `first`, all of them in low or all in high nibbles, with their
/// exponents, a byte each.
///
/// `plane` is the whole chunk's.
pub(super) fn join(float: Float, plane: &[u8], exponents: &[u8], first: usize, out: &mut [u8]) {
    match float {
        Float::BF16 => {
            let plane = &plane[first..];
            for (out, (&sm, &e)) in out.chunks_exact_mut(2).zip(plane.iter().zip(exponents)) {
                let word = u16::from(sm & 0x80) << 8 | u16::from(e) << 7 | u16::from(sm & 0x7f);
                out.copy_from_slice(&word.to_le_bytes());
            }
        }
        Float::E4M3 if first < plane.len() => {
            for (out, (&sm, &e)) in out.iter_mut().zip(plane[first..].iter().zip(exponents)) {
                *out = sm << 4 & 0x80 | e << 3 | sm & 7;
            }
        }
        Float::E4M3 => {
            for (out, (&sm, &e)) in out.iter_mut().zip(plane[first - plane.len()..].iter().zip(exponents)) {
                *out = sm & 0x80 | e << 3 | sm >> 4 & 7;
            }
        }
    }
}
