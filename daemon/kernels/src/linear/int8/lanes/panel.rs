//! Many tokens: 16 rows are unpacked once, so that the inner loop reads bytes alone, and is the same for formats of a kind.
//!
//! ```text
//! codes:            [k-steps][16 rows][4 values] bytes
//! scales:           [groups][16 rows] as the level multiplies with them
//! minima:           [groups][16 rows] f32, where the format has them
//! factors:          [blocks][2][16 rows] f32, of scales and of minima
//! ```
//! Products are the same operations in the same order as those of a few tokens: nothing but the place of the operands
//! differs.
#![expect(unsafe_code, reason = "reads panels and activations by pointer")]

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Zeroable;
use tensor::LANES;

use super::batch::{Batch, Together};
use super::codes::{Codes, each_kind};
use super::dots::{Group, add_dots, add_minima, add_sums};
use super::format::Kind;
use crate::linear::activations::Line;
use crate::simd::Simd;

/// 16 unpacked rows, some of their columns.
#[derive(Debug, Default)]
pub(super) struct Panel {
    codes: Vec<Line>,
    scales: Vec<Line>,
    minima: Vec<Line>,
    factors: Vec<[Line; 2]>,
    /// Groups of a block.
    pub(super) a_block: usize,
    /// What is added to every code.
    pub(super) offset: i32,
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
        self.a_block = F::VALUES / F::GROUP;
        self.offset = F::offset::<S>();
        let n_groups = n_blocks * self.a_block;
        self.codes.resize(n_groups * F::STEPS, Line::zeroed());
        self.scales.resize(n_groups, Line::zeroed());
        self.minima.resize(if F::Kind::MINIMA { n_groups } else { 0 }, Line::zeroed());
        self.factors.resize(n_blocks, [Line::zeroed(); 2]);
        for block in 0..n_blocks {
            // SAFETY: one of the blocks; there is room for its factors and its groups.
            unsafe {
                let w = w.add(block * F::LANES_BYTES);
                for part in 0..S::PARTS {
                    let (d, m) = F::factors(s, w, part);
                    let factors = self.factors.as_mut_ptr().add(block).cast::<f32>().add(part * S::LANES);
                    s.store(factors, d);
                    s.store(factors.add(LANES), m);
                }
                for i in 0..self.a_block / F::KINDS {
                    let first = block * self.a_block;
                    each_kind!(F, i, |group| self.unpack_group::<S, F>(s, w, group, first + group));
                }
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
                let at = 4 * S::LANES * part;
                let scales = self.scales.as_mut_ptr().add(to).cast::<u8>();
                s.store_scale(scales.add(at), F::scale(s, w, group, part));
                if F::Kind::MINIMA {
                    let minima = self.minima.as_mut_ptr().add(to).cast::<u8>();
                    s.store(minima.add(at).cast(), F::min(s, w, group, part));
                }
            }
            for k in 0..F::STEPS {
                let line = self.codes.as_mut_ptr().add(to * F::STEPS + k).cast::<u8>();
                for part in 0..S::PARTS {
                    s.store_i(line.add(4 * S::LANES * part), F::multiplicand(s, w, group, k, part));
                }
            }
        }
    }

    /// Where the codes of a group of `group_values` begin.
    #[inline(always)]
    pub(super) fn codes(&self, group: usize, group_values: usize) -> *const u8 {
        self.codes.as_ptr().wrapping_add(group * (group_values / 4)).cast()
    }

    /// A vector's part of a group's scales.
    ///
    /// # Safety
    /// The panel has the group; `part` is below `16 / S::LANES`.
    #[inline(always)]
    pub(super) unsafe fn scale<S: Simd>(&self, s: S, group: usize, part: usize) -> S::Scale {
        // SAFETY: the caller's promise; a line is 16 units of four bytes.
        unsafe { s.load_scale(self.scales.as_ptr().add(group).cast::<u8>().add(4 * S::LANES * part)) }
    }

    /// acc[t] += the block's factors times what its groups sum up to: `sums`, and minima with the sums of activations of
    /// the tokens from `first` on.
    ///
    /// # Safety
    /// The panel has the block, the batch the same columns of `T` tokens.
    #[inline(always)]
    pub(super) unsafe fn add_block<S: Simd, K: Kind, const T: usize>(
        &self,
        s: S,
        acc: &mut [S::Sixteen; T],
        block: usize,
        sums: &[S::Sixteen; T],
        (batch, first): (&Batch, usize),
    ) {
        let groups = self.groups(block);
        // SAFETY: the caller's promise; a line is 16 floats.
        unsafe {
            let mut minima = [s.sixteen(0.0); T];
            if K::MINIMA {
                for group in groups {
                    let x = Together::<K>::new(s, batch, group, first);
                    for part in 0..S::PARTS {
                        let min = self.minima.as_ptr().add(group).cast::<f32>().add(part * S::LANES);
                        add_minima(s, &mut minima, part, s.load(min), &x);
                    }
                }
            }
            for part in 0..S::PARTS {
                let factors = self.factors.as_ptr().add(block).cast::<f32>().add(part * S::LANES);
                let factors = (s.load(factors), s.load(factors.add(LANES)));
                add_sums::<S, K, T>(s, acc, part, factors, sums, &minima);
            }
        }
    }

    /// The groups of a block.
    #[inline(always)]
    pub(super) fn groups(&self, block: usize) -> Range<usize> {
        block * self.a_block..(block + 1) * self.a_block
    }

    pub(super) fn n_blocks(&self) -> usize {
        self.factors.len()
    }
}

/// Products of a panel with tokens of a batch from `first` on.
pub(super) struct Products<'a> {
    pub(super) panel: &'a Panel,
    pub(super) batch: &'a Batch,
    pub(super) first: usize,
    /// Weights to ask for on the way, and how many bytes of them with each group.
    pub(super) next: Option<(*const u8, usize)>,
}

/// A group of a panel.
struct Unpacked<'a, K> {
    panel: &'a Panel,
    group: usize,
    codes: *const u8,
    kind: PhantomData<K>,
}

impl<S: Simd, K: Kind> Group<S> for Unpacked<'_, K> {
    type Kind = K;
    const IN_ORDER: bool = true;

    #[inline(always)]
    unsafe fn codes(&self, s: S, k: usize, part: usize) -> S::I {
        // SAFETY: the caller's promise; a line is 16 units of four bytes.
        unsafe { s.load_i(self.codes.add(size_of::<Line>() * k + 4 * S::LANES * part)) }
    }
    #[inline(always)]
    unsafe fn scale(&self, s: S, part: usize) -> S::Scale {
        // SAFETY: the caller's promise.
        unsafe { self.panel.scale(s, self.group, part) }
    }
    #[inline(always)]
    fn offset(&self) -> i32 {
        self.panel.offset
    }
}

impl Products<'_> {
    /// acc[t] += the products with token `first + t`.
    ///
    /// # Safety
    /// The panel is of a format of this kind, the batch has the same columns of so many tokens.
    #[inline(always)]
    pub(super) unsafe fn add<S: Simd, K: Kind, const T: usize>(&self, s: S, acc: &mut [S::Sixteen; T]) {
        let Self { panel, batch, first, next } = *self;
        for block in 0..panel.n_blocks() {
            let mut sums = [s.sixteen(0.0); T];
            for group in panel.groups(block) {
                if let Some((next, bytes)) = next {
                    for line in (0..bytes).step_by(64) {
                        s.prefetch(next.wrapping_add(group * bytes + line));
                    }
                }
                let codes = s.unknown(panel.codes(group, K::GROUP));
                let unpacked = Unpacked { panel, group, codes, kind: PhantomData::<K> };
                // SAFETY: the caller's promise.
                unsafe { add_dots(s, &mut sums, &unpacked, &Together::<K>::new(s, batch, group, first)) };
            }
            // SAFETY: one of the blocks; the tokens have their sums.
            unsafe { panel.add_block::<S, K, T>(s, acc, block, &sums, (batch, first)) };
        }
    }
}
