//! Sixteen lanes of four bytes: AVX-512 with VNNI.
#![expect(unsafe_code, reason = "AVX-512 intrinsics behind a token")]

use std::arch::x86_64::*;

use super::Integers;
use crate::simd::{Avx512Vnni, Simd};

/// A float whose bits count up as its value does: with an integer within +-2^22 added to the bits, it is that much larger.
pub(in crate::simd) const FLOAT_ZERO: f32 = 1.5 * (1 << 23) as f32;

// SAFETY (every block below): `self` proves that the instructions exist; pointers are the caller's promise.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one argument for all: the comment above")]
impl Integers for Avx512Vnni {
    type I = __m512i;
    type SixteenI = [__m512i; 1];
    type Scale = __m512;
    const SUMS_OF_16_BITS: bool = false;
    const SIGNED_CODES: bool = false;
    const BEGIN: u32 = FLOAT_ZERO.to_bits();

    #[inline(always)]
    fn sixteen_i(self, x: u32) -> [__m512i; 1] {
        [self.splat_i(x); 1]
    }
    #[inline(always)]
    fn splat_i(self, x: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(x as i32) }
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    fn shr(self, a: __m512i, n: usize) -> __m512i {
        unsafe { _mm512_srl_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn shl(self, a: __m512i, n: usize) -> __m512i {
        unsafe { _mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn look_up(self, table: &[i8; 16], idx: __m512i) -> __m512i {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, idx)
        }
    }
    #[inline(always)]
    fn spread_bits(self, bits: __m512i, n: usize, to: usize) -> __m512i {
        unsafe {
            // The byte of each lane that has the bits, four times; then bit b of it tested in byte b.
            let lanes = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c));
            let byte = _mm512_add_epi8(_mm512_set1_epi8((n / 8) as i8), lanes);
            let bit =
                _mm512_set1_epi32(if n.is_multiple_of(8) { 0x0804_0201 } else { 0x8040_2010_u32 as i32 });
            let set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(bits, byte), bit);
            _mm512_maskz_mov_epi8(set, _mm512_set1_epi8(1 << to))
        }
    }
    #[inline(always)]
    fn products(self, codes: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x) }
    }
    #[inline(always)]
    fn signed_products(self, _: __m512i, _: __m512i) -> __m512i {
        unreachable!("signed codes are made unsigned: SIGNED_CODES")
    }
    #[inline(always)]
    fn add_products(self, sums: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, codes, x) }
    }
    #[inline(always)]
    fn offset_products(self, pairs: __m512i, offset: i32) -> __m512i {
        unsafe { _mm512_dpwssd_epi32(self.splat_i(Self::BEGIN), pairs, _mm512_set1_epi16(offset as i16)) }
    }
    #[inline(always)]
    fn folded(self, products: __m512i, _: __m512) -> __m512i {
        products
    }
    #[inline(always)]
    fn one(self) -> __m512 {
        unsafe { _mm512_set1_ps(1.0) }
    }
    #[inline(always)]
    fn byte_scale(self, bytes: __m512i, n: usize) -> __m512 {
        self.byte_to_f32(bytes, n)
    }
    #[inline(always)]
    fn signed_byte_scale(self, bytes: __m512i, n: usize) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(self.shl(bytes, 24 - n))) }
    }
    #[inline(always)]
    fn in_order(self, a: __m512i) -> __m512i {
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn ordered(mut a: __m512i) -> __m512i {
            // SAFETY: no instruction at all.
            unsafe {
                std::arch::asm!("/* {0} */", inout(zmm_reg) a, options(nomem, nostack, preserves_flags))
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
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_bytes(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi8(a, b) }
    }
    #[inline(always)]
    unsafe fn load_i(self, p: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_u16(self, p: *const u8) -> __m512i {
        unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_i(self, p: *mut u8, a: __m512i) {
        unsafe { _mm512_storeu_si512(p.cast(), a) }
    }
    #[inline(always)]
    unsafe fn interleave(self, rows: &[*const u8; 16], at: usize, lines: *mut u8) {
        unsafe {
            let mut units = [_mm512_setzero_si512(); 4];
            for (i, units) in units.iter_mut().enumerate() {
                // Rows i, i + 4, i + 8 and i + 12.
                let row = |quarter: usize| rows[4 * quarter + i].wrapping_add(at);
                let first = _mm512_castsi128_si512(_mm_loadu_si128(row(0).cast()));
                let two = _mm512_inserti32x4::<1>(first, _mm_loadu_si128(row(1).cast()));
                let three = _mm512_inserti32x4::<2>(two, _mm_loadu_si128(row(2).cast()));
                *units = _mm512_inserti32x4::<3>(three, _mm_loadu_si128(row(3).cast()));
            }
            let [a, b, c, d] = units;
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            self.store_i(lines, _mm512_unpacklo_epi64(ab, cd));
            self.store_i(lines.add(64), _mm512_unpackhi_epi64(ab, cd));
            self.store_i(lines.add(2 * 64), _mm512_unpacklo_epi64(ab_high, cd_high));
            self.store_i(lines.add(3 * 64), _mm512_unpackhi_epi64(ab_high, cd_high));
        }
    }
    #[inline(always)]
    unsafe fn load_scale(self, p: *const u8) -> __m512 {
        unsafe { self.load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_scale(self, p: *mut u8, a: __m512) {
        unsafe { self.store(p.cast(), a) }
    }
}
