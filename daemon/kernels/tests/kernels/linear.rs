//! Linear stages against the reference's products in f64.

use crate::inputs::{Rng, cpus};
use kernels::{Cpu, Linear, Precision};
use proptest::prelude::*;
use tensor::{DType, LANES, Layout, Matrix, interleave, quant, reference};

/// Multiplied in integers where activations are quantised.
const INTEGER: [DType; 12] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::IQ4NL,
    DType::IQ4XS,
];
/// Read as they are, or (the last two) dequantised at either precision.
const FLOAT: [DType; 5] = [DType::F32, DType::F16, DType::BF16, DType::IQ2XXS, DType::MXFP4];

/// Codes and scales as the integer kernels make them: like the reference, but multiplying by the inverse of the scale.
fn quantised(x: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let (mut codes, mut scales) = (vec![0; x.len()], vec![0.0; x.len().div_ceil(32)]);
    reference::quantise_activations(x, &mut codes, &mut scales, &mut vec![0; x.len().div_ceil(32)]);
    for ((code, x), scale) in codes.iter_mut().zip(x).zip(scales.iter().flat_map(|scale| [scale; 32])) {
        let product = if *scale > 0.0 { x * scale.recip() } else { 0.0 };
        assert!((product - f32::from(*code)).abs() <= 0.5001, "the reference rounds the quotient");
        *code = product.round_ties_even() as i8;
    }
    (codes, scales)
}

/// The product as the reference computes it, and how far rounding may lead from it: `n u sum |w| |x|`, with u = 2^-24
/// (Higham 2002, section 3.1). Integer kernels add codes and offsets of a block apart, each up to its largest weight.
fn want(dtype: DType, row: &[u8], x: &[f32], integers: bool) -> (f32, f32) {
    let mut w = vec![0.0; x.len()];
    quant::dequantize(dtype, row, &mut w);
    let largest = |w: &[f32]| w.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
    let u = (x.len() as f32 + 8.0) / (1 << 24) as f32;
    if !integers {
        return (reference::dot(&w, x), u * w.iter().zip(x).map(|(w, x)| (w * x).abs()).sum::<f32>());
    }
    let (codes, scales) = quantised(x);
    let blocks = w.chunks(32).zip(x.chunks(32));
    let size: f32 = blocks.map(|(w, x)| 4.0 * largest(w) * x.iter().map(|x| x.abs()).sum::<f32>()).sum();
    (reference::dot_quantised(dtype, row, &codes, &scales), u * size)
}

/// A stage of two jobs, of `rows` and of a few more rows of one matrix.
#[derive(Clone, Copy, Debug)]
struct Case {
    dtype: DType,
    layout: Layout,
    rows: usize,
    cols: usize,
    n_tokens: usize,
    seed: u64,
}

impl Case {
    /// The same with interleaved rows, where the type has them: whole sixteens.
    fn interleaved(self) -> Option<Self> {
        let rows = self.rows.next_multiple_of(LANES);
        let layout = Layout::Rows16;
        layout.fits(self.dtype, rows).then_some(Self { layout, rows, ..self })
    }

    /// Runs both jobs, the first with a bias, and checks every product.
    fn check(self, cpu: &mut Cpu) -> Result<(), TestCaseError> {
        let Self { dtype, layout, rows, cols, n_tokens, seed } = self;
        let few = if layout == Layout::Rows { 3 } else { LANES };
        let mut rng = Rng(seed);
        let bytes = rng.weights(dtype, (rows + few) * cols);
        let plain = Matrix::new(dtype, rows + few, cols, &bytes).expect("whole blocks");
        let laid = laid_out(&plain, layout);
        let all = Matrix::new(dtype, rows + few, cols, &laid[1..]).expect("whole blocks");
        let all = all.with_layout(layout).expect("whole sixteens");
        let (bias, x) = (rng.floats(rows), rng.floats(n_tokens * cols));
        let (mut out, mut small) = (vec![f32::NAN; n_tokens * rows], vec![f32::NAN; n_tokens * few]);
        cpu.linear(
            &x,
            n_tokens,
            &mut [
                Linear::new(all.row_range(0, rows), &mut out).bias(Some(&bias)),
                Linear::new(all.row_range(rows, rows + few), &mut small),
            ],
        );
        let integers = cpu.precision() == Precision::Fast && INTEGER.contains(&dtype);
        for row in 0..rows + few {
            for (token, x) in x.chunks_exact(cols).enumerate() {
                let (want, tolerance) = want(dtype, plain.row(row), x, integers);
                let (got, bias) = match row.checked_sub(rows) {
                    None => (out[token * rows + row], bias[row]),
                    Some(row) => (small[token * few + row], 0.0),
                };
                prop_assert!(
                    (got - (want + bias)).abs() <= tolerance + 1e-6 * bias.abs(),
                    "{self:?}, {} x{}: row {row} token {token}: {got}, want {want} + {bias}",
                    cpu.level(),
                    cpu.n_threads(),
                );
            }
        }
        Ok(())
    }
}

/// The matrix's bytes in another order, from index 1 on: weights begin at an odd address, as they may in a mapped file.
fn laid_out(plain: &Matrix<'_>, layout: Layout) -> Vec<u8> {
    let mut laid = vec![0; 1 + plain.data().len()];
    match layout {
        Layout::Rows => laid[1..].copy_from_slice(plain.data()),
        Layout::Rows16 => {
            let bytes = LANES * plain.row_bytes();
            for (rows, lanes) in plain.data().chunks_exact(bytes).zip(laid[1..].chunks_exact_mut(bytes)) {
                interleave(plain.dtype(), rows, lanes);
            }
        }
    }
    laid
}

/// Row lengths: whole blocks, from one to odd tails behind whole steps.
fn cols(dtype: DType) -> impl Strategy<Value = usize> {
    let values = dtype.block_values();
    (1..=700 / values.max(8) + 1).prop_map(move |n| n * values)
}

/// A matrix and a number of tokens.
fn cases(
    types: Vec<DType>,
    rows: std::ops::Range<usize>,
    n_tokens: std::ops::Range<usize>,
) -> impl Strategy<Value = Case> {
    let shape = prop::sample::select(types).prop_flat_map(|dtype| (Just(dtype), cols(dtype)));
    (shape, rows, n_tokens, any::<u64>()).prop_map(|((dtype, cols), rows, n_tokens, seed)| Case {
        dtype,
        layout: Layout::Rows,
        rows,
        cols,
        n_tokens,
        seed,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn integer_products_match_quantised_activations(case in cases(INTEGER.into(), 1..80, 1..15)) {
        for cpu in &mut cpus(Precision::Fast) {
            case.check(cpu)?;
            case.interleaved().expect("every integer format is interleaved").check(cpu)?;
        }
    }

    #[test]
    fn float_products_match_f64(case in cases([&INTEGER[..], &FLOAT[..]].concat(), 1..40, 1..10)) {
        for cpu in &mut cpus(Precision::F32) {
            case.check(cpu)?;
            case.interleaved().map_or(Ok(()), |case| case.check(cpu))?;
        }
        if FLOAT.contains(&case.dtype) {
            for cpu in &mut cpus(Precision::Fast) {
                case.check(cpu)?;
            }
        }
    }
}

#[test]
fn every_integer_format_matches_at_every_token_count() {
    for cpu in &mut cpus(Precision::Fast) {
        for dtype in INTEGER {
            for n_tokens in [1, 2, 3, 4, 5, 7, 9, 14] {
                let cols = if dtype.block_values() == 32 { 288 } else { 512 };
                let case = Case { dtype, layout: Layout::Rows, rows: 67, cols, n_tokens, seed: 7 };
                case.check(cpu).expect("products match");
                case.interleaved().expect("interleaved").check(cpu).expect("products match");
            }
        }
    }
}

#[test]
fn wide_batches_split_over_tiles_and_threads() {
    for cpu in &mut cpus(Precision::Fast) {
        let case =
            Case { dtype: DType::Q4_1, layout: Layout::Rows, rows: 300, cols: 576, n_tokens: 40, seed: 11 };
        case.check(cpu).expect("products match");
        case.interleaved().expect("interleaved").check(cpu).expect("products match");
    }
}

#[test]
fn zero_activations_give_the_bias() {
    for cpu in &mut cpus(Precision::Fast) {
        let bytes = Rng(3).weights(DType::Q4_0, 64);
        let weight = Matrix::new(DType::Q4_0, 2, 32, &bytes).expect("whole blocks");
        let mut out = [f32::NAN; 2];
        cpu.linear(&[0.0; 32], 1, &mut [Linear::new(weight, &mut out).bias(Some(&[1.5, -2.0]))]);
        assert_eq!(out, [1.5, -2.0]);
    }
}

#[test]
fn a_few_rows_are_computed_as_each_alone_bit_for_bit() {
    let n_tokens = kernels::EXACT_ROWS;
    for precision in [Precision::F32, Precision::Fast] {
        for cpu in &mut cpus(precision) {
            for dtype in INTEGER.into_iter().chain(FLOAT) {
                let (rows, cols) = (67, 1280);
                let mut rng = Rng(13);
                let (bytes, x) = (rng.weights(dtype, rows * cols), rng.floats(n_tokens * cols));
                let weight = Matrix::new(dtype, rows, cols, &bytes).expect("whole blocks");
                let mut together = vec![f32::NAN; n_tokens * rows];
                cpu.linear(&x, n_tokens, &mut [Linear::new(weight, &mut together)]);
                for (x, together) in x.chunks_exact(cols).zip(together.chunks_exact(rows)) {
                    let mut alone = vec![f32::NAN; rows];
                    cpu.linear(x, 1, &mut [Linear::new(weight, &mut alone)]);
                    assert_eq!(alone, together, "{dtype}, {}", cpu.level());
                }
            }
        }
    }
}

#[test]
fn interleaved_rows_are_computed_as_alone_beside_any_number_of_tokens() {
    for cpu in &mut cpus(Precision::Fast) {
        for dtype in INTEGER {
            for n_tokens in [23, 43] {
                check_as_alone(cpu, dtype, (80, 1280), n_tokens);
            }
        }
        // Full and partial tiles of tokens, columns that are unpacked in several parts, the last one short.
        for n_tokens in [5, 9, 12, 16, 33, 57, 70] {
            for (dtype, cols) in
                [(DType::Q4K, 2304), (DType::Q6K, 2304), (DType::Q8_0, 2080), (DType::Q4_0, 1056)]
            {
                check_as_alone(cpu, dtype, (32, cols), n_tokens);
            }
        }
    }
}

/// Multiplies a matrix with all tokens, and with each alone.
fn check_as_alone(cpu: &mut Cpu, dtype: DType, (rows, cols): (usize, usize), n_tokens: usize) {
    let mut rng = Rng(17);
    let (bytes, x) = (rng.weights(dtype, rows * cols), rng.floats(n_tokens * cols));
    let plain = Matrix::new(dtype, rows, cols, &bytes).expect("whole blocks");
    let laid = laid_out(&plain, Layout::Rows16);
    let weight = Matrix::new(dtype, rows, cols, &laid[1..]).expect("whole blocks");
    let weight = weight.with_layout(Layout::Rows16).expect("whole sixteens");
    let mut together = vec![f32::NAN; n_tokens * rows];
    cpu.linear(&x, n_tokens, &mut [Linear::new(weight, &mut together)]);
    for (x, together) in x.chunks_exact(cols).zip(together.chunks_exact(rows)) {
        let mut alone = vec![f32::NAN; rows];
        cpu.linear(x, 1, &mut [Linear::new(weight, &mut alone)]);
        assert_eq!(alone, together, "{dtype}, {}", cpu.level());
    }
}
