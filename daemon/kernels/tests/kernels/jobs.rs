//! Linear stages over part of the tokens, over heads, and over FP8 weights, against the reference's products in f64.

use crate::inputs::{Rng, cpus};
use kernels::{HeadWeights, Linear, Precision, Tokens};
use proptest::prelude::*;
use tensor::{BlockScale, DType, Matrix, SCALE_BLOCK, reference};

/// FP8 codes without the two that are no number, and scales about 1.
struct Fp8 {
    codes: Vec<u8>,
    scales: Vec<u8>,
    rows: usize,
    cols: usize,
}

impl Fp8 {
    fn new(rng: &mut Rng, rows: usize, cols: usize) -> Self {
        let code = |byte: u8| if byte & 0x7f == 0x7f { byte ^ 1 } else { byte };
        let codes = (0..rows * cols).map(|_| code(rng.next() as u8)).collect();
        let n_scales = rows.div_ceil(SCALE_BLOCK) * cols.div_ceil(SCALE_BLOCK);
        let scales = (0..n_scales).flat_map(|_| (rng.float() / 64.0).to_le_bytes()).collect();
        Self { codes, scales, rows, cols }
    }

    fn matrix(&self) -> Matrix<'_> {
        let [rows, cols] = [self.rows.div_ceil(SCALE_BLOCK), self.cols.div_ceil(SCALE_BLOCK)];
        let matrix = Matrix::new(DType::F8E4M3, self.rows, self.cols, &self.codes).expect("a byte a value");
        matrix.with_scale(BlockScale { rows, cols, data: &self.scales }).expect("a scale a block")
    }
}

/// `n u sum |w| |x|` of each row of W x, with u = 2^-24 (Higham 2002, section 3.1).
fn tolerances(w: &Matrix<'_>, x: &[f32], columns: bool) -> Vec<f32> {
    let magnitudes: Vec<f32> = (0..w.rows())
        .flat_map(|r| {
            let mut row = vec![0.0; w.cols()];
            w.decode_row(r, &mut row);
            row
        })
        .map(f32::abs)
        .collect();
    let bytes: Vec<u8> = magnitudes.into_iter().flat_map(f32::to_le_bytes).collect();
    let w = Matrix::new(DType::F32, w.rows(), w.cols(), &bytes).expect("as many values");
    let x: Vec<f32> = x.iter().map(|x| x.abs()).collect();
    let mut sums = vec![0.0; if columns { w.cols() } else { w.rows() }];
    match columns {
        true => reference::mat_vec_transposed(&mut sums, &w, &x),
        false => reference::mat_vec(&mut sums, &w, &x),
    }
    sums.into_iter().map(|sum| sum * (x.len() as f32 + 8.0) / (1 << 24) as f32).collect()
}

fn near(got: &[f32], want: &[f32], tolerance: &[f32]) -> Result<(), TestCaseError> {
    for ((got, want), tolerance) in got.iter().zip(want).zip(tolerance) {
        prop_assert!((got - want).abs() <= *tolerance, "{got}, want {want} +- {tolerance}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn fp8_products_match_f64(rows in 1_usize..300, cols in 1_usize..400, n_tokens in 1_usize..7, seed: u64) {
        let mut rng = Rng(seed);
        let (fp8, x) = (Fp8::new(&mut rng, rows, cols), rng.floats(n_tokens * cols));
        // A range that begins inside a block of scales.
        let weight = fp8.matrix().row_range(rows / 3, rows);
        let n = weight.rows();
        for precision in [Precision::F32, Precision::Fast] {
            for cpu in &mut cpus(precision) {
                let mut out = vec![f32::NAN; n_tokens * n];
                cpu.linear(&x, n_tokens, &mut [Linear::new(weight, &mut out)]);
                for (out, x) in out.chunks_exact(n).zip(x.chunks_exact(cols)) {
                    let mut want = vec![0.0; n];
                    reference::mat_vec(&mut want, &weight, x);
                    near(out, &want, &tolerances(&weight, x, false))?;
                }
            }
        }
    }

    #[test]
    fn a_job_for_some_tokens_gives_what_all_tokens_give(
        dtype in prop::sample::select(&[DType::F32, DType::BF16, DType::Q8_0, DType::Q4K][..]),
        rows in 1_usize..70,
        n_tokens in 2_usize..12,
        list in prop::collection::vec(0_u32..2, 0..20),
        seed: u64,
    ) {
        let (mut rng, cols) = (Rng(seed), 512);
        let (bytes, x) = (rng.weights(dtype, rows * cols), rng.floats(n_tokens * cols));
        let weight = Matrix::new(dtype, rows, cols, &bytes).expect("whole blocks");
        let list: Vec<u32> = list.into_iter().enumerate().map(|(i, t)| (t as usize * i % n_tokens) as u32).collect();
        let every = Tokens::Every { first: 1, step: 2, n: n_tokens / 2 };
        for precision in [Precision::F32, Precision::Fast] {
            for cpu in &mut cpus(precision) {
                let mut all = vec![f32::NAN; n_tokens * rows];
                let (mut listed, mut odd) = (vec![f32::NAN; list.len() * rows], vec![f32::NAN; n_tokens / 2 * rows]);
                cpu.linear(&x, n_tokens, &mut [Linear::new(weight, &mut all)]);
                cpu.linear(&x, n_tokens, &mut [
                    Linear::new(weight, &mut listed).tokens(Tokens::List(&list)),
                    Linear::new(weight, &mut odd).tokens(every),
                ]);
                let row = |token: usize| &all[token * rows..(token + 1) * rows];
                // Integer kernels add codes and offsets apart, in an order that depends on the number of tokens.
                let slack: Vec<f32> =
                    tolerances(&weight, &vec![1.0; cols], false).into_iter().map(|t| 8.0 * t).collect();
                for (got, &token) in listed.chunks_exact(rows).zip(&list) {
                    near(got, row(token as usize), &slack)?;
                }
                for (i, got) in odd.chunks_exact(rows).enumerate() {
                    near(got, row(2 * i + 1), &slack)?;
                }
            }
        }
    }

    #[test]
    fn every_head_has_a_matrix_of_its_own(
        fp8: bool,
        n_heads in 1_usize..5,
        first in 0_usize..40,
        rows in 1_usize..50,
        n_tokens in 1_usize..5,
        transposed: bool,
        transpose: bool,
        seed: u64,
    ) {
        let (mut rng, cols) = (Rng(seed), 96);
        let rows_a_head = first + rows + 3;
        let quantised = rng.weights(DType::Q8_0, n_heads * rows_a_head * cols);
        let fp8 = fp8.then(|| Fp8::new(&mut rng, n_heads * rows_a_head, cols));
        let weight = match &fp8 {
            Some(fp8) => fp8.matrix(),
            None => Matrix::new(DType::Q8_0, n_heads * rows_a_head, cols, &quantised).expect("whole blocks"),
        };
        let weights = HeadWeights { weight, rows_a_head, first, rows, transposed };
        let columns = transpose != transposed;
        let (n_in, n_out) = if columns { (rows, cols) } else { (cols, rows) };
        let (x_width, out_width) = (n_in + 5, n_out + 2);
        let x = rng.floats(n_tokens * n_heads * x_width);
        for cpu in &mut cpus(Precision::F32) {
            let mut out = vec![f32::NAN; n_tokens * n_heads * out_width];
            cpu.linear_heads((&mut out, out_width), (&x, x_width), n_heads, &weights, transpose);
            for (i, (out, x)) in out.chunks_exact(out_width).zip(x.chunks_exact(x_width)).enumerate() {
                let (matrix, x) = (weights.head(i % n_heads), &x[..n_in]);
                let mut want = vec![0.0; n_out];
                match columns {
                    true => reference::mat_vec_transposed(&mut want, &matrix, x),
                    false => reference::mat_vec(&mut want, &matrix, x),
                }
                near(&out[..n_out], &want, &tolerances(&matrix, x, columns))?;
                prop_assert!(out[n_out..].iter().all(|rest| rest.is_nan()), "nothing is written behind");
            }
        }
    }

    /// On integers too a head's product is that of its matrix alone.
    #[test]
    fn heads_on_the_fast_path_give_what_each_gives_alone(
        dtype in prop::sample::select(&[DType::Q8_0, DType::Q5_0, DType::Q4_0][..]),
        n_heads in 1_usize..5,
        rows in 1_usize..50,
        n_tokens in 1_usize..4,
        seed: u64,
    ) {
        let (mut rng, cols, x_width, out_width) = (Rng(seed), 96, 101, rows + 2);
        let bytes = rng.weights(dtype, n_heads * rows * cols);
        let weight = Matrix::new(dtype, n_heads * rows, cols, &bytes).expect("whole blocks");
        let weights = HeadWeights { weight, rows_a_head: rows, first: 0, rows, transposed: false };
        let x = rng.floats(n_tokens * n_heads * x_width);
        for cpu in &mut cpus(Precision::Fast) {
            let mut out = vec![f32::NAN; n_tokens * n_heads * out_width];
            cpu.linear_heads((&mut out, out_width), (&x, x_width), n_heads, &weights, false);
            for (i, (out, x)) in out.chunks_exact(out_width).zip(x.chunks_exact(x_width)).enumerate() {
                let mut alone = vec![f32::NAN; rows];
                cpu.linear(&x[..cols], 1, &mut [Linear::new(weights.head(i % n_heads), &mut alone)]);
                prop_assert_eq!(&out[..rows], &alone[..]);
            }
        }
    }
}
