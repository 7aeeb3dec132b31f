//! Codes and scales as AVX-512 vectors, and products of single rows.
#![expect(unsafe_code, reason = "AVX-512 intrinsics behind a token")]

use std::arch::x86_64::*;

use super::super::PREFETCH_BYTES;
use super::super::activations::{STEP, Token};
use super::format::{
    Format, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, scale_and_min, scale_twice, scales_of_6_bits,
};

/// Reading a format into vectors.
///
/// # Safety
/// The methods are called where AVX-512 is enabled, with `p` at a step of the format's blocks (`n_blocks` of them),
/// and `chunk` below 4.
pub(super) trait Format512: Format {
    /// Scales of the step, as [`Format`] says.
    unsafe fn scales(p: *const u8, n_blocks: usize) -> __m512;
    /// Codes of values `64 chunk ..`.
    unsafe fn codes(p: *const u8, chunk: usize) -> __m512i;
}

/// Nibbles of two blocks, each split into low and high halves.
#[inline(always)]
unsafe fn nibbles<F: Format>(p: *const u8, chunk: usize) -> __m512i {
    // SAFETY: the caller's promise; 16 bytes of codes a block.
    unsafe {
        let codes = p.add(2 * chunk * F::BYTES + F::CODES_AT);
        let both = _mm512_broadcast_i32x4(_mm_loadu_si128(codes.cast()));
        let both = _mm512_mask_broadcast_i32x4(both, 0xff00, _mm_loadu_si128(codes.add(F::BYTES).cast()));
        let shift = _mm512_set_epi64(4 * WORDS, 4 * WORDS, 0, 0, 4 * WORDS, 4 * WORDS, 0, 0);
        _mm512_and_si512(_mm512_srlv_epi16(both, shift), _mm512_set1_epi8(15))
    }
}

/// 1 in each 16-bit word.
const WORDS: i64 = 0x0001_0001_0001_0001;

/// Adds 16 where the blocks' bit planes say so.
#[inline(always)]
unsafe fn add_fifth_bits<F: Format>(p: *const u8, chunk: usize, low: __m512i) -> __m512i {
    // SAFETY: the caller's promise; the four bytes before the codes are the bits.
    unsafe {
        let bits = p.add(2 * chunk * F::BYTES + F::CODES_AT - 4);
        let first = u64::from(bits.cast::<u32>().read_unaligned());
        let second = u64::from(bits.add(F::BYTES).cast::<u32>().read_unaligned());
        _mm512_mask_add_epi8(low, first | second << 32, low, _mm512_set1_epi8(16))
    }
}

/// Half floats to floats.
#[inline(always)]
unsafe fn widen(pairs: [u32; 8]) -> __m512 {
    // SAFETY: the caller has AVX-512; the types have the same size.
    unsafe { _mm512_cvtph_ps(std::mem::transmute::<[u32; 8], __m256i>(pairs)) }
}

/// (d * scale, m * min) of a super-block.
#[inline(always)]
unsafe fn super_scales(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let codes = std::mem::transmute::<[u8; 16], __m128i>(scales_of_6_bits(p));
        let d = _mm_cvtph_ps(_mm_set1_epi32(p.cast::<i32>().read_unaligned()));
        _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes)), _mm512_broadcast_f32x4(d))
    }
}

macro_rules! legacy {
    ($format:ident, $scales:ident, |$p:ident, $chunk:ident| $codes:expr) => {
        impl Format512 for $format {
            #[inline(always)]
            unsafe fn scales(p: *const u8, n_blocks: usize) -> __m512 {
                // SAFETY: the caller's promise.
                unsafe { widen($scales::<Self>(p, n_blocks)) }
            }
            #[inline(always)]
            unsafe fn codes($p: *const u8, $chunk: usize) -> __m512i {
                // SAFETY: the caller's promise.
                unsafe { $codes }
            }
        }
    };
}

legacy!(Q4_0, scale_twice, |p, chunk| nibbles::<Self>(p, chunk));
legacy!(Q4_1, scale_and_min, |p, chunk| nibbles::<Self>(p, chunk));
legacy!(Q5_0, scale_twice, |p, chunk| add_fifth_bits::<Self>(p, chunk, nibbles::<Self>(p, chunk)));
legacy!(Q5_1, scale_and_min, |p, chunk| add_fifth_bits::<Self>(p, chunk, nibbles::<Self>(p, chunk)));
legacy!(Q8_0, scale_twice, |p, chunk| {
    let codes = p.add(2 * chunk * Self::BYTES + Self::CODES_AT);
    let first = _mm512_castsi256_si512(_mm256_loadu_si256(codes.cast()));
    let both = _mm512_inserti64x4::<1>(first, _mm256_loadu_si256(codes.add(Self::BYTES).cast()));
    _mm512_xor_si512(both, _mm512_set1_epi8(-128))
});

/// Nibbles of a super-block: low halves of 32 bytes, then high halves.
#[inline(always)]
unsafe fn super_nibbles<F: Format>(p: *const u8, chunk: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = _mm256_loadu_si256(p.add(F::CODES_AT + 32 * chunk).cast());
        let shift = _mm512_set_epi64(4 * WORDS, 4 * WORDS, 4 * WORDS, 4 * WORDS, 0, 0, 0, 0);
        _mm512_and_si512(_mm512_srlv_epi16(_mm512_broadcast_i64x4(bytes), shift), _mm512_set1_epi8(15))
    }
}

impl Format512 for Q4K {
    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { super_scales(p) }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8, chunk: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { super_nibbles::<Self>(p, chunk) }
    }
}

impl Format512 for Q5K {
    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { super_scales(p) }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8, chunk: usize) -> __m512i {
        // SAFETY: the caller's promise; bit g of the plane belongs to group g.
        unsafe {
            let low = super_nibbles::<Self>(p, chunk);
            let plane = _mm512_broadcast_i64x4(_mm256_loadu_si256(p.add(16).cast()));
            let (first, second) =
                (_mm256_set1_epi8((1 << (2 * chunk)) as i8), _mm256_set1_epi8((2 << (2 * chunk)) as i8));
            let bit = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
            _mm512_mask_add_epi8(low, _mm512_test_epi8_mask(plane, bit), low, _mm512_set1_epi8(16))
        }
    }
}

impl Format512 for Q6K {
    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(p.add(192).cast()));
            let d = _mm_cvtph_ps(_mm_set1_epi16(p.add(208).cast::<i16>().read_unaligned()));
            _mm512_mul_ps(_mm512_cvtepi32_ps(codes), _mm512_broadcastss_ps(d))
        }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8, chunk: usize) -> __m512i {
        // SAFETY: the caller's promise. Half `chunk / 2` of the super-block has 64 bytes of nibbles (low ones first)
        // and 32 of bit pairs: values 32 i .. of the half use pair i.
        unsafe {
            let (half, high) = (chunk / 2, (chunk % 2) as i64);
            let low = _mm512_loadu_si512(p.add(64 * half).cast());
            let low = _mm512_srlv_epi16(low, _mm512_set1_epi64(4 * high * WORDS));
            let pairs = _mm512_broadcast_i64x4(_mm256_loadu_si256(p.add(128 + 32 * half).cast()));
            let (a, b) = (4 * high * WORDS, (4 * high + 2) * WORDS);
            let pairs = _mm512_srlv_epi16(pairs, _mm512_set_epi64(b, b, b, b, a, a, a, a));
            let pairs = _mm512_slli_epi16::<4>(_mm512_and_si512(pairs, _mm512_set1_epi8(3)));
            _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi8(15)), pairs)
        }
    }
}

/// Lanes of the step's scales that chunk `chunk`'s sums of four take.
#[inline(always)]
unsafe fn lanes_of<F: Format>(chunk: usize) -> __m512i {
    // SAFETY: the caller has AVX-512.
    unsafe {
        let base = if F::GROUPS_OF_16 {
            _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0)
        } else {
            _mm512_set_epi32(2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0)
        };
        _mm512_add_epi32(base, _mm512_set1_epi32(4 * chunk as i32))
    }
}

/// Products of one row of `n` values with each of `T` tokens.
///
/// # Safety
/// AVX-512 with VNNI is enabled; `w` points to a row of `n` values, the tokens hold as many (padded to a step).
#[inline(always)]
pub(super) unsafe fn row<F: Format512, const T: usize>(w: *const u8, n: usize, x: &[Token; T]) -> [f32; T] {
    // SAFETY: the caller's promise; a last odd block is copied to where a whole chunk may be read.
    unsafe {
        let zero = _mm512_setzero_ps();
        let mut sums = Sums { acc: [zero; T], offsets: [zero; T] };
        for step in 0..n / STEP {
            sums.step::<F>(w.add(step * F::STEP_BYTES), STEP / F::VALUES, x, step * STEP, 4);
        }
        let (step, rest) = (n / STEP, n % STEP);
        if rest > 0 {
            let tail = w.add(step * F::STEP_BYTES);
            if rest.is_multiple_of(64) {
                sums.step::<F>(tail, rest / 32, x, step * STEP, rest / 64);
            } else {
                let mut copy = [0_u8; 8 * 34];
                copy.as_mut_ptr().copy_from_nonoverlapping(tail, rest / 32 * F::BYTES);
                sums.step::<F>(copy.as_ptr(), rest / 32, x, step * STEP, rest.div_ceil(64));
            }
        }
        let offset = _mm512_set1_ps(F::OFFSET);
        // Loops, not closures: a closure is a function of its own, for which AVX-512 is not enabled.
        let mut products = [0.0; T];
        for t in 0..T {
            products[t] = _mm512_reduce_add_ps(_mm512_fmadd_ps(sums.offsets[t], offset, sums.acc[t]));
        }
        products
    }
}

/// Running sums of a row's products with `T` tokens.
struct Sums<const T: usize> {
    /// Scaled integer dots.
    acc: [__m512; T],
    /// Stored offsets times sums of activations.
    offsets: [__m512; T],
}

impl<const T: usize> Sums<T> {
    /// Adds `n_chunks` chunks of 64 values, which begin at value `at`.
    #[inline(always)]
    unsafe fn step<F: Format512>(
        &mut self,
        w: *const u8,
        n_blocks: usize,
        x: &[Token; T],
        at: usize,
        n_chunks: usize,
    ) {
        // SAFETY: the caller's promise, as in `row`.
        unsafe {
            for line in (0..F::STEP_BYTES).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(PREFETCH_BYTES + line).cast());
            }
            let scales = F::scales(w, n_blocks);
            let mut scaled = [scales; T];
            for t in 0..T {
                let sums = if F::GROUPS_OF_16 { x[t].sums16 } else { x[t].sums32 };
                scaled[t] = _mm512_mul_ps(scales, _mm512_loadu_ps(x[t].scales.add(at / 16)));
                self.offsets[t] =
                    _mm512_fmadd_ps(scales, _mm512_loadu_ps(sums.add(at / 16)), self.offsets[t]);
            }
            for chunk in 0..n_chunks {
                let codes = F::codes(w, chunk);
                for t in 0..T {
                    let x = _mm512_loadu_si512(x[t].codes.add(at + 64 * chunk).cast());
                    let dots = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x));
                    let scale = _mm512_permutexvar_ps(lanes_of::<F>(chunk), scaled[t]);
                    self.acc[t] = _mm512_fmadd_ps(dots, scale, self.acc[t]);
                }
            }
        }
    }
}
