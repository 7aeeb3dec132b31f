//! Many tokens: 16 rows are unpacked once, so that the inner loop is the same for every format and reads bytes alone.
//!
//! ```text
//! codes:           [k-steps][16 rows][4 values] bytes
//! scales, offsets: [groups][16 rows] f32
//! ```
//! Products are the same operations in the same order as those of a few tokens: nothing but the place of the operands
//! differs.
#![expect(unsafe_code, reason = "reads panels and activations by pointer")]

use bytemuck::Zeroable;
use tensor::LANES;

use super::codes::{Codes, each_kind};
use crate::linear::activations::{Line, Token};
use crate::simd::Simd;

/// Tokens of the inner loop: 12 sums, two codes, an activation and a product fill the registers of AVX2.
pub(super) const TOKENS: usize = 6;

/// 16 unpacked rows, some of their columns.
#[derive(Debug, Default)]
pub(super) struct Panel {
    codes: Vec<Line>,
    scales: Vec<Line>,
    offsets: Vec<Line>,
}

impl Panel {
    /// Bytes that a panel of `cols` columns takes, roughly.
    pub(super) const fn bytes(cols: usize) -> usize {
        LANES * (cols + cols / 4)
    }

    /// Unpacks `n_blocks` blocks of 16 interleaved rows.
    ///
    /// # Safety
    /// `w` points to that many.
    #[inline(always)]
    pub(super) unsafe fn unpack<S: Simd, F: Codes>(&mut self, s: S, w: *const u8, n_blocks: usize) {
        let a_block = F::VALUES / F::GROUP;
        let n_groups = n_blocks * a_block;
        self.codes.resize(n_groups * F::STEPS, Line::zeroed());
        self.scales.resize(n_groups, Line::zeroed());
        self.offsets.resize(n_groups, Line::zeroed());
        for block in 0..n_blocks {
            for i in 0..a_block / F::KINDS {
                // SAFETY: one of the blocks.
                let w = unsafe { w.add(block * F::LANES_BYTES) };
                // SAFETY: its groups, for which there is room.
                unsafe {
                    each_kind!(F, i, |group| self.unpack_group::<S, F>(s, w, group, block * a_block + group))
                };
            }
        }
    }

    /// Unpacks a group of a block as the panel's group `to`.
    ///
    /// # Safety
    /// As [`Codes`]; the panel has room for group `to`.
    #[inline(always)]
    unsafe fn unpack_group<S: Simd, F: Codes>(&mut self, s: S, w: *const u8, group: usize, to: usize) {
        // SAFETY: the caller's promise; a line is 16 units of four bytes.
        unsafe {
            for part in 0..S::PARTS {
                let (scale, offset) = F::scale_and_offset(s, w, group, part);
                let at = part * S::LANES;
                s.store(self.scales.as_mut_ptr().add(to).cast::<f32>().add(at), scale);
                s.store(self.offsets.as_mut_ptr().add(to).cast::<f32>().add(at), offset);
            }
            for k in 0..F::STEPS {
                let line = self.codes.as_mut_ptr().add(to * F::STEPS + k).cast::<u8>();
                for part in 0..S::PARTS {
                    s.store_i(line.add(4 * S::LANES * part), F::multiplicand(s, w, group, k, part));
                }
            }
        }
    }
}

impl Panel {
    /// Where a group's `GROUP / 4` lines of codes begin.
    #[inline(always)]
    pub(super) fn group<const GROUP: usize>(&self, group: usize) -> *const Line {
        self.codes.as_ptr().wrapping_add(group * (GROUP / 4))
    }

    /// A vector's part of a group's scales and offsets.
    ///
    /// # Safety
    /// The panel has the group; `part` is below `16 / S::LANES`.
    #[inline(always)]
    pub(super) unsafe fn scale_and_offset<S: Simd>(&self, s: S, group: usize, part: usize) -> (S::F, S::F) {
        let at = group * LANES + part * S::LANES;
        // SAFETY: the caller's promise; a line is 16 floats.
        unsafe {
            let scale = s.load(self.scales.as_ptr().cast::<f32>().add(at));
            (scale, s.load(self.offsets.as_ptr().cast::<f32>().add(at)))
        }
    }
}

/// Products of a panel with up to [`TOKENS`] tokens, from value `at` of them on.
pub(super) struct Products<'a> {
    pub(super) panel: &'a Panel,
    /// Groups of the panel.
    pub(super) n_groups: usize,
    pub(super) at: usize,
    /// Weights to ask for on the way, and how many bytes of them with each group.
    pub(super) next: Option<(*const u8, usize)>,
}

impl Products<'_> {
    /// acc[t] += the products with token t, where a group has `GROUP` values and `SUMMED` k-steps fit 16 bits; codes are
    /// `SIGNED` if the level takes such.
    ///
    /// # Safety
    /// The panel holds `n_groups` groups, the tokens as many values from `at` on (padded to 256).
    #[inline(always)]
    pub(super) unsafe fn add<
        S: Simd,
        const T: usize,
        const GROUP: usize,
        const SUMMED: usize,
        const SIGNED: bool,
    >(
        &self,
        s: S,
        acc: &mut [S::Sixteen; T],
        x: &[Token; T],
    ) {
        for group in 0..self.n_groups {
            let at = self.at + group * GROUP;
            if let Some((next, bytes)) = self.next {
                for line in (0..bytes).step_by(64) {
                    s.prefetch(next.wrapping_add(group * bytes + line));
                }
            }
            // SAFETY: the caller's promise.
            unsafe {
                let codes = self.panel.group::<GROUP>(group);
                let dots = dots::<S, T, GROUP, SUMMED, SIGNED>(s, codes, at, x);
                for part in 0..S::PARTS {
                    let (scale, offset) = self.panel.scale_and_offset(s, group, part);
                    for t in 0..T {
                        if !SIGNED || !S::SIGNED_CODES {
                            acc[t][part] = s.fma(offset, s.splat(x[t].sum::<GROUP>(at)), acc[t][part]);
                        }
                        let scale = s.mul(scale, s.splat(*x[t].scales.add(at / 16)));
                        acc[t][part] = s.fma(s.to_f32(dots[t][part]), scale, acc[t][part]);
                    }
                }
            }
        }
    }
}

/// Integer products of a group: the lines at `codes` with values `at ..` of every token.
///
/// # Safety
/// There are `GROUP / 4` lines and as many values.
#[inline(always)]
unsafe fn dots<S: Simd, const T: usize, const GROUP: usize, const SUMMED: usize, const SIGNED: bool>(
    s: S,
    codes: *const Line,
    at: usize,
    x: &[Token; T],
) -> [S::SixteenI; T] {
    let summed = if S::SUMS_OF_16_BITS { SUMMED } else { GROUP / 4 };
    let mut dots = [s.sixteen_i(0); T];
    for first in (0..GROUP / 4).step_by(summed) {
        let mut sums = [s.sixteen_i(0); T];
        for k in first..first + summed {
            // SAFETY: the caller's promise.
            unsafe {
                let mut line = s.sixteen_i(0);
                for part in 0..S::PARTS {
                    line[part] = s.load_i(codes.add(k).cast::<u8>().add(4 * S::LANES * part));
                }
                for t in 0..T {
                    let x = s.splat_i(x[t].codes.add(at + 4 * k).cast::<u32>().read_unaligned());
                    for part in 0..S::PARTS {
                        let sum = add_products::<S, SIGNED>(s, sums[t][part], line[part], x, k == first);
                        sums[t][part] = s.in_order(sum);
                    }
                }
            }
        }
        for t in 0..T {
            for part in 0..S::PARTS {
                let folded = s.folded(sums[t][part]);
                dots[t][part] = if first == 0 { folded } else { s.add_i(dots[t][part], folded) };
            }
        }
    }
    dots
}

/// `sums` and the products of codes and activations; the products alone where they are the `first`.
#[inline(always)]
pub(super) fn add_products<S: Simd, const SIGNED: bool>(
    s: S,
    sums: S::I,
    codes: S::I,
    x: S::I,
    first: bool,
) -> S::I {
    if SIGNED && S::SIGNED_CODES {
        // Signed products fill 16 bits, and are folded one by one; in 32 bits they are summed.
        let products = s.signed_products(codes, x);
        if first { products } else { s.add_i(sums, products) }
    } else if first {
        s.products(codes, x)
    } else {
        s.add_products(sums, codes, x)
    }
}
