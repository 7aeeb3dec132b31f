//! Linear stages against the reference's products in f64.

use crate::inputs::{Rng, cpus};
use kernels::{Cpu, Level, Linear, Precision};
use proptest::prelude::*;
use tensor::{DType, Matrix, quant, reference};

const INTEGER: [DType; 8] =
    [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0, DType::Q4K, DType::Q5K, DType::Q6K];
/// Read as they are, or (the last four) dequantised at either precision.
const FLOAT: [DType; 7] =
    [DType::F32, DType::F16, DType::BF16, DType::Q2K, DType::Q3K, DType::IQ4NL, DType::IQ4XS];

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

/// Runs two jobs of `rows` and 3 rows, the first with a bias, and checks every product.
fn check(
    cpu: &mut Cpu,
    dtype: DType,
    rows: usize,
    cols: usize,
    n_tokens: usize,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = Rng(seed);
    let bytes = rng.weights(dtype, (rows + 3) * cols);
    // Weights begin at an odd address, as they may in a mapped file.
    let mut unaligned = vec![0];
    unaligned.extend_from_slice(&bytes);
    let all = Matrix::new(dtype, rows + 3, cols, &unaligned[1..]).expect("whole blocks");
    let (bias, x) = (rng.floats(rows), rng.floats(n_tokens * cols));
    let (mut out, mut small) = (vec![f32::NAN; n_tokens * rows], vec![f32::NAN; n_tokens * 3]);
    cpu.linear(
        &x,
        n_tokens,
        &mut [
            Linear::new(all.row_range(0, rows), &mut out).bias(Some(&bias)),
            Linear::new(all.row_range(rows, rows + 3), &mut small),
        ],
    );
    let integers =
        cpu.precision() == Precision::Fast && INTEGER.contains(&dtype) && cpu.level() != Level::Scalar;
    for row in 0..rows + 3 {
        for (token, x) in x.chunks_exact(cols).enumerate() {
            let (want, tolerance) = want(dtype, all.row(row), x, integers);
            let (got, bias) = match row.checked_sub(rows) {
                None => (out[token * rows + row], bias[row]),
                Some(row) => (small[token * 3 + row], 0.0),
            };
            prop_assert!(
                (got - (want + bias)).abs() <= tolerance + 1e-6 * bias.abs(),
                "{dtype} {rows}x{cols}, {n_tokens} tokens, {} x{}: row {row} token {token}: {got}, want {want} + {bias}",
                cpu.level(),
                cpu.n_threads(),
            );
        }
    }
    Ok(())
}

/// Row lengths: whole blocks, from one to odd tails behind whole steps.
fn cols(dtype: DType) -> impl Strategy<Value = usize> {
    let values = dtype.block_values();
    (1..=700 / values.max(8) + 1).prop_map(move |n| n * values)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn integer_products_match_quantised_activations(
        (dtype, cols) in prop::sample::select(&INTEGER[..]).prop_flat_map(|dtype| (Just(dtype), cols(dtype))),
        rows in 1_usize..80,
        n_tokens in 1_usize..15,
        seed: u64,
    ) {
        for cpu in &mut cpus(Precision::Fast) {
            check(cpu, dtype, rows, cols, n_tokens, seed)?;
        }
    }

    #[test]
    fn float_products_match_f64(
        (dtype, cols) in prop::sample::select([&INTEGER[..], &FLOAT[..]].concat())
            .prop_flat_map(|dtype| (Just(dtype), cols(dtype))),
        rows in 1_usize..40,
        n_tokens in 1_usize..10,
        seed: u64,
    ) {
        for cpu in &mut cpus(Precision::F32) {
            check(cpu, dtype, rows, cols, n_tokens, seed)?;
        }
        if FLOAT.contains(&dtype) {
            for cpu in &mut cpus(Precision::Fast) {
                check(cpu, dtype, rows, cols, n_tokens, seed)?;
            }
        }
    }
}

#[test]
fn every_integer_format_matches_at_every_token_count() {
    for cpu in &mut cpus(Precision::Fast) {
        for dtype in INTEGER {
            for n_tokens in [1, 2, 3, 7, 14] {
                let cols = if dtype.block_values() == 32 { 288 } else { 512 };
                check(cpu, dtype, 67, cols, n_tokens, 7).expect("products match");
            }
        }
    }
}

#[test]
fn wide_batches_split_over_panels_and_threads() {
    for cpu in &mut cpus(Precision::Fast) {
        check(cpu, DType::Q4_1, 300, 576, 40, 11).expect("products match");
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
