//! Codes and scales of every interleaved format as vectors, a lane a row.
#![expect(unsafe_code, reason = "reads blocks by pointer")]

use half::f16;
use tensor::quant::IQ4_VALUES;

use super::format::{
    Format, HALVES, Iq4Nl, Iq4Xs, Kind, LINE, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
    q6k_places, two_bit_places,
};
use crate::simd::Simd;

/// Calls a function for each of the format's kinds of groups, the `i`-th of each: written out, so that their shifts are
/// constants.
macro_rules! each_kind {
    ($format:ident, $i:expr, |$group:ident| $call:expr) => {{
        each_kind!(@ $format, $i, $group, $call, 0 1 2 3 4 5 6 7);
    }};
    (@ $format:ident, $i:expr, $group:ident, $call:expr, $($kind:literal)*) => {
        $(
            if $kind < $format::KINDS {
                let $group = $i * $format::KINDS + $kind;
                $call;
            }
        )*
    };
}
pub(super) use each_kind;

/// Reading a format into vectors.
///
/// # Safety
/// `w` points to 16 interleaved blocks of the format, `group` is one of a block's, `k` one of a group's k-steps, and
/// `part` counts vectors of `S::LANES` rows: below `16 / S::LANES`.
pub(super) trait Codes: Format {
    /// Codes of a k-step.
    unsafe fn codes<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I;
    /// Factors of the block's scales and minima, the second without meaning where there are no minima.
    unsafe fn factors<S: Simd>(s: S, w: *const u8, part: usize) -> (S::F, S::F);
    /// Scales of a group: all 1 unless the format has them.
    ///
    /// # Safety
    /// As all.
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, _: *const u8, _: usize, _: usize) -> S::Scale {
        s.one()
    }
    /// Minima of a group: all 1 unless the format has them.
    ///
    /// # Safety
    /// As all.
    #[inline(always)]
    unsafe fn min<S: Simd>(s: S, _: *const u8, _: usize, _: usize) -> S::F {
        s.splat(1.0)
    }

    /// [`codes`](Codes::codes) as the level multiplies them: signed ones where it takes such, otherwise 128 more.
    ///
    /// # Safety
    /// As all.
    #[inline(always)]
    unsafe fn multiplicand<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        // SAFETY: the caller's promise.
        let codes = unsafe { Self::codes(s, w, group, k, part) };
        if Self::Kind::SIGNED && !S::SIGNED_CODES { s.xor(codes, s.splat_i(bytes(0x80))) } else { codes }
    }

    /// What is added to a [`multiplicand`](Codes::multiplicand).
    #[inline(always)]
    fn offset<S: Simd>() -> i32 {
        if Self::Kind::SIGNED && !S::SIGNED_CODES { -128 } else { Self::OFFSET }
    }
}

/// A vector's part of the line at `at`.
///
/// # Safety
/// 16 units of four bytes are at `at`; `part` is below `16 / S::LANES`.
#[inline(always)]
unsafe fn line<S: Simd>(s: S, w: *const u8, at: usize, part: usize) -> S::I {
    // SAFETY: the caller's promise.
    unsafe { s.load_i(w.add(at + 4 * S::LANES * part)) }
}

/// A vector's part of the half floats at `at`.
///
/// # Safety
/// 16 of them are there; `part` is below `16 / S::LANES`.
#[inline(always)]
unsafe fn halves<S: Simd>(s: S, w: *const u8, at: usize, part: usize) -> S::F {
    // SAFETY: the caller's promise.
    unsafe { s.load_f16(w.add(at + 2 * S::LANES * part).cast::<f16>()) }
}

/// The same byte four times.
const fn bytes(x: u8) -> u32 {
    x as u32 * 0x0101_0101
}

/// Nibbles of a block of 32: low ones of the four lines, then high ones.
///
/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn nibbles<S: Simd, F: Format>(s: S, w: *const u8, k: usize, part: usize) -> S::I {
    // SAFETY: the caller's promise; four lines of codes.
    let codes = unsafe { line(s, w, F::CODES + LINE * (k % 4), part) };
    s.and(s.shr(codes, k / 4 * 4), s.splat_i(bytes(15)))
}

/// Nibbles with the fifth bits that stand in the line before them.
///
/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn with_fifth_bits<S: Simd, F: Format>(s: S, w: *const u8, k: usize, part: usize) -> S::I {
    // SAFETY: the caller's promise; the line before the codes has a bit for each of 32 values.
    unsafe {
        let bits = line(s, w, F::CODES - LINE, part);
        s.or(nibbles::<S, F>(s, w, k, part), s.spread_bits(bits, 4 * k, 4))
    }
}

macro_rules! blocks_of_32 {
    ($format:ident, $codes:expr) => {
        impl Codes for $format {
            #[inline(always)]
            unsafe fn codes<S: Simd>(s: S, w: *const u8, _: usize, k: usize, part: usize) -> S::I {
                // SAFETY: the caller's promise.
                unsafe { $codes(s, w, k, part) }
            }
            #[inline(always)]
            unsafe fn factors<S: Simd>(s: S, w: *const u8, part: usize) -> (S::F, S::F) {
                // SAFETY: the caller's promise; `d` comes first, `m` where there is one behind it.
                unsafe {
                    let d = halves(s, w, 0, part);
                    (d, if Self::Kind::MINIMA { halves(s, w, HALVES, part) } else { d })
                }
            }
        }
    };
}

blocks_of_32!(Q4_0, nibbles::<S, Self>);
blocks_of_32!(Q4_1, nibbles::<S, Self>);
blocks_of_32!(Q5_0, with_fifth_bits::<S, Self>);
blocks_of_32!(Q5_1, with_fifth_bits::<S, Self>);
blocks_of_32!(Q8_0, signed_bytes);
blocks_of_32!(Iq4Nl, table_of_nibbles);

/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn signed_bytes<S: Simd>(s: S, w: *const u8, k: usize, part: usize) -> S::I {
    // SAFETY: the caller's promise; eight lines of codes.
    unsafe { line(s, w, Q8_0::CODES + LINE * k, part) }
}

/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn table_of_nibbles<S: Simd>(s: S, w: *const u8, k: usize, part: usize) -> S::I {
    // SAFETY: the caller's promise.
    unsafe { s.look_up(&IQ4_VALUES, nibbles::<S, Iq4Nl>(s, w, k, part)) }
}

impl Codes for Iq4Xs {
    #[inline(always)]
    unsafe fn codes<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        // SAFETY: the caller's promise; four lines a group.
        let codes = unsafe { line(s, w, Self::CODES + LINE * (4 * group + k % 4), part) };
        s.look_up(&IQ4_VALUES, s.and(s.shr(codes, k / 4 * 4), s.splat_i(bytes(15))))
    }
    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, w: *const u8, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; `d` comes first.
        unsafe {
            let d = halves(s, w, 0, part);
            (d, d)
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> S::Scale {
        // SAFETY: the caller's promise; two bytes and a line of scales behind `d`.
        unsafe {
            let low = s.shr(line(s, w, 2 * HALVES, part), 4 * group);
            let high = s.shr(s.load_u16(w.add(HALVES + 2 * S::LANES * part)), 2 * group);
            let high = s.shl(s.and(high, s.splat_i(3)), 4);
            let scale = s.or(s.and(low, s.splat_i(15)), high);
            s.signed_byte_scale(s.sub_bytes(scale, s.splat_i(32)), 0)
        }
    }
}

/// `d` and `-m`, which come first.
///
/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn k_factors<S: Simd>(s: S, w: *const u8, at: usize, part: usize) -> (S::F, S::F) {
    // SAFETY: the caller's promise.
    unsafe { (halves(s, w, at, part), s.sub(s.splat(0.0), halves(s, w, at + HALVES, part))) }
}

/// 6-bit scales, or with `MIN` minima, of the four groups of Q4_K and Q5_K that `group` is one of, a byte each. The layout
/// is that of `tensor::quant::k_scales`, a line for every four of the twelve bytes.
///
/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn k_scales<S: Simd, const MIN: bool>(s: S, w: *const u8, group: usize, part: usize) -> S::I {
    let at = 2 * HALVES;
    // SAFETY: the caller's promise; three lines behind `d` and `m`.
    let (six, low) =
        unsafe { (line(s, w, if MIN { at + LINE } else { at }, part), line(s, w, at + 2 * LINE, part)) };
    if group < 4 {
        return s.and(six, s.splat_i(bytes(63)));
    }
    let low = s.and(s.shr(low, if MIN { 4 } else { 0 }), s.splat_i(bytes(15)));
    s.or(low, s.and(s.shr(six, 2), s.splat_i(bytes(0x30))))
}

macro_rules! k_scales_of {
    () => {
        #[inline(always)]
        unsafe fn factors<S: Simd>(s: S, w: *const u8, part: usize) -> (S::F, S::F) {
            // SAFETY: the caller's promise.
            unsafe { k_factors(s, w, 0, part) }
        }
        #[inline(always)]
        unsafe fn scale<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> S::Scale {
            // SAFETY: the caller's promise.
            s.byte_scale(unsafe { k_scales::<S, false>(s, w, group, part) }, 8 * (group % 4))
        }
        #[inline(always)]
        unsafe fn min<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> S::F {
            // SAFETY: the caller's promise.
            s.byte_to_f32(unsafe { k_scales::<S, true>(s, w, group, part) }, 8 * (group % 4))
        }
    };
}

/// Nibbles of a super-block with two groups a line.
///
/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn super_nibbles<S: Simd, F: Format>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
    // SAFETY: the caller's promise; eight lines for every two groups.
    let codes = unsafe { line(s, w, F::CODES + LINE * (group / 2 * 8 + k), part) };
    s.and(s.shr(codes, group % 2 * 4), s.splat_i(bytes(15)))
}

impl Codes for Q4K {
    #[inline(always)]
    unsafe fn codes<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        // SAFETY: the caller's promise.
        unsafe { super_nibbles::<S, Self>(s, w, group, k, part) }
    }
    k_scales_of!();
}

impl Codes for Q5K {
    #[inline(always)]
    unsafe fn codes<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        // SAFETY: the caller's promise; bit `group` of the eight lines before the codes.
        unsafe {
            let fifth = s.shr(line(s, w, Self::CODES - 8 * LINE + LINE * k, part), group);
            let fifth = s.shl(s.and(fifth, s.splat_i(bytes(1))), 4);
            s.or(super_nibbles::<S, Self>(s, w, group, k, part), fifth)
        }
    }
    k_scales_of!();
}

impl Codes for Q6K {
    #[inline(always)]
    unsafe fn codes<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        let (low, nibble, high, pair) = q6k_places(group);
        // SAFETY: the caller's promise; 32 lines of nibbles, then 16 of bit pairs.
        unsafe {
            let low = s.shr(line(s, w, LINE * (low + k), part), nibble);
            let high = line(s, w, LINE * (32 + high + k), part);
            let high = if pair < 4 { s.shl(high, 4 - pair) } else { s.shr(high, pair - 4) };
            s.or(s.and(low, s.splat_i(bytes(15))), s.and(high, s.splat_i(bytes(0x30))))
        }
    }
    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, w: *const u8, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; `d` comes last.
        unsafe {
            let d = halves(s, w, 52 * LINE, part);
            (d, d)
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> S::Scale {
        // SAFETY: the caller's promise; four lines of signed bytes behind the codes.
        s.signed_byte_scale(unsafe { line(s, w, LINE * (48 + group / 4), part) }, 8 * (group % 4))
    }
}

impl Codes for Q2K {
    #[inline(always)]
    unsafe fn codes<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        let (first, shift) = two_bit_places(group);
        // SAFETY: the caller's promise; 16 lines of codes.
        let codes = unsafe { line(s, w, Self::CODES + LINE * (first + k), part) };
        s.and(s.shr(codes, shift), s.splat_i(bytes(3)))
    }
    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, w: *const u8, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; `d` and `m` come last.
        unsafe { k_factors(s, w, 20 * LINE, part) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> S::Scale {
        // SAFETY: the caller's promise; four lines of nibbles first, scales low.
        let both = unsafe { line(s, w, LINE * (group / 4), part) };
        s.byte_scale(s.and(both, s.splat_i(bytes(15))), 8 * (group % 4))
    }
    #[inline(always)]
    unsafe fn min<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> S::F {
        // SAFETY: the caller's promise; as above, minima high.
        let both = unsafe { line(s, w, LINE * (group / 4), part) };
        s.byte_to_f32(s.and(s.shr(both, 4), s.splat_i(bytes(15))), 8 * (group % 4))
    }
}

impl Codes for Q3K {
    #[inline(always)]
    unsafe fn codes<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        let (first, shift) = two_bit_places(group);
        // SAFETY: the caller's promise; eight lines of third bits (bit `group / 2`), then 16 of bit pairs.
        unsafe {
            let low = s.shr(line(s, w, Self::CODES + LINE * (first + k), part), shift);
            let third = s.shr(line(s, w, LINE * (4 * (group % 2) + k), part), group / 2);
            let third = s.shl(s.and(third, s.splat_i(bytes(1))), 2);
            s.or(s.and(low, s.splat_i(bytes(3))), third)
        }
    }
    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, w: *const u8, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; `d` comes last.
        unsafe {
            let d = halves(s, w, 27 * LINE, part);
            (d, d)
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> S::Scale {
        // SAFETY: the caller's promise; behind the codes two lines of low nibbles and one of high pairs.
        let (low, high) =
            unsafe { (line(s, w, LINE * (24 + group % 8 / 4), part), line(s, w, LINE * 26, part)) };
        let low = s.and(s.shr(low, 4 * (group / 8)), s.splat_i(bytes(15)));
        let high = s.shl(s.and(s.shr(high, 2 * (group / 4)), s.splat_i(bytes(3))), 4);
        s.signed_byte_scale(s.sub_bytes(s.or(low, high), s.splat_i(bytes(32))), 8 * (group % 4))
    }
}
