//! Vectors of 32-bit lanes that hold four bytes each: codes of quantised weights, activations, and their products.
#![expect(unsafe_code, reason = "a method that follows a pointer is unsafe to call")]

mod avx2;
mod avx512;
mod scalar;

pub(super) use avx2::bytes_of_lanes;
pub(super) use avx512::FLOAT_ZERO;

/// Arithmetic on `LANES` times four bytes at once, `LANES` being that of [`Simd`](super::Simd).
///
/// *Products* of codes (unsigned bytes, or signed where [`SIGNED_CODES`](Integers::SIGNED_CODES)) with activations (signed
/// bytes, -127..=127) are sums over a lane's four bytes, kept in whatever form the level sums fastest;
/// [`folded`](Integers::folded) makes an integer a lane of their sum.
pub(crate) trait Integers: Copy {
    /// A vector.
    type I: Copy;
    /// As many vectors as 16 lanes take.
    type SixteenI: Copy + std::ops::IndexMut<usize, Output = Self::I>;
    /// A whole number a lane, -128..=127, as the level multiplies with it.
    type Scale: Copy;
    /// Products are sums of pairs in 16 bits, which overflow when too many are summed.
    const SUMS_OF_16_BITS: bool;
    /// Products take signed codes.
    const SIGNED_CODES: bool;
    /// What a sum of products begins with: [`scaled`](super::Simd::scaled) takes it away again.
    const BEGIN: u32 = 0;

    /// 16 lanes `x`.
    fn sixteen_i(self, x: u32) -> Self::SixteenI;
    /// Every lane `x`.
    fn splat_i(self, x: u32) -> Self::I;
    /// `a & b`.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a | b`.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a ^ b`.
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Every lane shifted right by `n` bits below 32, zeros behind.
    fn shr(self, a: Self::I, n: usize) -> Self::I;
    /// Every lane shifted left by `n` bits below 32.
    fn shl(self, a: Self::I, n: usize) -> Self::I;
    /// Bytes of `table` by the bytes of `idx`, which are below 16.
    fn look_up(self, table: &[i8; 16], idx: Self::I) -> Self::I;
    /// Byte `b` of a lane: `1 << to` where bit `n + b` of the lane is set, otherwise 0. `n` is a multiple of 4.
    fn spread_bits(self, bits: Self::I, n: usize, to: usize) -> Self::I;
    /// Products of codes and activations.
    fn products(self, codes: Self::I, x: Self::I) -> Self::I;
    /// Products of signed codes and activations, where the level has them.
    fn signed_products(self, codes: Self::I, x: Self::I) -> Self::I;
    /// `sums` and the products of codes and activations.
    fn add_products(self, sums: Self::I, codes: Self::I, x: Self::I) -> Self::I;
    /// What a sum begins with and the products of a code `offset` in every place, with activations whose sums are `pairs`: of
    /// the first two of each four values in the low 16 bits of a lane, of the last two in the high ones.
    fn offset_products(self, pairs: Self::I, offset: i32) -> Self::I;
    /// An integer a lane; times the scale where the level does that on the way.
    fn folded(self, products: Self::I, scale: Self::Scale) -> Self::I;
    /// 1 in every lane.
    fn one(self) -> Self::Scale;
    /// Of every lane the byte from bit `n` on.
    fn byte_scale(self, bytes: Self::I, n: usize) -> Self::Scale;
    /// The same of signed bytes.
    fn signed_byte_scale(self, bytes: Self::I, n: usize) -> Self::Scale;
    /// `a`, computed here: the compiler moves no other such value past it. It would otherwise collect what comes from many
    /// k-steps and run out of registers.
    fn in_order(self, a: Self::I) -> Self::I;
    /// `p`, about which the compiler knows nothing: it would keep what it has read there once, and spill what it has no
    /// registers for.
    fn unknown(self, p: *const u8) -> *const u8;
    /// `a + b` of integers.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a - b` of bytes.
    fn sub_bytes(self, a: Self::I, b: Self::I) -> Self::I;
    /// Reads `LANES` times four bytes.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn load_i(self, p: *const u8) -> Self::I;
    /// Reads `LANES` 16-bit numbers, one a lane.
    ///
    /// # Safety
    /// `p` points to that many, at any alignment.
    unsafe fn load_u16(self, p: *const u8) -> Self::I;
    /// Writes `LANES` times four bytes.
    ///
    /// # Safety
    /// `p` points to room for them, at any alignment.
    unsafe fn store_i(self, p: *mut u8, a: Self::I);
    /// Four lines of 16 units of four bytes: line `i` gets the `i`-th unit from byte `at` of every row on.
    ///
    /// # Safety
    /// Every row has four units from there on; `lines` has room; they do not overlap.
    unsafe fn interleave(self, rows: &[*const u8; 16], at: usize, lines: *mut u8);
    /// Reads what [`store_scale`](Integers::store_scale) wrote.
    ///
    /// # Safety
    /// `p` points to `LANES` times four bytes, at any alignment.
    unsafe fn load_scale(self, p: *const u8) -> Self::Scale;
    /// Writes a scale, four bytes a lane.
    ///
    /// # Safety
    /// `p` points to room for them, at any alignment.
    unsafe fn store_scale(self, p: *mut u8, a: Self::Scale);
}

/// Instructions that are none: see [`Integers::unknown`].
#[inline(always)]
#[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read there")]
fn unknown(mut p: *const u8) -> *const u8 {
    // SAFETY: does nothing.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) p, options(nomem, nostack, preserves_flags)) };
    p
}
