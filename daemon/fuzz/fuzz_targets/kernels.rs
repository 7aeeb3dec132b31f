//! Shapes of every kind: interleaved rows beside rows as they lie, on every level, for any number of tokens.
#![no_main]

use kernels::{Cpu, CpuOptions, Level, Linear, Precision};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use tensor::{DType, LANES, Layout, Matrix, interleave, quant};

const TYPES: [DType; 12] = [
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

#[derive(Arbitrary, Debug)]
struct Shape {
    dtype: u8,
    sixteens: u8,
    blocks: u8,
    n_tokens: u8,
    threads: u8,
    seed: u64,
}

fuzz_target!(|shape: Shape| {
    let dtype = TYPES[usize::from(shape.dtype) % TYPES.len()];
    let rows = LANES * (1 + usize::from(shape.sixteens) % 7);
    let cols = dtype.block_values() * (1 + usize::from(shape.blocks) % 12);
    let n_tokens = 1 + usize::from(shape.n_tokens) % 40;
    let mut state = shape.seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    // Any bits are codes and scales, but half floats that are not finite make every sum meaningless.
    let mut bytes: Vec<u8> = (0..dtype.bytes_for(rows * cols).unwrap()).map(|_| next() as u8).collect();
    let mut values = vec![0.0; dtype.block_values()];
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        quant::dequantize(dtype, block, &mut values);
        if !values.iter().all(|value| value.abs() < 1e4) {
            block.fill(0);
        }
    }
    let x: Vec<f32> = (0..n_tokens * cols).map(|_| next() as f32 / (1_u32 << 30) as f32 - 1.0).collect();
    let mut laid = vec![0; bytes.len()];
    let sixteen = bytes.len() / (rows / LANES);
    for (rows, lanes) in bytes.chunks_exact(sixteen).zip(laid.chunks_exact_mut(sixteen)) {
        interleave(dtype, rows, lanes);
    }
    let plain = Matrix::new(dtype, rows, cols, &bytes).unwrap();
    let lanes = Matrix::new(dtype, rows, cols, &laid).unwrap().with_layout(Layout::Rows16).unwrap();
    let threads = 1 + usize::from(shape.threads) % 3;
    for level in Level::ALL.into_iter().filter(|level| *level <= Level::detect()) {
        let options =
            CpuOptions { threads: Some(threads), level: Some(level), precision: Precision::Fast, pin: false };
        let mut cpu = Cpu::new(options).unwrap();
        let mut product = |matrix: Matrix<'_>, x: &[f32], n: usize| {
            let mut out = vec![f32::NAN; n * rows];
            cpu.linear(x, n, &mut [Linear::new(matrix, &mut out)]);
            out
        };
        let (together, as_they_lie) = (product(lanes, &x, n_tokens), product(plain, &x, n_tokens));
        for (token, x) in x.chunks_exact(cols).enumerate() {
            let of_token = &together[token * rows..(token + 1) * rows];
            assert_eq!(product(lanes, x, 1), of_token, "{level}: token {token} as alone");
            let size = of_token.iter().fold(1.0_f32, |size, value| size.max(value.abs()));
            for (a, b) in of_token.iter().zip(&as_they_lie[token * rows..]) {
                assert!((a - b).abs() <= 1e-2 * size, "{level}: token {token}: {a}, and {b} as rows lie");
            }
        }
    }
});
