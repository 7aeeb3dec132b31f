//! Eight lanes of four bytes: AVX2.
#![expect(unsafe_code, reason = "AVX2 intrinsics behind a token")]

use std::arch::x86_64::*;

use super::Integers;
use crate::simd::Avx2;

// SAFETY (every block below): `self` proves that the instructions exist; pointers are the caller's promise.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one argument for all: the comment above")]
impl Integers for Avx2 {
    type I = __m256i;
    type SixteenI = [__m256i; 2];
    /// Twice in 16 bits.
    type Scale = __m256i;
    const SUMS_OF_16_BITS: bool = true;
    const SIGNED_CODES: bool = true;

    #[inline(always)]
    fn sixteen_i(self, x: u32) -> [__m256i; 2] {
        [self.splat_i(x); 2]
    }
    #[inline(always)]
    fn splat_i(self, x: u32) -> __m256i {
        unsafe { _mm256_set1_epi32(x as i32) }
    }
    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_xor_si256(a, b) }
    }
    #[inline(always)]
    fn shr(self, a: __m256i, n: usize) -> __m256i {
        unsafe { _mm256_srl_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn shl(self, a: __m256i, n: usize) -> __m256i {
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn look_up(self, table: &[i8; 16], idx: __m256i) -> __m256i {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, idx)
        }
    }
    #[inline(always)]
    fn spread_bits(self, bits: __m256i, n: usize, to: usize) -> __m256i {
        unsafe {
            // The byte of each lane that has the bits, four times; then bit b of it tested in byte b.
            let byte = _mm256_add_epi8(
                _mm256_set1_epi8((n / 8) as i8),
                _mm256_setr_epi32(
                    0,
                    0x0404_0404,
                    0x0808_0808,
                    0x0c0c_0c0c,
                    0,
                    0x0404_0404,
                    0x0808_0808,
                    0x0c0c_0c0c,
                ),
            );
            let bit =
                _mm256_set1_epi32(if n.is_multiple_of(8) { 0x0804_0201 } else { 0x8040_2010_u32 as i32 });
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, byte), bit), bit);
            _mm256_and_si256(set, _mm256_set1_epi8(1 << to))
        }
    }
    #[inline(always)]
    fn products(self, codes: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_maddubs_epi16(codes, x) }
    }
    #[inline(always)]
    fn signed_products(self, codes: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes)) }
    }
    #[inline(always)]
    fn add_products(self, sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, x)) }
    }
    #[inline(always)]
    fn offset_products(self, pairs: __m256i, offset: i32) -> __m256i {
        unsafe { _mm256_mullo_epi16(pairs, _mm256_set1_epi16(offset as i16)) }
    }
    #[inline(always)]
    fn folded(self, products: __m256i, scale: __m256i) -> __m256i {
        unsafe { _mm256_madd_epi16(products, scale) }
    }
    #[inline(always)]
    fn one(self) -> __m256i {
        unsafe { _mm256_set1_epi16(1) }
    }
    #[inline(always)]
    fn byte_scale(self, bytes: __m256i, n: usize) -> __m256i {
        // Bytes at 0x80 are zeros.
        unsafe { _mm256_shuffle_epi8(bytes, bytes_of_lanes(n, 0x8000_8000)) }
    }
    #[inline(always)]
    fn signed_byte_scale(self, bytes: __m256i, n: usize) -> __m256i {
        unsafe { _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(bytes, bytes_of_lanes(n, 0x0080_0080))) }
    }
    #[inline(always)]
    fn in_order(self, a: __m256i) -> __m256i {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn ordered(mut a: __m256i) -> __m256i {
            // SAFETY: no instruction at all.
            unsafe {
                std::arch::asm!("/* {0} */", inout(ymm_reg) a, options(nomem, nostack, preserves_flags))
            };
            a
        }
        unsafe { ordered(a) }
    }
    #[inline(always)]
    fn unknown(self, p: *const u8) -> *const u8 {
        super::unknown(p)
    }
    #[inline(always)]
    fn add_i(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_bytes(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi8(a, b) }
    }
    #[inline(always)]
    unsafe fn load_i(self, p: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_u16(self, p: *const u8) -> __m256i {
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_i(self, p: *mut u8, a: __m256i) {
        unsafe { _mm256_storeu_si256(p.cast(), a) }
    }
    #[inline(always)]
    unsafe fn interleave(self, rows: &[*const u8; 16], at: usize, lines: *mut u8) {
        unsafe {
            for half in 0..2 {
                let mut units = [_mm256_setzero_si256(); 4];
                for (i, units) in units.iter_mut().enumerate() {
                    // Rows i and i + 4 of eight.
                    let row = |row: usize| _mm_loadu_si128(rows[row].add(at).cast());
                    let near = _mm256_castsi128_si256(row(8 * half + i));
                    *units = _mm256_inserti128_si256::<1>(near, row(8 * half + i + 4));
                }
                let [a, b, c, d] = units;
                let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
                let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
                let lines = lines.add(32 * half);
                self.store_i(lines, _mm256_unpacklo_epi64(ab, cd));
                self.store_i(lines.add(64), _mm256_unpackhi_epi64(ab, cd));
                self.store_i(lines.add(2 * 64), _mm256_unpacklo_epi64(ab_high, cd_high));
                self.store_i(lines.add(3 * 64), _mm256_unpackhi_epi64(ab_high, cd_high));
            }
        }
    }
    #[inline(always)]
    unsafe fn load_scale(self, p: *const u8) -> __m256i {
        unsafe { self.load_i(p) }
    }
    #[inline(always)]
    unsafe fn store_scale(self, p: *mut u8, a: __m256i) {
        unsafe { self.store_i(p, a) }
    }
}

/// Indices for a shuffle within 128 bits: in every byte of a lane its byte from bit `n` on, but where `zeros` has 0x80.
///
/// # Safety
/// AVX2 is enabled.
#[inline(always)]
pub(in crate::simd) unsafe fn bytes_of_lanes(n: usize, zeros: u32) -> __m256i {
    let lane = |i: u32| ((0x0101_0101 * (4 * i + n as u32 / 8)) | zeros) as i32;
    // SAFETY: the caller's promise.
    unsafe { _mm256_setr_epi32(lane(0), lane(1), lane(2), lane(3), lane(0), lane(1), lane(2), lane(3)) }
}
