//! A tensor of an opened model: its description and its mapped bytes.

use tensor::{BlockScale, DType, Layout, Matrix, quant};

use crate::Error;

/// A tensor, borrowed from the file it lies in.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// GGUF's name.
    pub name: &'a str,
    /// The name in the source file.
    pub published: &'a str,
    /// How the values are stored.
    pub dtype: DType,
    /// Outermost dimension first: `[rows, cols]`.
    pub shape: &'a [usize],
    /// Order of the bytes.
    pub layout: Layout,
    /// As `layout` says, little-endian, no alignment promised.
    pub data: &'a [u8],
    /// Block scales of an FP8 tensor.
    pub scale: Option<BlockScale<'a>>,
}

impl<'a> Tensor<'a> {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if some dimension is 0; no opened model has such a tensor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor as a matrix, with its scales.
    ///
    /// # Errors
    /// The tensor has not exactly two dimensions.
    pub fn matrix(&self) -> Result<Matrix<'a>, Error> {
        let &[rows, cols] = self.shape else { return Err(self.not_a_matrix()) };
        let matrix = self.rows(rows, cols)?;
        match self.scale {
            Some(scale) => matrix.with_scale(scale).ok_or_else(|| self.not_a_matrix()),
            None => Ok(matrix),
        }
    }

    /// The tensor as a matrix of the rows of its last dimension, whatever the dimensions before.
    ///
    /// # Errors
    /// The tensor has fewer than two dimensions.
    pub fn stacked(&self) -> Result<Matrix<'a>, Error> {
        match *self.shape {
            [.., _, _, cols] => self.rows(self.len() / cols.max(1), cols),
            _ => self.matrix(),
        }
    }

    /// The bytes as a matrix of this shape, without scales.
    fn rows(&self, rows: usize, cols: usize) -> Result<Matrix<'a>, Error> {
        let matrix = Matrix::new(self.dtype, rows, cols, self.data).ok();
        matrix.and_then(|matrix| matrix.with_layout(self.layout)).ok_or_else(|| self.not_a_matrix())
    }

    fn not_a_matrix(&self) -> Error {
        Error::NotAMatrix { tensor: self.name.into(), shape: self.shape.into() }
    }

    /// All values as f32, with FP8 scales applied; integers are converted.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        match self.matrix() {
            Ok(matrix) if self.dtype != DType::I32 => {
                let rows = out.chunks_exact_mut(matrix.cols());
                rows.enumerate().for_each(|(row, out)| matrix.decode_row(row, out));
            }
            _ => decode(self.dtype, self.data, &mut out),
        }
        out
    }
}

/// Decodes values that lie one after another, of every data type, plain integers included.
fn decode(dtype: DType, data: &[u8], out: &mut [f32]) {
    if dtype == DType::I32 {
        for (value, bytes) in out.iter_mut().zip(data.chunks_exact(4)) {
            *value = i32::from_le_bytes(bytes.try_into().expect("four bytes")) as f32;
        }
    } else {
        quant::dequantize(dtype, data, out);
    }
}
