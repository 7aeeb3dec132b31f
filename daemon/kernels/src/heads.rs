//! Weights that every head has a matrix of its own of, stacked in one tensor.

use tensor::Matrix;

/// One matrix a head, as rows of a joint tensor that may hold other matrices of the head too.
///
/// ```text
/// weight:  | head 0: rows_a_head rows                 | head 1 ...     each row [cols]
///          |   first   | rows: this matrix |          |
/// ```
///
/// MLA's `attn_kv_b` [n_heads * (nope + v), rank] holds W_uk (`first: 0, rows: nope`) and W_uv (`first: nope, rows: v`)
/// of every head; the split `attn_k_b` [n_heads * rank, nope] holds the transpose of W_uk (`first: 0, rows: rank`).
#[derive(Clone, Copy, Debug)]
pub struct HeadWeights<'a> {
    /// The tensor, [n_heads * rows_a_head, cols].
    pub weight: Matrix<'a>,
    /// Rows of the tensor that belong to a head.
    pub rows_a_head: usize,
    /// Where among them this matrix begins.
    pub first: usize,
    /// Its rows.
    pub rows: usize,
    /// True where the tensor stores the transpose of the head's matrix.
    pub transposed: bool,
}

impl<'a> HeadWeights<'a> {
    /// Heads that the tensor has whole matrices of.
    pub fn n_heads(&self) -> usize {
        self.weight.rows() / self.rows_a_head
    }

    /// The matrix of head `h` as it is stored: [rows, cols].
    ///
    /// # Panics
    /// The head is out of range: a programmer's error.
    pub fn head(&self, h: usize) -> Matrix<'a> {
        let start = h * self.rows_a_head + self.first;
        self.weight.row_range(start, start + self.rows)
    }

    /// Shape [rows, cols] of a head's matrix, as it is meant: transposed back where it is stored so.
    pub fn shape(&self) -> [usize; 2] {
        let stored = [self.rows, self.weight.cols()];
        if self.transposed { [stored[1], stored[0]] } else { stored }
    }
}

#[cfg(test)]
mod tests {
    use tensor::DType;

    use super::*;

    #[test]
    fn a_joint_tensor_is_cut_by_heads() {
        // Two heads of 2 + 1 rows; every value is its row's number.
        let bytes: Vec<u8> = (0..6).flat_map(|row| [row as f32; 4]).flat_map(f32::to_le_bytes).collect();
        let weight = Matrix::new(DType::F32, 6, 4, &bytes).unwrap();
        let k = HeadWeights { weight, rows_a_head: 3, first: 0, rows: 2, transposed: false };
        let v = HeadWeights { first: 2, rows: 1, transposed: true, ..k };
        let mut row = [0.0; 4];
        k.head(1).decode_row(1, &mut row);
        assert_eq!(row, [4.0; 4]);
        v.head(1).decode_row(0, &mut row);
        assert_eq!(row, [5.0; 4]);
        assert_eq!((k.n_heads(), k.shape(), v.shape()), (2, [2, 4], [4, 1]));
    }
}
