//! Inputs for the tests: seeded numbers and weights of every format.

use kernels::{Cpu, CpuOptions, Level, Precision};
use tensor::DType;

/// A small generator (SplitMix64, Steele et al. 2014): tests print its seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Uniform in -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// Blocks of `n` values: random codes, scales about 1/16 (a random byte there could be infinite).
    pub(crate) fn weights(&mut self, dtype: DType, n: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..dtype.bytes_for(n).expect("whole blocks")).map(|_| self.next() as u8).collect();
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            match dtype {
                DType::F32 => block.copy_from_slice(&self.float().to_le_bytes()),
                DType::F16 => block.copy_from_slice(&half::f16::from_f32(self.float()).to_le_bytes()),
                DType::BF16 => block.copy_from_slice(&half::bf16::from_f32(self.float()).to_le_bytes()),
                DType::MXFP4 => block[0] = 120 + block[0] % 8,
                _ => {
                    for at in half_floats(dtype) {
                        let scale = half::f16::from_f32(self.float() / 16.0);
                        block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
                    }
                }
            }
        }
        bytes
    }
}

/// Offsets of the half floats in a block.
fn half_floats(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        DType::IQ4NL | DType::IQ4XS | DType::IQ2XXS => &[0],
        other => panic!("where are the scales of {other}?"),
    }
}

/// Executors of every level this processor has, with 1 and 3 threads.
pub(crate) fn cpus(precision: Precision) -> Vec<Cpu> {
    let levels = Level::ALL.into_iter().filter(|&l| l <= Level::detect());
    levels
        .flat_map(|level| [1, 3].map(|threads| (level, threads)))
        .map(|(level, threads)| {
            let options = CpuOptions { threads: Some(threads), level: Some(level), precision, pin: false };
            Cpu::new(options).expect("a level of this processor")
        })
        .collect()
}
