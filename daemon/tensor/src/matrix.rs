//! A weight matrix over bytes that somebody else owns.

use crate::interleaved::{LANES, Layout, deinterleave_row};
use crate::{DType, quant};

/// The bytes of a tensor don't fit its shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{dtype} matrix {rows} x {cols}: {got} bytes, want {want:?}")]
pub struct ShapeError {
    /// Data type of the matrix.
    pub dtype: DType,
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub cols: usize,
    /// Bytes given.
    pub got: usize,
    /// Bytes that the shape takes; `None` where a row is no whole number of blocks or the size overflows.
    pub want: Option<usize>,
}

/// Bytes of the largest block that is interleaved (Q6_K).
const BLOCK_BYTES_MAX: usize = 210;
/// Rows and columns that share one FP8 scale; the last block of a row or column may be partial.
pub const SCALE_BLOCK: usize = 128;

/// Scales of an FP8 matrix: `value[r, c] = code[r, c] * scale[r / 128, c / 128]`.
#[derive(Clone, Copy, Debug)]
pub struct BlockScale<'a> {
    /// Rows of scales: `rows.div_ceil(128)`.
    pub rows: usize,
    /// Scales in a row: `cols.div_ceil(128)`.
    pub cols: usize,
    /// F32, little-endian, `[rows, cols]`.
    pub data: &'a [u8],
}

impl BlockScale<'_> {
    /// The scale of the block that holds value `[row, col]`.
    ///
    /// # Panics
    /// The position is out of range: a programmer's error.
    #[inline]
    pub fn at(&self, row: usize, col: usize) -> f32 {
        let i = (row / SCALE_BLOCK * self.cols + col / SCALE_BLOCK) * 4;
        f32::from_le_bytes(self.data[i..i + 4].try_into().expect("four bytes"))
    }
}

/// A weight matrix [rows, cols], each row a whole number of blocks.
///
/// ```text
/// data: | row 0: cols / block_values blocks | row 1 | ... | row rows-1 |      or interleaved: see [`Layout`]
/// ```
///
/// `y = W x` takes `x` of length `cols` to `y` of length `rows`. The bytes are borrowed, as a rule from a
/// mapped file. An FP8 matrix has its scales beside it.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    layout: Layout,
    data: &'a [u8],
    scale: Option<BlockScale<'a>>,
    /// Row 0's place in the matrix that `scale` is of.
    scale_row: usize,
}

impl<'a> Matrix<'a> {
    /// Checks that `data` is exactly `rows` rows of `cols` values.
    pub fn new(dtype: DType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self, ShapeError> {
        let want = dtype.bytes_for(cols).and_then(|row| row.checked_mul(rows));
        if want != Some(data.len()) {
            return Err(ShapeError { dtype, rows, cols, got: data.len(), want });
        }
        Ok(Self { dtype, rows, cols, layout: Layout::Rows, data, scale: None, scale_row: 0 })
    }

    /// The same bytes, lying otherwise; `None` where the type or the number of rows can't lie so.
    pub fn with_layout(self, layout: Layout) -> Option<Self> {
        layout.fits(self.dtype, self.rows).then_some(Self { layout, ..self })
    }

    /// The matrix with block scales on its values; `None` where their shape is not the matrix's.
    pub fn with_scale(self, scale: BlockScale<'a>) -> Option<Self> {
        let want = [self.rows.div_ceil(SCALE_BLOCK), self.cols.div_ceil(SCALE_BLOCK)];
        let fits = [scale.rows, scale.cols] == want && scale.data.len() == want[0] * want[1] * 4;
        fits.then_some(Self { scale: Some(scale), ..self })
    }

    /// Scales of an FP8 matrix; `None` of a part of one, too, unless it begins with the matrix.
    pub fn scale(&self) -> Option<BlockScale<'a>> {
        self.scale.filter(|_| self.scale_row == 0)
    }

    /// The factor on value `[row, col]`, constant over the block of columns that `col` is in; 1 where there are no scales.
    #[inline]
    pub fn scale_at(&self, row: usize, col: usize) -> f32 {
        self.scale.map_or(1.0, |scale| scale.at(self.scale_row + row, col))
    }

    /// Row `row` as f32, scales applied. `out`: [cols].
    ///
    /// # Panics
    /// `row` is out of range or `out` has another length: a programmer's error.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        match self.layout {
            Layout::Rows => quant::dequantize(self.dtype, self.row(row), out),
            Layout::Rows16 => self.decode_lane(row, out),
        }
        if self.scale.is_some() {
            for (i, block) in out.chunks_mut(SCALE_BLOCK).enumerate() {
                let scale = self.scale_at(row, i * SCALE_BLOCK);
                block.iter_mut().for_each(|value| *value *= scale);
            }
        }
    }

    /// Row `row` of interleaved ones, block by block.
    fn decode_lane(&self, row: usize, out: &mut [f32]) {
        let first = row / LANES * LANES;
        let lanes = self.row_range(first, first + LANES).data;
        let (values, bytes) = (self.dtype.block_values(), self.dtype.block_bytes());
        assert_eq!(out.len(), self.cols, "a row of values");
        let mut block = [0; BLOCK_BYTES_MAX];
        for (out, lanes) in out.chunks_exact_mut(values).zip(lanes.chunks_exact(LANES * bytes)) {
            deinterleave_row(self.dtype, lanes, row - first, &mut block[..bytes]);
            quant::dequantize(self.dtype, &block[..bytes], out);
        }
    }

    /// Order of the bytes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Data type of every value.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of rows: the length of `W x`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row: the length of `x`.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All the bytes.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Bytes that one row takes.
    pub fn row_bytes(&self) -> usize {
        self.dtype.bytes_for(self.cols).expect("checked by new")
    }

    /// The bytes of row `row` of a matrix that lies row after row.
    ///
    /// # Panics
    /// `row` is out of range, or rows are interleaved: a programmer's error.
    pub fn row(&self, row: usize) -> &'a [u8] {
        assert_eq!(self.layout, Layout::Rows, "one row's bytes are together");
        let n = self.row_bytes();
        &self.data[row * n..(row + 1) * n]
    }

    /// Rows `start..end` as a matrix of their own.
    ///
    /// # Panics
    /// The range is out of bounds, or cuts through interleaved rows: a programmer's error.
    pub fn row_range(&self, start: usize, end: usize) -> Matrix<'a> {
        assert!(self.layout == Layout::Rows || (start % LANES, end % LANES) == (0, 0), "whole sixteens");
        let n = self.row_bytes();
        let data = &self.data[start * n..end * n];
        Matrix { rows: end - start, data, scale_row: self.scale_row + start, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interleave;

    #[test]
    fn interleaved_rows_decode_as_they_did() {
        for dtype in DType::all().filter(|&dtype| Layout::Rows16.fits(dtype, LANES)) {
            assert!(dtype.block_bytes() <= BLOCK_BYTES_MAX, "{dtype}");
            let (rows, cols) = (2 * LANES, 2 * dtype.block_values());
            let row_bytes = dtype.bytes_for(cols).unwrap();
            // Small bytes: scales are numbers.
            let bytes: Vec<u8> = (0..rows * row_bytes).map(|i| (i * 7 % 31) as u8).collect();
            let mut lanes = vec![0; bytes.len()];
            for (rows, lanes) in
                bytes.chunks_exact(LANES * row_bytes).zip(lanes.chunks_exact_mut(LANES * row_bytes))
            {
                interleave(dtype, rows, lanes);
            }
            let plain = Matrix::new(dtype, rows, cols, &bytes).unwrap();
            let lanes = Matrix::new(dtype, rows, cols, &lanes).unwrap().with_layout(Layout::Rows16).unwrap();
            let decode = |matrix: &Matrix<'_>, row| {
                let mut out = vec![f32::NAN; cols];
                matrix.decode_row(row, &mut out);
                out
            };
            for row in 0..rows {
                assert_eq!(decode(&lanes, row), decode(&plain, row), "{dtype} row {row}");
            }
            assert_eq!(decode(&lanes.row_range(16, 32), 3), decode(&plain, 19), "{dtype}");
        }
    }

    #[test]
    #[should_panic(expected = "whole sixteens")]
    fn interleaved_rows_are_not_cut_apart() {
        let lanes = Matrix::new(DType::Q8_0, 32, 32, &[0; 32 * 34]).unwrap();
        lanes.with_layout(Layout::Rows16).unwrap().row_range(8, 24);
    }
}
