//! Sixteen lanes: AVX-512 with VNNI.
#![expect(unsafe_code, reason = "AVX-512 intrinsics behind a token")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::integers::FLOAT_ZERO;
use super::{E4m3, Simd};
use crate::level::Kernel;

/// Proof that the processor has AVX-512 F, BW, DQ, VL and VNNI, besides AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    /// The token, where the processor has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        (found && super::Avx2::detect().is_some()).then_some(Self(()))
    }

    /// Runs a kernel compiled with these instructions.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn enabled<K: Kernel>(s: Avx512Vnni, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: `self` exists only where detection found the instructions.
        unsafe { enabled(self, kernel) }
    }
}

// SAFETY (every block below): `self` proves that the instructions exist; pointers are the caller's promise.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one argument for all: the comment above")]
impl Simd for Avx512Vnni {
    const LANES: usize = 16;
    const TOKENS: usize = 8;
    const APART: usize = 4;
    /// 14 sums of products and 14 scaled ones, codes and a scale; activations come with the product's instruction.
    const MANY: usize = 14;
    /// Two cores of a Zen 4 read Q4_K a tenth faster than with 4 KiB, Q6_K a quarter; a Xeon reads both alike.
    const PREFETCH_BYTES: usize = 12 << 10;
    type F = __m512;
    type Sixteen = [__m512; 1];

    #[inline(always)]
    fn sixteen(self, x: f32) -> [__m512; 1] {
        [self.splat(x); 1]
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_max_epi32(biased, _mm512_setzero_si512())))
        }
    }
    #[inline(always)]
    fn to_f32(self, a: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn byte_to_f32(self, bytes: __m512i, n: usize) -> __m512 {
        unsafe {
            let lane = |i: u32| ((4 * i + n as u32 / 8) | 0x8080_8000) as i32;
            let bytes_of_lanes = _mm512_broadcast_i32x4(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3)));
            _mm512_cvtepi32_ps(_mm512_shuffle_epi8(bytes, bytes_of_lanes))
        }
    }
    #[inline(always)]
    fn scaled(self, folded: __m512i, scale: __m512) -> __m512 {
        // (zero + x) scale - zero scale: one instruction for a conversion and a product; the last is exact, and shared by
        // all tokens.
        unsafe {
            let zero = self.mul(self.splat(-FLOAT_ZERO), scale);
            self.fma(_mm512_castsi512_ps(folded), scale, zero)
        }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
            let quarters = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
            let halves =
                _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters));
            let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            std::mem::transmute::<__m128, [f32; 4]>(sums)
        }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const E4m3) -> __m512 {
        unsafe {
            let code = _mm256_cvtepu8_epi16(_mm_loadu_si128(p.cast()));
            let sign = _mm256_slli_epi16::<8>(_mm256_and_si256(code, _mm256_set1_epi16(0x80)));
            let rest = _mm256_slli_epi16::<7>(_mm256_and_si256(code, _mm256_set1_epi16(0x7f)));
            _mm512_mul_ps(_mm512_cvtph_ps(_mm256_or_si256(sign, rest)), _mm512_set1_ps(E4m3::FROM_F16))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: __m512) {
        unsafe { _mm512_storeu_ps(p, a) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, a: __m512) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a)) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: __m512) {
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a))) }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut rows = [_mm512_setzero_si512(); 16];
            for r in 0..16 {
                rows[r] = _mm512_loadu_si512(from.add(r * from_stride).cast());
            }
            let columns = transpose_512(rows);
            for c in 0..16 {
                _mm512_storeu_si512(to.add(c * to_stride).cast(), columns[c]);
            }
        }
    }
}

/// Transposes 16 rows of 16 words of 32 bits.
///
/// # Safety
/// AVX-512 F is enabled.
#[inline(always)]
pub(crate) unsafe fn transpose_512(rows: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut a = rows;
        // 2 x 2 words, then 4 x 4, within the vectors' quarters.
        for r in (0..16).step_by(4) {
            let [r0, r1, r2, r3] = [rows[r], rows[r + 1], rows[r + 2], rows[r + 3]];
            let (l01, h01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
            let (l23, h23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
            a[r] = _mm512_unpacklo_epi64(l01, l23);
            a[r + 1] = _mm512_unpackhi_epi64(l01, l23);
            a[r + 2] = _mm512_unpacklo_epi64(h01, h23);
            a[r + 3] = _mm512_unpackhi_epi64(h01, h23);
        }
        // Then the quarters: a[4 i + j], quarter q, holds column 4 q + j of rows 4 i ..
        let mut columns = a;
        for j in 0..4 {
            let (a0, a1, a2, a3) = (a[j], a[4 + j], a[8 + j], a[12 + j]);
            let (e01, o01) = (_mm512_shuffle_i32x4::<0x88>(a0, a1), _mm512_shuffle_i32x4::<0xdd>(a0, a1));
            let (e23, o23) = (_mm512_shuffle_i32x4::<0x88>(a2, a3), _mm512_shuffle_i32x4::<0xdd>(a2, a3));
            columns[j] = _mm512_shuffle_i32x4::<0x88>(e01, e23);
            columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(e01, e23);
            columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(o01, o23);
            columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(o01, o23);
        }
        columns
    }
}
