//! Rows as a GGUF file has them, interleaved on the way: `tensor::interleave` in vectors.
#![expect(unsafe_code, reason = "reads rows and writes lines by pointer")]

use tensor::{DType, LANES, interleaved_fields};

use super::format::LINE;
use crate::level::Kernel;
use crate::simd::Simd;

/// Units of a field that are interleaved at once.
const UNITS: usize = 4;

/// out <- 16 rows, interleaved.
pub(super) struct Interleave<'a> {
    pub(super) dtype: DType,
    /// The rows, one after another.
    pub(super) rows: &'a [u8],
    /// As many bytes.
    pub(super) out: &'a mut [u8],
}

impl Kernel for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dtype, rows, out } = self;
        let (row_bytes, block_bytes) = (rows.len() / LANES, dtype.block_bytes());
        assert!(rows.len() == out.len() && row_bytes.is_multiple_of(block_bytes), "rows of whole blocks");
        assert_eq!(rows.len(), LANES * row_bytes, "16 rows");
        let fields = interleaved_fields(dtype).expect("asked of `supports`");
        let starts = std::array::from_fn(|row| rows[row * row_bytes..].as_ptr());
        for (i, out) in out.chunks_exact_mut(LANES * block_bytes).enumerate() {
            // The next 16 rows: theirs are too many streams for the hardware to foresee.
            let next = rows.as_ptr().wrapping_add(rows.len() + i * LANES * block_bytes);
            for line in (0..LANES * block_bytes).step_by(LINE) {
                s.prefetch(next.wrapping_add(line));
            }
            let mut at = 0;
            for &(unit, n) in fields {
                let (rows, out) = (&rows[i * block_bytes + at..], &mut out[LANES * at..][..LANES * unit * n]);
                match (unit, n) {
                    (2, 1) => halves::<1>(rows, row_bytes, out),
                    (2, 2) => halves::<2>(rows, row_bytes, out),
                    // SAFETY: every row has as many blocks, and each of them the field.
                    (4, _) => unsafe { words(s, &starts, i * block_bytes + at, n, out) },
                    _ => unreachable!("{n} units of {unit} bytes"),
                }
                at += unit * n;
            }
        }
    }
}

/// `n` units of four bytes from byte `at` of every row on: as many lines.
///
/// # Safety
/// Every row has them.
#[inline(always)]
pub(super) unsafe fn words<S: Simd>(s: S, rows: &[*const u8; LANES], at: usize, n: usize, out: &mut [u8]) {
    assert!(n >= UNITS && out.len() == n * LINE);
    for unit in (0..n).step_by(UNITS) {
        // The last ones overlap.
        let unit = unit.min(n - UNITS);
        // SAFETY: the caller's promise; there are as many lines.
        unsafe { s.interleave(rows, at + 4 * unit, out.as_mut_ptr().add(LINE * unit)) };
    }
}

/// `N` units of two bytes.
#[inline(always)]
fn halves<const N: usize>(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    assert!(out.len() == LANES * 2 * N && rows.len() >= (LANES - 1) * row_bytes + 2 * N);
    let (mut from, mut halves) = (rows.as_ptr(), [[[0; 2]; LANES]; N]);
    for row in 0..LANES {
        // SAFETY: so many units of every row are in bounds.
        let units = unsafe { *from.cast::<[[u8; 2]; N]>() };
        for unit in 0..N {
            halves[unit][row] = units[unit];
        }
        from = from.wrapping_add(row_bytes);
    }
    out.copy_from_slice(bytemuck::cast_slice(halves.as_flattened()));
}
