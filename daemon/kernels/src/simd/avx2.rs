//! Eight lanes: AVX2, FMA and F16C.
#![expect(unsafe_code, reason = "AVX2 intrinsics behind a token")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::integers::bytes_of_lanes;
use super::{E4m3, Simd};
use crate::level::Kernel;

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, where the processor has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }

    /// Runs a kernel compiled with these instructions.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn enabled<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: `self` exists only where detection found the instructions.
        unsafe { enabled(self, kernel) }
    }
}

// SAFETY (every block below): `self` proves that the instructions exist; pointers are the caller's promise.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one argument for all: the comment above")]
impl Simd for Avx2 {
    const LANES: usize = 8;
    const TOKENS: usize = 2;
    /// 12 sums, two codes, an activation and a product.
    const MANY: usize = 6;
    /// A core of a Zen 5 reads Q4_K a sixth faster than with 4 KiB, Q6_K a tenth; as much with 12 KiB.
    const PREFETCH_BYTES: usize = 8 << 10;
    type F = __m256;
    type Sixteen = [__m256; 2];

    #[inline(always)]
    fn sixteen(self, x: f32) -> [__m256; 2] {
        [self.splat(x); 2]
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_max_epi32(biased, _mm256_setzero_si256())))
        }
    }
    #[inline(always)]
    fn to_f32(self, a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn byte_to_f32(self, bytes: __m256i, n: usize) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bytes, bytes_of_lanes(n, 0x8080_8000))) }
    }
    #[inline(always)]
    fn scaled(self, folded: __m256i, _: __m256i) -> __m256 {
        self.to_f32(folded)
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        unsafe {
            let quarters = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let sums = _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps::<1>(quarters));
            std::mem::transmute::<__m128, [f32; 4]>(sums)
        }
    }
    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> __m256 {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const E4m3) -> __m256 {
        unsafe {
            let code = _mm_cvtepu8_epi16(_mm_loadl_epi64(p.cast()));
            let sign = _mm_slli_epi16::<8>(_mm_and_si128(code, _mm_set1_epi16(0x80)));
            let rest = _mm_slli_epi16::<7>(_mm_and_si128(code, _mm_set1_epi16(0x7f)));
            _mm256_mul_ps(_mm256_cvtph_ps(_mm_or_si128(sign, rest)), _mm256_set1_ps(E4m3::FROM_F16))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: __m256) {
        unsafe { _mm256_storeu_ps(p, a) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, a: __m256) {
        unsafe { _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a)) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: __m256) {
        unsafe {
            let wide = _mm256_cvtps_epi32(a);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(words, words));
        }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut a = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                // Rows i and i + 4, left halves and right halves.
                let (near, far) = (from.add(i * from_stride), from.add((i + 4) * from_stride));
                a[i] =
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(near)), _mm_loadu_ps(far));
                let (near, far) = (near.add(4), far.add(4));
                a[i + 4] =
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(near)), _mm_loadu_ps(far));
            }
            for i in [0, 4] {
                let (l01, h01) = (_mm256_unpacklo_ps(a[i], a[i + 1]), _mm256_unpackhi_ps(a[i], a[i + 1]));
                let (l23, h23) =
                    (_mm256_unpacklo_ps(a[i + 2], a[i + 3]), _mm256_unpackhi_ps(a[i + 2], a[i + 3]));
                _mm256_storeu_ps(to.add(i * to_stride), _mm256_shuffle_ps::<0x44>(l01, l23));
                _mm256_storeu_ps(to.add((i + 1) * to_stride), _mm256_shuffle_ps::<0xee>(l01, l23));
                _mm256_storeu_ps(to.add((i + 2) * to_stride), _mm256_shuffle_ps::<0x44>(h01, h23));
                _mm256_storeu_ps(to.add((i + 3) * to_stride), _mm256_shuffle_ps::<0xee>(h01, h23));
            }
        }
    }
}
