//! A tensor of an opened model: its description and its mapped bytes.

use tensor::{BlockScale, DType, Matrix, quant};

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
    /// Row after row, little-endian, no alignment promised.
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
        let matrix = Matrix::new(self.dtype, rows, cols, self.data).map_err(|_| self.not_a_matrix())?;
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
            [.., _, _, cols] => {
                let n_rows = self.len() / cols.max(1);
                Matrix::new(self.dtype, n_rows, cols, self.data).map_err(|_| self.not_a_matrix())
            }
            _ => self.matrix(),
        }
    }

    fn not_a_matrix(&self) -> Error {
        Error::NotAMatrix { tensor: self.name.into(), shape: self.shape.into() }
    }

    /// All values as f32, with FP8 scales applied; integers are converted.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        decode(self.dtype, self.data, &mut out);
        if let (Some(scale), &[_, cols]) = (self.scale, self.shape) {
            for (row, values) in out.chunks_exact_mut(cols).enumerate() {
                for (col, value) in values.iter_mut().enumerate() {
                    *value *= scale.at(row, col);
                }
            }
        }
        out
    }
}

/// Decodes every data type, plain integers included.
fn decode(dtype: DType, data: &[u8], out: &mut [f32]) {
    if dtype == DType::I32 {
        for (value, bytes) in out.iter_mut().zip(data.chunks_exact(4)) {
            *value = i32::from_le_bytes(bytes.try_into().expect("four bytes")) as f32;
        }
    } else {
        quant::dequantize(dtype, data, out);
    }
}
