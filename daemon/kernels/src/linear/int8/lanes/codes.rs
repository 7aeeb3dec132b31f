//! Codes and scales of every interleaved format as vectors, a lane a row.
#![expect(unsafe_code, reason = "reads blocks by pointer")]

use half::f16;
use tensor::quant::IQ4_VALUES;

use super::format::{
    Format, HALVES, Iq4Nl, Iq4Xs, LINE, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, q6k_places,
    two_bit_places,
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
    /// Scale and offset of a group.
    unsafe fn scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F);

    /// [`codes`](Codes::codes) as the level multiplies them: signed ones where it takes such, otherwise 128 more.
    ///
    /// # Safety
    /// As all.
    #[inline(always)]
    unsafe fn multiplicand<S: Simd>(s: S, w: *const u8, group: usize, k: usize, part: usize) -> S::I {
        // SAFETY: the caller's promise.
        let codes = unsafe { Self::codes(s, w, group, k, part) };
        if Self::SIGNED && !S::SIGNED_CODES { s.xor(codes, s.splat_i(bytes(0x80))) } else { codes }
    }

    /// [`scales`](Codes::scales) for [`multiplicand`](Codes::multiplicand)s.
    ///
    /// # Safety
    /// As all.
    #[inline(always)]
    unsafe fn scale_and_offset<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise.
        let (scale, offset) = unsafe { Self::scales(s, w, group, part) };
        (scale, if Self::SIGNED { s.mul(scale, s.splat(-128.0)) } else { offset })
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
    ($format:ident, $codes:expr, |$s:ident, $d:ident, $w:ident, $part:ident| $offset:expr) => {
        impl Codes for $format {
            #[inline(always)]
            unsafe fn codes<S: Simd>(s: S, w: *const u8, _: usize, k: usize, part: usize) -> S::I {
                // SAFETY: the caller's promise.
                unsafe { $codes(s, w, k, part) }
            }
            #[inline(always)]
            unsafe fn scales<S: Simd>($s: S, $w: *const u8, _: usize, $part: usize) -> (S::F, S::F) {
                // SAFETY: the caller's promise; `d` comes first, `m` where there is one behind it.
                unsafe {
                    let $d = halves($s, $w, 0, $part);
                    ($d, $offset)
                }
            }
        }
    };
}

blocks_of_32!(Q4_0, nibbles::<S, Self>, |s, d, _w, _part| s.mul(d, s.splat(-8.0)));
blocks_of_32!(Q4_1, nibbles::<S, Self>, |s, d, w, part| halves(s, w, HALVES, part));
blocks_of_32!(Q5_0, with_fifth_bits::<S, Self>, |s, d, _w, _part| s.mul(d, s.splat(-16.0)));
blocks_of_32!(Q5_1, with_fifth_bits::<S, Self>, |s, d, w, part| halves(s, w, HALVES, part));
blocks_of_32!(Q8_0, signed_bytes, |s, d, _w, _part| s.splat(0.0));
blocks_of_32!(Iq4Nl, table_of_nibbles, |s, d, _w, _part| s.splat(0.0));

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
    unsafe fn scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; `d`, two bytes and a line of scales come first.
        unsafe {
            let low = s.shr(line(s, w, 2 * HALVES, part), 4 * group);
            let high = s.shr(s.load_u16(w.add(HALVES + 2 * S::LANES * part)), 2 * group);
            let high = s.shl(s.and(high, s.splat_i(3)), 4);
            let scale = s.to_f32(s.or(s.and(low, s.splat_i(15)), high));
            let d = halves(s, w, 0, part);
            (s.mul(d, s.sub(scale, s.splat(32.0))), s.splat(0.0))
        }
    }
}

/// A 6-bit scale and minimum of a group of Q4_K and Q5_K, times `d` and minus `m`; the layout is that of
/// `tensor::quant::k_scales`, a line for every four of the twelve bytes.
///
/// # Safety
/// As [`Codes`].
#[inline(always)]
unsafe fn k_scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
    // Statements, not closures: a closure is a function of its own, for which the level's instructions are not enabled.
    let byte = 8 * (group % 4);
    // SAFETY: the caller's promise; `d`, `m` and three lines come first.
    let (scales, minima, low) = unsafe {
        let at = 2 * HALVES;
        (line(s, w, at, part), line(s, w, at + LINE, part), line(s, w, at + 2 * LINE, part))
    };
    let (scale, min) = if group < 4 {
        let six = s.splat_i(63);
        (s.and(s.shr(scales, byte), six), s.and(s.shr(minima, byte), six))
    } else {
        let (four, two) = (s.splat_i(15), s.splat_i(0x30));
        let scale = s.or(s.and(s.shr(low, byte), four), s.and(s.shr(scales, byte + 2), two));
        let min = s.or(s.and(s.shr(low, byte + 4), four), s.and(s.shr(minima, byte + 2), two));
        (scale, min)
    };
    // SAFETY: the caller's promise.
    let (d, m) = unsafe { (halves(s, w, 0, part), halves(s, w, HALVES, part)) };
    (s.mul(d, s.to_f32(scale)), s.sub(s.splat(0.0), s.mul(m, s.to_f32(min))))
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
    #[inline(always)]
    unsafe fn scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise.
        unsafe { k_scales(s, w, group, part) }
    }
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
    #[inline(always)]
    unsafe fn scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise.
        unsafe { k_scales(s, w, group, part) }
    }
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
    unsafe fn scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; four lines of signed bytes behind the codes, then `d`.
        unsafe {
            // Signed bytes as unsigned ones, 128 too large.
            let scales = s.xor(line(s, w, LINE * (48 + group / 4), part), s.splat_i(bytes(0x80)));
            let scale = s.to_f32(s.and(s.shr(scales, 8 * (group % 4)), s.splat_i(255)));
            let d = halves(s, w, 52 * LINE, part);
            let scale = s.mul(d, s.sub(scale, s.splat(128.0)));
            (scale, s.mul(scale, s.splat(-32.0)))
        }
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
    unsafe fn scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; four lines of nibbles first, `d` and `m` last.
        unsafe {
            let both = s.shr(line(s, w, LINE * (group / 4), part), 8 * (group % 4));
            let (scale, min) = (s.and(both, s.splat_i(15)), s.and(s.shr(both, 4), s.splat_i(15)));
            let (d, m) = (halves(s, w, 20 * LINE, part), halves(s, w, 20 * LINE + HALVES, part));
            (s.mul(d, s.to_f32(scale)), s.sub(s.splat(0.0), s.mul(m, s.to_f32(min))))
        }
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
    unsafe fn scales<S: Simd>(s: S, w: *const u8, group: usize, part: usize) -> (S::F, S::F) {
        // SAFETY: the caller's promise; behind the codes two lines of low nibbles and one of high pairs, then `d`.
        unsafe {
            let low = line(s, w, LINE * (24 + group % 8 / 4), part);
            let low = s.and(s.shr(low, 8 * (group % 4) + 4 * (group / 8)), s.splat_i(15));
            let high = s.shr(line(s, w, LINE * 26, part), 8 * (group % 4) + 2 * (group / 4));
            let scale = s.to_f32(s.or(low, s.shl(s.and(high, s.splat_i(3)), 4)));
            let scale = s.mul(halves(s, w, 27 * LINE, part), s.sub(scale, s.splat(32.0)));
            (scale, s.mul(scale, s.splat(-4.0)))
        }
    }
}
