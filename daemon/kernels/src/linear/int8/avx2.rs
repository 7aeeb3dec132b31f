//! Codes as AVX2 vectors, and products of single rows with up to four tokens.
#![expect(unsafe_code, reason = "AVX2 intrinsics behind a token")]

use std::arch::x86_64::*;

use super::super::PREFETCH_BYTES;
use super::super::activations::{STEP, Token};
use super::format::{
    Format, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, scale_and_min, scale_twice, scales_of_6_bits,
};

/// Reading a format into vectors.
///
/// # Safety
/// The methods are called where AVX2 is enabled, with `p` at a step of the format's blocks (`n_blocks` of them), and
/// `block` below 8.
pub(super) trait Format256: Format {
    /// The codes are signed, and stand for themselves: there is no offset.
    const SIGNED: bool = false;

    /// Scales of the step, as [`Format`] says.
    unsafe fn scales(p: *const u8, n_blocks: usize) -> [__m256; 2];
    /// Codes of values `32 block ..`.
    unsafe fn codes(p: *const u8, block: usize) -> __m256i;
}

/// Nibbles of a block, split into low and high half.
#[inline(always)]
unsafe fn nibbles<F: Format>(p: *const u8, block: usize) -> __m256i {
    // SAFETY: the caller's promise; 16 bytes of codes a block.
    unsafe {
        let bytes = _mm_loadu_si128(p.add(block * F::BYTES + F::CODES_AT).cast());
        let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
        _mm256_and_si256(both, _mm256_set1_epi8(15))
    }
}

/// Adds 16 where the block's bit plane says so.
#[inline(always)]
unsafe fn add_fifth_bits<F: Format>(p: *const u8, block: usize, low: __m256i) -> __m256i {
    // SAFETY: the caller's promise; the four bytes before the codes are the bits.
    unsafe {
        let bits = p.add(block * F::BYTES + F::CODES_AT - 4).cast::<i32>().read_unaligned();
        // Byte i of the bits to lanes 8 i .., then bit j of it tested in lane 8 i + j.
        let spread =
            _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
        let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
        _mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(16)))
    }
}

/// Half floats to floats.
#[inline(always)]
unsafe fn widen(pairs: [u32; 8]) -> [__m256; 2] {
    // SAFETY: the caller has F16C; the types have the same size.
    unsafe {
        let [low, high] = std::mem::transmute::<[u32; 8], [__m128i; 2]>(pairs);
        [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
    }
}

/// (d * scale, m * min) of a super-block.
#[inline(always)]
unsafe fn super_scales(p: *const u8) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let codes = std::mem::transmute::<[u8; 16], __m128i>(scales_of_6_bits(p));
        let d = _mm_cvtph_ps(_mm_set1_epi32(p.cast::<i32>().read_unaligned()));
        let d = _mm256_set_m128(d, d);
        let (low, high) = (_mm256_cvtepu8_epi32(codes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(codes)));
        [_mm256_mul_ps(_mm256_cvtepi32_ps(low), d), _mm256_mul_ps(_mm256_cvtepi32_ps(high), d)]
    }
}

macro_rules! legacy {
    ($format:ident, $scales:ident, |$p:ident, $block:ident| $codes:expr) => {
        impl Format256 for $format {
            #[inline(always)]
            unsafe fn scales(p: *const u8, n_blocks: usize) -> [__m256; 2] {
                // SAFETY: the caller's promise.
                unsafe { widen($scales::<Self>(p, n_blocks)) }
            }
            #[inline(always)]
            unsafe fn codes($p: *const u8, $block: usize) -> __m256i {
                // SAFETY: the caller's promise.
                unsafe { $codes }
            }
        }
    };
}

legacy!(Q4_0, scale_twice, |p, block| nibbles::<Self>(p, block));
legacy!(Q4_1, scale_and_min, |p, block| nibbles::<Self>(p, block));
legacy!(Q5_0, scale_twice, |p, block| add_fifth_bits::<Self>(p, block, nibbles::<Self>(p, block)));
legacy!(Q5_1, scale_and_min, |p, block| add_fifth_bits::<Self>(p, block, nibbles::<Self>(p, block)));

impl Format256 for Q8_0 {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn scales(p: *const u8, n_blocks: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { widen(scale_twice::<Self>(p, n_blocks)) }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8, block: usize) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(p.add(block * Self::BYTES + Self::CODES_AT).cast()) }
    }
}

/// Nibbles of a super-block: low halves of 32 bytes, then high halves.
#[inline(always)]
unsafe fn super_nibbles<F: Format>(p: *const u8, block: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = _mm256_loadu_si256(p.add(F::CODES_AT + block / 2 * 32).cast());
        let shifted = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(4 * (block % 2) as i32));
        _mm256_and_si256(shifted, _mm256_set1_epi8(15))
    }
}

impl Format256 for Q4K {
    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { super_scales(p) }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8, block: usize) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { super_nibbles::<Self>(p, block) }
    }
}

impl Format256 for Q5K {
    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { super_scales(p) }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8, block: usize) -> __m256i {
        // SAFETY: the caller's promise; bit g of the plane belongs to group g.
        unsafe {
            let bit = _mm256_set1_epi8((1_u8 << block) as i8);
            let plane = _mm256_and_si256(_mm256_loadu_si256(p.add(16).cast()), bit);
            let set = _mm256_and_si256(_mm256_cmpeq_epi8(plane, bit), _mm256_set1_epi8(16));
            _mm256_or_si256(super_nibbles::<Self>(p, block), set)
        }
    }
}

impl Format256 for Q6K {
    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = _mm_loadu_si128(p.add(192).cast());
            let d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_set1_epi16(
                p.add(208).cast::<i16>().read_unaligned(),
            )));
            let (low, high) = (_mm256_cvtepi8_epi32(codes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(codes)));
            [_mm256_mul_ps(_mm256_cvtepi32_ps(low), d), _mm256_mul_ps(_mm256_cvtepi32_ps(high), d)]
        }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8, block: usize) -> __m256i {
        // SAFETY: the caller's promise. Half `block / 4` of the super-block has 64 bytes of nibbles (low ones first)
        // and 32 of bit pairs: values 32 i .. of the half use pair i.
        unsafe {
            let (half, i) = (block / 4, block % 4);
            let low = _mm256_loadu_si256(p.add(64 * half + 32 * (i % 2)).cast());
            let low = _mm256_srl_epi16(low, _mm_cvtsi32_si128(4 * (i / 2) as i32));
            let pairs = _mm256_loadu_si256(p.add(128 + 32 * half).cast());
            let pairs = _mm256_srl_epi16(pairs, _mm_cvtsi32_si128(2 * i as i32));
            let pairs = _mm256_slli_epi16::<4>(_mm256_and_si256(pairs, _mm256_set1_epi8(3)));
            _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(15)), pairs)
        }
    }
}

/// Products of one row of `n` values with each of `T` tokens.
///
/// # Safety
/// AVX2, FMA and F16C are enabled; `w` points to a row of `n` values, the tokens hold as many (padded to a step).
#[inline(always)]
pub(super) unsafe fn row<F: Format256, const T: usize>(w: *const u8, n: usize, x: &[Token; T]) -> [f32; T] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = _mm256_setzero_ps();
        let mut sums = Sums { acc: [zero; T], offsets: [zero; T] };
        for at in (0..n / STEP * STEP).step_by(STEP) {
            sums.step::<F>(w.add(at / F::VALUES * F::BYTES), x, at, 8);
        }
        let (at, rest) = (n / STEP * STEP, n % STEP);
        if rest > 0 {
            sums.step::<F>(w.add(at / F::VALUES * F::BYTES), x, at, rest / 32);
        }
        let offset = _mm256_set1_ps(if F::SIGNED { 0.0 } else { F::OFFSET });
        // Loops, not closures: a closure is a function of its own, for which AVX2 is not enabled.
        let mut products = [0.0; T];
        for t in 0..T {
            let sum = _mm256_fmadd_ps(sums.offsets[t], offset, sums.acc[t]);
            let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
            let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
            products[t] = _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
        }
        products
    }
}

/// Running sums of a row's products with `T` tokens.
struct Sums<const T: usize> {
    /// Scaled integer dots.
    acc: [__m256; T],
    /// Stored offsets times sums of activations.
    offsets: [__m256; T],
}

impl<const T: usize> Sums<T> {
    /// Adds `n_blocks` blocks of 32 values, which begin at value `at`.
    #[inline(always)]
    unsafe fn step<F: Format256>(&mut self, w: *const u8, x: &[Token; T], at: usize, n_blocks: usize) {
        // SAFETY: the caller's promise, as in `row`.
        unsafe {
            for line in (0..F::STEP_BYTES).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(PREFETCH_BYTES + line).cast());
            }
            let scales = F::scales(w, n_blocks * 32 / F::VALUES);
            let mut scaled = [[0.0_f32; 16]; T];
            for t in 0..T {
                let sums = if F::GROUPS_OF_16 { x[t].sums16 } else { x[t].sums32 };
                for (h, scales) in scales.into_iter().enumerate() {
                    let place = at / 16 + 8 * h;
                    let product = _mm256_mul_ps(scales, _mm256_loadu_ps(x[t].scales.add(place)));
                    _mm256_storeu_ps(scaled[t].as_mut_ptr().add(8 * h), product);
                    self.offsets[t] =
                        _mm256_fmadd_ps(scales, _mm256_loadu_ps(sums.add(place)), self.offsets[t]);
                }
            }
            for block in 0..n_blocks {
                let codes = F::codes(w, block);
                for t in 0..T {
                    let x = _mm256_loadu_si256(x[t].codes.add(at + 32 * block).cast());
                    let dots = _mm256_cvtepi32_ps(dot4::<F>(codes, x));
                    let scale = scaled[t].as_ptr().add(2 * block);
                    let scale = if F::GROUPS_OF_16 {
                        _mm256_set_m128(_mm_broadcast_ss(&*scale.add(1)), _mm_broadcast_ss(&*scale))
                    } else {
                        _mm256_broadcast_ss(&*scale)
                    };
                    self.acc[t] = _mm256_fmadd_ps(dots, scale, self.acc[t]);
                }
            }
        }
    }
}

/// Sums of four products each. Pairs stay below 2^15: codes are below 64, or signed against at most 127 * 128.
#[inline(always)]
unsafe fn dot4<F: Format256>(codes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let pairs = if F::SIGNED {
            _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
        } else {
            _mm256_maddubs_epi16(codes, x)
        };
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }
}
