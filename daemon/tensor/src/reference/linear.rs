//! Products with weight matrices.

use crate::Matrix;

/// Dot product: sum_i a[i] b[i], summed in f64.
///
/// # Panics
/// Lengths differ: a programmer's error.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot of equal lengths");
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32
}

/// y = W x: out[r] = sum_c W[r, c] x[c], every row dequantised first.
///
/// `w`: [rows, cols]; `x`: [cols]; `out`: [rows].
///
/// # Panics
/// Lengths don't fit the matrix: a programmer's error.
pub fn mat_vec(out: &mut [f32], w: &Matrix<'_>, x: &[f32]) {
    assert!(out.len() == w.rows() && x.len() == w.cols(), "y = W x");
    let mut row = vec![0.0; w.cols()];
    for (r, out) in out.iter_mut().enumerate() {
        w.decode_row(r, &mut row);
        *out = dot(&row, x);
    }
}

/// y = W^T x: out[c] = sum_r W[r, c] x[r], every row dequantised first, summed in f64.
///
/// `w`: [rows, cols]; `x`: [rows]; `out`: [cols].
///
/// # Panics
/// Lengths don't fit the matrix: a programmer's error.
pub fn mat_vec_transposed(out: &mut [f32], w: &Matrix<'_>, x: &[f32]) {
    assert!(out.len() == w.cols() && x.len() == w.rows(), "y = W^T x");
    let (mut row, mut sums) = (vec![0.0; w.cols()], vec![0f64; w.cols()]);
    for (r, &x) in x.iter().enumerate() {
        w.decode_row(r, &mut row);
        sums.iter_mut().zip(&row).for_each(|(sum, &w)| *sum += f64::from(w) * f64::from(x));
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
}

/// Row `id` of an embedding table, dequantised.
///
/// `table`: [n_vocab, d_model]; `out`: [d_model].
///
/// # Panics
/// `id` is out of range or `out` is no row: a programmer's error.
pub fn embedding(out: &mut [f32], table: &Matrix<'_>, id: usize) {
    table.decode_row(id, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    /// [[1, 2], [3, 4], [-5, 0.5]]
    fn matrix() -> Vec<u8> {
        [1f32, 2.0, 3.0, 4.0, -5.0, 0.5].iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn mat_vec_takes_columns_to_rows() {
        let bytes = matrix();
        let w = Matrix::new(DType::F32, 3, 2, &bytes).unwrap();
        let mut out = [0.0; 3];
        mat_vec(&mut out, &w, &[10.0, 100.0]);
        assert_eq!(out, [210.0, 430.0, 0.0]);
    }

    #[test]
    fn embedding_is_a_row() {
        let bytes = matrix();
        let table = Matrix::new(DType::F32, 3, 2, &bytes).unwrap();
        let mut out = [0.0; 2];
        embedding(&mut out, &table, 2);
        assert_eq!(out, [-5.0, 0.5]);
    }

    #[test]
    fn dot_survives_cancellation() {
        assert_eq!(dot(&[1e8, 1.0, -1e8], &[1.0; 3]), 1.0);
    }
}
