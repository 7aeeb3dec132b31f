//! A weight matrix over bytes that somebody else owns.

use crate::DType;

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

/// A weight matrix [rows, cols], row-major, each row a whole number of blocks.
///
/// ```text
/// data: | row 0: cols / block_values blocks | row 1 | ... | row rows-1 |
/// ```
///
/// `y = W x` takes `x` of length `cols` to `y` of length `rows`. The bytes are borrowed, as a rule from a
/// mapped file.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    data: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// Checks that `data` is exactly `rows` rows of `cols` values.
    pub fn new(dtype: DType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self, ShapeError> {
        let want = dtype.bytes_for(cols).and_then(|row| row.checked_mul(rows));
        if want != Some(data.len()) {
            return Err(ShapeError { dtype, rows, cols, got: data.len(), want });
        }
        Ok(Self { dtype, rows, cols, data })
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

    /// Bytes in one row.
    pub fn row_bytes(&self) -> usize {
        self.dtype.bytes_for(self.cols).expect("checked by new")
    }

    /// The bytes of row `row`.
    ///
    /// # Panics
    /// `row` is out of range: a programmer's error.
    pub fn row(&self, row: usize) -> &'a [u8] {
        let n = self.row_bytes();
        &self.data[row * n..(row + 1) * n]
    }

    /// Rows `start..end` as a matrix of their own.
    ///
    /// # Panics
    /// The range is out of bounds: a programmer's error.
    pub fn row_range(&self, start: usize, end: usize) -> Matrix<'a> {
        let n = self.row_bytes();
        Matrix { rows: end - start, data: &self.data[start * n..end * n], ..*self }
    }
}
