//! Where the fields of 16 interleaved blocks lie: see `tensor::interleave` for the drawing.
//!
//! All formats are read as whole numbers with factors of their block and, in some, whole scales and minima of their group:
//!
//! ```text
//! w = d scale (code + OFFSET) + m min
//! ```
//! Lane `r` of every vector belongs to row `r`; a *k-step* is four neighbouring values of each row.

use crate::simd::Simd;

/// What the inner loops of unpacked rows have to know of a format.
pub(super) trait Kind {
    /// Values that share a scale.
    const GROUP: usize;
    /// K-steps whose pairs of products, code and offset times -127..=127, can be summed in 16 bits. Sums may wrap on the way.
    const SUMMED: usize;
    /// Codes are signed bytes.
    const SIGNED: bool = false;
    /// Something is added to every code.
    const SHIFTED: bool = false;
    /// Groups have minima.
    const MINIMA: bool = false;

    /// True where something is added to every code as the level multiplies it.
    fn shifted<S: Simd>() -> bool {
        Self::SHIFTED || (Self::SIGNED && !S::SIGNED_CODES)
    }
}

macro_rules! kinds {
    ($($name:ident { $($item:ident: $type:ty = $value:expr),* $(,)? })*) => {
        $(
            pub(super) struct $name;
            impl Kind for $name { $(const $item: $type = $value;)* }
        )*
    };
}

kinds! {
    Shifted32 { GROUP: usize = 32, SUMMED: usize = 8, SHIFTED: bool = true }
    Minima32 { GROUP: usize = 32, SUMMED: usize = 8, MINIMA: bool = true }
    FiveBits32 { GROUP: usize = 32, SUMMED: usize = 4, MINIMA: bool = true }
    Signed32 { GROUP: usize = 32, SUMMED: usize = 1, SIGNED: bool = true }
    Shifted16 { GROUP: usize = 16, SUMMED: usize = 4, SHIFTED: bool = true }
    Minima16 { GROUP: usize = 16, SUMMED: usize = 4, MINIMA: bool = true }
}

/// A format whose blocks are interleaved.
pub(super) trait Format {
    /// Its likes.
    type Kind: Kind;
    /// Values of a block.
    const VALUES: usize;
    /// Bytes of a block, of one row.
    const BYTES: usize;
    /// Neighbouring groups that differ in where they are in the bytes: each has instructions of its own.
    const KINDS: usize = 1;
    /// Largest code.
    const CODE_MAX: i32;
    /// What is added to a code.
    const OFFSET: i32 = 0;
    /// From the start of the block to the lines of codes (the low bits, where they are apart).
    const CODES: usize;

    /// Values that share a scale.
    const GROUP: usize = {
        let (code, offset) = (Self::CODE_MAX + Self::OFFSET, -Self::OFFSET);
        let largest = if code > offset { code } else { offset };
        assert!(Self::Kind::SUMMED as i32 * 2 * 127 * largest <= 32767, "sums fit 16 bits");
        assert!(Self::OFFSET == 0 || Self::Kind::SHIFTED, "the kind says so");
        assert!(Self::Kind::GROUP as i32 * 127 * largest <= 1 << 22, "`Simd::scaled` takes such sums");
        Self::Kind::GROUP
    };
    /// K-steps of a group.
    const STEPS: usize = Self::GROUP / 4;
    /// Bytes of 16 interleaved blocks.
    const LANES_BYTES: usize = 16 * Self::BYTES;
}

/// Bytes of 16 half floats, and of 16 four-byte units.
pub(super) const HALVES: usize = 32;
pub(super) const LINE: usize = 64;

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident: $kind:ident { $($item:ident = $value:expr),* $(,)? })*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;
            impl Format for $name {
                type Kind = $kind;
                $(const $item: formats!(@type $item) = $value;)*
            }
        )*
    };
    (@type CODE_MAX) => { i32 };
    (@type OFFSET) => { i32 };
    (@type $other:ident) => { usize };
}

formats! {
    /// `d | 4 lines`, low nibbles first.
    Q4_0: Shifted32 { VALUES = 32, BYTES = 18, CODE_MAX = 15, OFFSET = -8, CODES = HALVES }
    /// `d | m | 4 lines`.
    Q4_1: Minima32 { VALUES = 32, BYTES = 20, CODE_MAX = 15, CODES = 2 * HALVES }
    /// `d | fifth bits | 4 lines`.
    Q5_0: Shifted32 { VALUES = 32, BYTES = 22, CODE_MAX = 31, OFFSET = -16, CODES = HALVES + LINE }
    /// `d | m | fifth bits | 4 lines`.
    Q5_1: FiveBits32 { VALUES = 32, BYTES = 24, CODE_MAX = 31, CODES = 2 * HALVES + LINE }
    /// `d | 8 lines`, signed.
    Q8_0: Signed32 { VALUES = 32, BYTES = 34, CODE_MAX = 128, CODES = HALVES }
    /// `d | 4 lines`, nibbles into a table of signed bytes.
    Iq4Nl: Signed32 { VALUES = 32, BYTES = 18, CODE_MAX = 128, CODES = HALVES }
    /// `d | high scales | low scales | 32 lines`, nibbles into the same table.
    Iq4Xs: Signed32 { VALUES = 256, BYTES = 136, CODE_MAX = 128, CODES = 2 * HALVES + LINE }
    /// `4 lines of scales and minima | 16 lines of 2 bits | d | m`.
    Q2K: Minima16 { VALUES = 256, BYTES = 84, KINDS = 8, CODE_MAX = 3, CODES = 4 * LINE }
    /// `8 lines of third bits | 16 lines of 2 bits | 3 lines of scales | d`.
    Q3K: Shifted16 { VALUES = 256, BYTES = 110, KINDS = 8, CODE_MAX = 7, OFFSET = -4, CODES = 8 * LINE }
    /// `d | m | 3 lines of scales | 32 lines`, two groups a line.
    Q4K: Minima32 { VALUES = 256, BYTES = 144, KINDS = 8, CODE_MAX = 15, CODES = 2 * HALVES + 3 * LINE }
    /// `d | m | 3 lines of scales | 8 lines of fifth bits | 32 lines`.
    Q5K: FiveBits32 { VALUES = 256, BYTES = 176, KINDS = 8, CODE_MAX = 31, CODES = 2 * HALVES + 11 * LINE }
    /// `32 lines of low bits | 16 lines of high bits | 4 lines of scales | d`.
    Q6K: Shifted16 { VALUES = 256, BYTES = 210, KINDS = 8, CODE_MAX = 63, OFFSET = -32, CODES = 0 }
}

/// Where a Q6_K group's codes are: line of low bits of its first k-step, shift of the nibble, line of high bits, shift.
///
/// Half `g / 8` of the block has 16 lines of nibbles and 8 of bit pairs. Quarter `q` of its 128 values takes the lines
/// from `8 (q % 2)` on, low nibbles in quarters 0 and 1, and pair `q` of every line of high bits.
#[inline(always)]
pub(super) fn q6k_places(group: usize) -> (usize, usize, usize, usize) {
    let (half, quarter, second) = (group / 8, group % 8 / 2, group % 2);
    (16 * half + 8 * (quarter % 2) + 4 * second, 4 * (quarter / 2), 8 * half + 4 * second, 2 * quarter)
}

/// Where a group of 16 of Q2_K and Q3_K has its 2-bit codes: line of its first k-step, and shift.
#[inline(always)]
pub(super) fn two_bit_places(group: usize) -> (usize, usize) {
    (8 * (group / 8) + 4 * (group % 2), 2 * (group % 8 / 2))
}
