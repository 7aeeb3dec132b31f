//! Where the fields of 16 interleaved blocks lie: see `tensor::interleave` for the drawing.
//!
//! All formats are read as codes with a scale and an offset per group of values: `w = scale q + offset`. Lane `r` of
//! every vector belongs to row `r`; a *k-step* is four neighbouring values of each row.

/// A format whose blocks are interleaved.
pub(super) trait Format {
    /// Values of a block.
    const VALUES: usize;
    /// Bytes of a block, of one row.
    const BYTES: usize;
    /// Values that share a scale.
    const GROUP: usize = 32;
    /// Neighbouring groups that differ in where they are in the bytes: each has instructions of its own.
    const KINDS: usize = 1;
    /// Largest code where codes are unsigned.
    const CODE_MAX: i32;
    /// Offsets are zero where codes are signed.
    const SIGNED: bool = false;
    /// From the start of the block to the lines of codes (the low bits, where they are apart).
    const CODES: usize;

    /// K-steps of a group.
    const STEPS: usize = Self::GROUP / 4;
    /// K-steps whose pairs of products, code times -127..=127, can be summed in 16 bits.
    const SUMMED: usize = {
        let fit = 32767 / (2 * 127 * Self::CODE_MAX) as usize;
        // A power of two, so that the parts of a group are equal.
        if fit >= Self::STEPS {
            Self::STEPS
        } else if fit >= 4 {
            4
        } else if fit >= 2 {
            2
        } else {
            1
        }
    };
    /// Bytes of 16 interleaved blocks.
    const LANES_BYTES: usize = 16 * Self::BYTES;
}

/// Bytes of 16 half floats, and of 16 four-byte units.
pub(super) const HALVES: usize = 32;
pub(super) const LINE: usize = 64;

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident { $($item:ident = $value:expr),* $(,)? })*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;
            impl Format for $name { $(const $item: formats!(@type $item) = $value;)* }
        )*
    };
    (@type SIGNED) => { bool };
    (@type CODE_MAX) => { i32 };
    (@type $other:ident) => { usize };
}

formats! {
    /// `d | 4 lines`, low nibbles first: 8 + code.
    Q4_0 { VALUES = 32, BYTES = 18, CODE_MAX = 15, CODES = HALVES }
    /// `d | m | 4 lines`.
    Q4_1 { VALUES = 32, BYTES = 20, CODE_MAX = 15, CODES = 2 * HALVES }
    /// `d | fifth bits | 4 lines`: 16 + code.
    Q5_0 { VALUES = 32, BYTES = 22, CODE_MAX = 31, CODES = HALVES + LINE }
    /// `d | m | fifth bits | 4 lines`.
    Q5_1 { VALUES = 32, BYTES = 24, CODE_MAX = 31, CODES = 2 * HALVES + LINE }
    /// `d | 8 lines`, signed.
    Q8_0 { VALUES = 32, BYTES = 34, CODE_MAX = 128, SIGNED = true, CODES = HALVES }
    /// `d | 4 lines`, nibbles into a table of signed bytes.
    Iq4Nl { VALUES = 32, BYTES = 18, CODE_MAX = 128, SIGNED = true, CODES = HALVES }
    /// `d | high scales | low scales | 32 lines`, nibbles into the same table.
    Iq4Xs { VALUES = 256, BYTES = 136, CODE_MAX = 128, SIGNED = true, CODES = 2 * HALVES + LINE }
    /// `4 lines of scales and minima | 16 lines of 2 bits | d | m`.
    Q2K { VALUES = 256, BYTES = 84, GROUP = 16, KINDS = 8, CODE_MAX = 3, CODES = 4 * LINE }
    /// `8 lines of third bits | 16 lines of 2 bits | 3 lines of scales | d`: 4 + code.
    Q3K { VALUES = 256, BYTES = 110, GROUP = 16, KINDS = 8, CODE_MAX = 7, CODES = 8 * LINE }
    /// `d | m | 3 lines of scales | 32 lines`, two groups a line.
    Q4K { VALUES = 256, BYTES = 144, KINDS = 8, CODE_MAX = 15, CODES = 2 * HALVES + 3 * LINE }
    /// `d | m | 3 lines of scales | 8 lines of fifth bits | 32 lines`.
    Q5K { VALUES = 256, BYTES = 176, KINDS = 8, CODE_MAX = 31, CODES = 2 * HALVES + 11 * LINE }
    /// `32 lines of low bits | 16 lines of high bits | 4 lines of scales | d`: 32 + code.
    Q6K { VALUES = 256, BYTES = 210, GROUP = 16, KINDS = 8, CODE_MAX = 63, CODES = 0 }
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
