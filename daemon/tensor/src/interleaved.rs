//! The layout that kernels like best: 16 rows interleaved, so that a vector lane is a row.
//!
//! ```text
//! matrix:       | rows 0..16 | rows 16..32 | ...                     as many bytes as row after row
//! 16 rows:      | block 0 of each | block 1 of each | ...
//! a block of 16 rows: its fields one after another, each unit of a field from all 16 rows before the next:
//!
//! Q4_K, row by row:   | d m | 12 bytes of scales | 128 bytes of codes | d m | 12 | 128 | ...          16 times
//! Q4_K, interleaved:  | d x16 | m x16 | scales 0..4 x16 | 4..8 x16 | 8..12 x16 | codes 0..4 x16 | 4..8 x16 | ...
//!                       32      64      128                                      256 bytes, then 64 a line
//! ```
//!
//! A *line* holds four bytes of codes of each of 16 rows: 64 bytes, one AVX-512 vector, two of AVX2, a row of an AMX
//! tile (`[k / 4][n][4]`), and four bytes for each of 16 neighbouring threads of a GPU. Half floats stand in vectors of
//! 16. The layout is a permutation of bytes: nothing is computed, nothing is lost, and both ways are a copy.

use crate::DType;

/// Rows that are interleaved: lanes of the widest vector.
pub const LANES: usize = 16;

/// Order of a matrix's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Row after row, blocks as published.
    #[default]
    Rows,
    /// [`LANES`] rows interleaved.
    Rows16,
}

impl Layout {
    /// Whether a matrix of `rows` rows of `dtype` can lie so.
    pub fn fits(self, dtype: DType, rows: usize) -> bool {
        match self {
            Self::Rows => true,
            Self::Rows16 => interleaved_fields(dtype).is_some() && rows.is_multiple_of(LANES),
        }
    }
}

/// Fields of a block in order: bytes of a unit, and units. `None` for types that are not interleaved.
pub fn interleaved_fields(dtype: DType) -> Option<&'static [(usize, usize)]> {
    Some(match dtype {
        DType::Q4_0 | DType::IQ4NL => &[(2, 1), (4, 4)],
        DType::Q4_1 => &[(2, 2), (4, 4)],
        DType::Q5_0 => &[(2, 1), (4, 5)],
        DType::Q5_1 => &[(2, 2), (4, 5)],
        DType::Q8_0 => &[(2, 1), (4, 8)],
        DType::Q2K => &[(4, 20), (2, 2)],
        DType::Q3K => &[(4, 27), (2, 1)],
        DType::Q4K => &[(2, 2), (4, 35)],
        DType::Q5K => &[(2, 2), (4, 43)],
        DType::Q6K => &[(4, 52), (2, 1)],
        DType::IQ4XS => &[(2, 2), (4, 33)],
        _ => return None,
    })
}

/// Interleaves [`LANES`] rows: `rows` holds them one after another, `out` as many bytes.
///
/// # Panics
/// The type is not interleaved, or the lengths differ or are not 16 rows of whole blocks: a programmer's error.
pub fn interleave(dtype: DType, rows: &[u8], out: &mut [u8]) {
    assert_eq!(rows.len(), out.len(), "as many bytes");
    let row_bytes = whole_rows(dtype, rows.len());
    let block_bytes = dtype.block_bytes();
    for (i, out) in out.chunks_exact_mut(LANES * block_bytes).enumerate() {
        let rows = &rows[i * block_bytes..];
        for_each_unit(dtype, |unit, at| {
            let out = &mut out[LANES * at..][..LANES * unit];
            // Known lengths: a move each instead of a call.
            match unit {
                2 => gather::<2>(&rows[at..], row_bytes, out),
                4 => gather::<4>(&rows[at..], row_bytes, out),
                _ => unreachable!("units of {unit} bytes"),
            }
        });
    }
}

/// The first unit of `N` bytes of each row, one after another.
#[inline(always)]
fn gather<const N: usize>(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    for (out, row) in out.as_chunks_mut::<N>().0.iter_mut().zip(rows.chunks(row_bytes)) {
        *out = *row.first_chunk().expect("a block of every row");
    }
}

/// Takes one of [`LANES`] interleaved rows out: `lanes` holds all of them, `out` is a sixteenth as long.
///
/// # Panics
/// As [`interleave`], or `lane` is no lane: a programmer's error.
pub fn deinterleave_row(dtype: DType, lanes: &[u8], lane: usize, out: &mut [u8]) {
    assert_eq!(whole_rows(dtype, lanes.len()), out.len(), "a row");
    assert!(lane < LANES, "lane {lane}");
    let block_bytes = dtype.block_bytes();
    let blocks = lanes.chunks_exact(LANES * block_bytes);
    for (lanes, out) in blocks.zip(out.chunks_exact_mut(block_bytes)) {
        for_each_unit(dtype, |unit, at| {
            out[at..at + unit].copy_from_slice(&lanes[LANES * at + lane * unit..][..unit]);
        });
    }
}

/// Bytes of one of 16 rows.
fn whole_rows(dtype: DType, bytes: usize) -> usize {
    assert!(bytes.is_multiple_of(LANES * dtype.block_bytes()), "{LANES} rows of whole blocks of {dtype}");
    bytes / LANES
}

/// Calls `f(bytes, offset in the block)` for every unit of every field.
fn for_each_unit(dtype: DType, mut f: impl FnMut(usize, usize)) {
    let mut at = 0;
    for &(unit, n) in interleaved_fields(dtype).expect("a type that is interleaved") {
        for _ in 0..n {
            f(unit, at);
            at += unit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interleaved_types() -> impl Iterator<Item = DType> {
        DType::all().filter(|&dtype| interleaved_fields(dtype).is_some())
    }

    #[test]
    fn fields_fill_the_block() {
        for dtype in interleaved_types() {
            let bytes: usize = interleaved_fields(dtype).unwrap().iter().map(|(unit, n)| unit * n).sum();
            assert_eq!(bytes, dtype.block_bytes(), "{dtype}");
        }
        assert_eq!(interleaved_types().count(), 12);
    }

    #[test]
    fn every_row_comes_back() {
        for dtype in interleaved_types() {
            let row_bytes = 3 * dtype.block_bytes();
            let rows: Vec<u8> = (0..LANES * row_bytes).map(|i| (i * i % 251) as u8).collect();
            let mut lanes = vec![0; rows.len()];
            interleave(dtype, &rows, &mut lanes);
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                let mut back = vec![0; row_bytes];
                deinterleave_row(dtype, &lanes, lane, &mut back);
                assert_eq!(back, row, "{dtype} lane {lane}");
            }
        }
    }

    #[test]
    fn q4_k_lies_as_drawn() {
        // Byte `i` of row `r` is 16 i + r, as far as that goes.
        let rows: Vec<u8> = (0..LANES).flat_map(|r| (0..144).map(move |i| (16 * i + r) as u8)).collect();
        let mut lanes = vec![0; rows.len()];
        interleave(DType::Q4K, &rows, &mut lanes);
        let byte = |row: usize, i: usize| (16 * i + row) as u8;
        assert_eq!(lanes[..4], [byte(0, 0), byte(0, 1), byte(1, 0), byte(1, 1)], "d of rows 0 and 1");
        assert_eq!(lanes[32..34], [byte(0, 2), byte(0, 3)], "m of row 0");
        assert_eq!(
            lanes[64..72],
            [4, 5, 6, 7]
                .map(|i| byte(0, i))
                .into_iter()
                .chain([4, 5, 6, 7].map(|i| byte(1, i)))
                .collect::<Vec<_>>()[..]
        );
        assert_eq!(
            lanes[256 + 64 + 4..][..4],
            [20, 21, 22, 23].map(|i| byte(1, i)),
            "line 1 of codes, row 1"
        );
    }

    #[test]
    fn only_whole_sixteens_fit() {
        assert!(Layout::Rows16.fits(DType::Q4K, 32) && !Layout::Rows16.fits(DType::Q4K, 40));
        assert!(!Layout::Rows16.fits(DType::F16, 32) && Layout::Rows.fits(DType::F16, 3));
    }
}
