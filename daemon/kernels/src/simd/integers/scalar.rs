//! One lane of four bytes.
#![expect(unsafe_code, reason = "a method that follows a pointer is unsafe to call")]

use super::Integers;
use crate::simd::Scalar;

impl Integers for Scalar {
    type I = u32;
    type SixteenI = [u32; 16];
    type Scale = i32;
    const SUMS_OF_16_BITS: bool = false;
    const SIGNED_CODES: bool = true;

    #[inline(always)]
    fn sixteen_i(self, x: u32) -> [u32; 16] {
        [self.splat_i(x); 16]
    }
    #[inline(always)]
    fn splat_i(self, x: u32) -> u32 {
        x
    }
    #[inline(always)]
    fn and(self, a: u32, b: u32) -> u32 {
        a & b
    }
    #[inline(always)]
    fn or(self, a: u32, b: u32) -> u32 {
        a | b
    }
    #[inline(always)]
    fn xor(self, a: u32, b: u32) -> u32 {
        a ^ b
    }
    #[inline(always)]
    fn shr(self, a: u32, n: usize) -> u32 {
        a >> n
    }
    #[inline(always)]
    fn shl(self, a: u32, n: usize) -> u32 {
        a << n
    }
    #[inline(always)]
    fn look_up(self, table: &[i8; 16], idx: u32) -> u32 {
        u32::from_le_bytes(idx.to_le_bytes().map(|i| table[usize::from(i)] as u8))
    }
    #[inline(always)]
    fn spread_bits(self, bits: u32, n: usize, to: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|b| ((bits >> (n + b) & 1) << to) as u8))
    }
    #[inline(always)]
    fn products(self, codes: u32, x: u32) -> u32 {
        let pairs = codes.to_le_bytes().into_iter().zip(x.to_le_bytes());
        pairs.map(|(code, x)| i32::from(code) * i32::from(x as i8)).sum::<i32>() as u32
    }
    #[inline(always)]
    fn signed_products(self, codes: u32, x: u32) -> u32 {
        let pairs = codes.to_le_bytes().into_iter().zip(x.to_le_bytes());
        pairs.map(|(code, x)| i32::from(code as i8) * i32::from(x as i8)).sum::<i32>() as u32
    }
    #[inline(always)]
    fn add_products(self, sums: u32, codes: u32, x: u32) -> u32 {
        self.add_i(sums, self.products(codes, x))
    }
    #[inline(always)]
    fn offset_products(self, pairs: u32, offset: i32) -> u32 {
        let sum = i32::from(pairs as i16) + i32::from((pairs >> 16) as i16);
        (sum * offset) as u32
    }
    #[inline(always)]
    fn folded(self, products: u32, scale: i32) -> u32 {
        (products as i32 * scale) as u32
    }
    #[inline(always)]
    fn one(self) -> i32 {
        1
    }
    #[inline(always)]
    fn byte_scale(self, bytes: u32, n: usize) -> i32 {
        i32::from((bytes >> n) as u8)
    }
    #[inline(always)]
    fn signed_byte_scale(self, bytes: u32, n: usize) -> i32 {
        i32::from((bytes >> n) as i8)
    }
    #[inline(always)]
    fn in_order(self, a: u32) -> u32 {
        a
    }
    #[inline(always)]
    fn unknown(self, p: *const u8) -> *const u8 {
        p
    }
    #[inline(always)]
    fn add_i(self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn sub_bytes(self, a: u32, b: u32) -> u32 {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        u32::from_le_bytes([0, 1, 2, 3].map(|i| a[i].wrapping_sub(b[i])))
    }
    #[inline(always)]
    unsafe fn load_i(self, p: *const u8) -> u32 {
        // SAFETY: the caller's promise.
        u32::from_le_bytes(unsafe { p.cast::<[u8; 4]>().read() })
    }
    #[inline(always)]
    unsafe fn load_u16(self, p: *const u8) -> u32 {
        // SAFETY: the caller's promise.
        u32::from(u16::from_le_bytes(unsafe { p.cast::<[u8; 2]>().read() }))
    }
    #[inline(always)]
    unsafe fn store_i(self, p: *mut u8, a: u32) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u8; 4]>().write(a.to_le_bytes()) }
    }
    #[inline(always)]
    unsafe fn interleave(self, rows: &[*const u8; 16], at: usize, lines: *mut u8) {
        for unit in 0..4 {
            for row in 0..16 {
                // SAFETY: the caller's promise.
                unsafe {
                    self.store_i(lines.add(64 * unit + 4 * row), self.load_i(rows[row].add(at + 4 * unit)));
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn load_scale(self, p: *const u8) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { self.load_i(p) as i32 }
    }
    #[inline(always)]
    unsafe fn store_scale(self, p: *mut u8, a: i32) {
        // SAFETY: the caller's promise.
        unsafe { self.store_i(p, a as u32) }
    }
}
