//! 8-bit multiply-adds as fast as they go: operands stay in registers.
#![expect(unsafe_code, reason = "vector intrinsics behind a token")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use crate::level::Isa;
use crate::simd::{Avx2, Avx512Vnni, Tiles};

/// Times that a piece of work goes through its accumulators.
const ROUNDS: usize = 8 << 10;
/// Sums that grow side by side: instructions times latency, 2 x 5 at most on today's processors, and some to spare.
const SUMS_512: usize = 16;
/// The same where a sum needs two instructions and there are 16 registers.
const SUMS_256: usize = 8;

/// Operations of a piece of work.
pub(super) fn ops(isa: Isa) -> usize {
    2 * ROUNDS
        * match isa {
            Isa::Scalar(_) => SUMS_256,
            Isa::Avx2(_) => SUMS_256 * size_of::<__m256i>(),
            Isa::Avx512(_) => SUMS_512 * size_of::<__m512i>(),
            Isa::Amx(_) => return ROUNDS * Tiles::EXERCISE_OPS,
        }
}

/// A piece of work.
pub(super) fn multiply_adds(isa: Isa) {
    match isa {
        Isa::Scalar(_) => scalar(),
        Isa::Avx2(token) => avx2(token),
        Isa::Avx512(token) => avx512(token),
        Isa::Amx(token) => token.tiles(64).exercise(ROUNDS),
    }
}

fn scalar() {
    let mut sums = [0_i32; SUMS_256];
    for _ in 0..ROUNDS {
        let (a, b) = black_box((3_i8, 5_i8));
        sums.iter_mut().for_each(|sum| *sum = sum.wrapping_add(i32::from(a) * i32::from(b)));
    }
    black_box(sums);
}

/// `vpmaddubsw` to pairs of products in 16 bits, and their sum. What the kernels add on top (widening, scales) is theirs.
fn avx2(_: Avx2) {
    #[target_feature(enable = "avx2")]
    fn enabled() {
        let (mut a, b) = (_mm256_set1_epi8(3), _mm256_set1_epi8(5));
        let mut sums = [_mm256_setzero_si256(); SUMS_256];
        for _ in 0..ROUNDS {
            for i in 0..SUMS_256 {
                // SAFETY: does nothing; the compiler, though, no longer knows `a`, and multiplies anew each time.
                unsafe { asm!("/* {0} */", inout(ymm_reg) a, options(nomem, nostack, preserves_flags)) };
                sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(a, b));
            }
        }
        black_box(sums);
    }
    // SAFETY: the token exists only where detection found the instructions.
    unsafe { enabled() }
}

/// `vpdpbusd`: four products and their sum in 32 bits.
fn avx512(_: Avx512Vnni) {
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn enabled() {
        let (mut a, b) = (_mm512_set1_epi8(3), _mm512_set1_epi8(5));
        let mut sums = [_mm512_setzero_si512(); SUMS_512];
        for _ in 0..ROUNDS {
            // SAFETY: does nothing; the compiler, though, no longer knows `a`, and multiplies anew each time.
            unsafe { asm!("/* {0} */", inout(zmm_reg) a, options(nomem, nostack, preserves_flags)) };
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }
    // SAFETY: the token exists only where detection found the instructions.
    unsafe { enabled() }
}
