//! Vectors of f32, one trait over three instruction sets.
//!
//! A value of a type that implements [`Simd`] exists only where its instructions do ([`Avx2::detect`],
//! [`Avx512Vnni::detect`]); its methods are therefore safe to call, apart from those that follow a pointer. Kernels
//! take such a value, are `#[inline(always)]`, and run inside a function that enables the instructions
//! ([`Kernel`](crate::level::Kernel)).

#![expect(unsafe_code, reason = "methods that follow a pointer are unsafe to call")]
mod amx;
mod avx2;
mod avx512;
mod integers;
mod scalar;

use half::{bf16, f16};

pub(crate) use amx::{Amx, Product, TILE, Tiles};
pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512Vnni;
pub(crate) use integers::Integers;
pub(crate) use scalar::Scalar;

/// Arithmetic on `LANES` floats at once.
pub(crate) trait Simd: Integers + Send + Sync {
    /// Floats in a vector: a power of two, at most 16.
    const LANES: usize;
    /// A vector.
    type F: Copy;
    /// As many vectors as 16 floats take.
    type Sixteen: Copy + std::ops::IndexMut<usize, Output = Self::F>;
    /// How many that are.
    const PARTS: usize = 16 / Self::LANES;
    /// Tokens whose sums the registers hold, more or less, beside a format's vectors.
    const TOKENS: usize;
    /// Those of them that are read where they lie, each by a pointer of its own; more are brought together.
    const APART: usize = Self::TOKENS;
    /// Tokens whose sums they hold beside unpacked codes.
    const MANY: usize;
    /// Bytes ahead of their use that interleaved weights are asked for.
    const PREFETCH_BYTES: usize = 4096;

    /// 16 times `x`.
    fn sixteen(self, x: f32) -> Self::Sixteen;
    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, fused where the level has it.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger of each pair.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of each pair.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for integral `n` up to 127; 0 below -126.
    fn pow2(self, n: Self::F) -> Self::F;
    /// Signed integers as floats.
    fn to_f32(self, a: Self::I) -> Self::F;
    /// Of every lane the byte from bit `n` on, as a float.
    fn byte_to_f32(self, bytes: Self::I, n: usize) -> Self::F;
    /// A sum of products, within +-2^22, times a scale as floats; exact below 2^24, else rounded once. It was
    /// [`folded`](Integers::folded) with the scale before.
    fn scaled(self, folded: Self::I, scale: Self::Scale) -> Self::F;
    /// Sum of all lanes.
    fn sum(self, a: Self::F) -> f32;
    /// Sums of all lanes of four vectors.
    fn sums(self, a: [Self::F; 4]) -> [f32; 4];
    /// Largest lane.
    fn largest(self, a: Self::F) -> f32;

    /// Asks for the cache line at any address.
    fn prefetch(self, p: *const u8);
    /// Reads `LANES` floats.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Reads `LANES` half floats.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn load_f16(self, p: *const f16) -> Self::F;
    /// Reads `LANES` brain floats.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F;
    /// Reads `LANES` FP8 codes. The two NaN codes come out as +-480.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn load_e4m3(self, p: *const E4m3) -> Self::F;
    /// Writes `LANES` floats.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn store(self, p: *mut f32, a: Self::F);
    /// Writes `LANES` half floats, rounded to nearest even.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn store_f16(self, p: *mut f16, a: Self::F);

    /// Writes `LANES` integral values as bytes.
    ///
    /// # Safety
    /// `p` points to that many; every value is in -128..=127.
    unsafe fn store_i8(self, p: *mut i8, a: Self::F);

    /// Transposes a square of `LANES` rows of `LANES` floats; strides are in floats.
    ///
    /// # Safety
    /// Every row of both squares is in bounds; they do not overlap.
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// `e^x` to about 1 ulp; 0 below -87.7, finite above.
    ///
    /// Source: the coefficients of Cephes' `expf` (Moshier 1989).
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        let x = self.min(self.max(x, self.splat(-88.0)), self.splat(88.3));
        let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        let r = self.fma(n, self.splat(-0.693_359_4), x);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let p = self.fma(p, self.mul(r, r), self.add(r, self.splat(1.0)));
        self.mul(p, self.pow2(n))
    }
}

/// Plain number types that weights and the KV cache are stored in.
pub(crate) trait Element: bytemuck::Pod + Send + Sync {
    /// Values are to be multiplied with their block's scale.
    const SCALED: bool = false;

    /// Reads `S::LANES` values.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F;

    /// The value as f32.
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(p) }
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16(p) }
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f32_const()
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_bf16(p) }
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// A code of FP8 E4M3: sign, 4 bits of exponent (bias 7), 3 of mantissa.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(crate) struct E4m3(u8);

impl E4m3 {
    /// Widening is a shift: f16 has the same layout with an exponent biased by 15, and so 2^-8 of the value.
    const FROM_F16: f32 = 256.0;
}

impl Element for E4m3 {
    const SCALED: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_e4m3(p) }
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        let code = u16::from(self.0);
        f16::from_bits(((code & 0x80) << 8) | ((code & 0x7f) << 7)).to_f32_const() * Self::FROM_F16
    }
}
