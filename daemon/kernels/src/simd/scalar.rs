//! One lane: plain Rust, for any processor.
#![expect(unsafe_code, reason = "methods that follow a pointer are unsafe to call")]

use half::{bf16, f16};

use super::{E4m3, Element, Simd};

/// No instructions beyond the compiler's baseline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    const LANES: usize = 1;
    const TOKENS: usize = 2;
    const MANY: usize = 6;
    type F = f32;
    type Sixteen = [f32; 16];

    #[inline(always)]
    fn sixteen(self, x: f32) -> [f32; 16] {
        [self.splat(x); 16]
    }
    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        a.max(b)
    }
    #[inline(always)]
    fn min(self, a: f32, b: f32) -> f32 {
        a.min(b)
    }
    #[inline(always)]
    fn round(self, a: f32) -> f32 {
        a.round_ties_even()
    }
    #[inline(always)]
    fn pow2(self, n: f32) -> f32 {
        f32::from_bits(((n as i32 + 127).max(0) as u32) << 23)
    }
    #[inline(always)]
    fn to_f32(self, a: u32) -> f32 {
        a as i32 as f32
    }
    #[inline(always)]
    fn byte_to_f32(self, bytes: u32, n: usize) -> f32 {
        f32::from((bytes >> n) as u8)
    }
    #[inline(always)]
    fn scaled(self, folded: u32, _: i32) -> f32 {
        folded as i32 as f32
    }
    #[inline(always)]
    fn sum(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn sums(self, a: [f32; 4]) -> [f32; 4] {
        a
    }
    #[inline(always)]
    fn largest(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { p.read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { p.read_unaligned() }.to_f32_const()
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> f32 {
        // SAFETY: the caller's promise.
        Element::to_f32(unsafe { p.read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const E4m3) -> f32 {
        // SAFETY: the caller's promise.
        Element::to_f32(unsafe { p.read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: f32) {
        // SAFETY: the caller's promise.
        unsafe { p.write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, a: f32) {
        // SAFETY: the caller's promise.
        unsafe { p.write_unaligned(f16::from_f32_const(a)) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: f32) {
        // SAFETY: the caller's promise.
        unsafe { p.write(a as i8) }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, _: usize, to: *mut f32, _: usize) {
        // SAFETY: the caller's promise.
        unsafe { to.write(from.read()) }
    }
}
