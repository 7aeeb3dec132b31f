//! Many tokens: rows are unpacked into panels, some columns at a time, and multiplied with all tokens.
//!
//! ```text
//! for columns of 2048:                        panels of a tile stay in the second-level cache
//!   unpack the tile's rows
//!   for 6 tokens:                             their 2048 values stay in the first
//!     for 16 rows: out += panel x tokens      sums wait in `out` for the next columns
//! ```
//! Processors with AMX multiply 16 tokens at a time instead (`tiles.rs`), to the same bits.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

use std::marker::PhantomData;
use std::ops::Range;

use tensor::LANES;

use super::codes::Codes;
use super::format::Kind;
use super::panel::{Panel, Products, TOKENS};
use super::tiles::{Batch, Tiled};
use super::{Blocks, Sixteens, even_tiles};
use crate::level::{Isa, Kernel};
use crate::linear::activations::Token;
use crate::simd::Simd;

/// Columns that are unpacked at a time: whole blocks of every format.
pub(super) const COLS: usize = 2048;
/// Rows of a tile: their panels take half of a small second-level cache (512 KiB).
pub(crate) const TILE_ROWS: usize = (256 << 10) / Panel::bytes(COLS) * LANES;

/// A tile's rows times all tokens of the job.
pub(super) struct Many<'a, F> {
    pub(super) blocks: Blocks<'a, F>,
    pub(super) panels: &'a mut Vec<Panel>,
    pub(super) batch: &'a mut Batch,
}

impl<F: Codes> Many<'_, F> {
    pub(super) fn run(self, isa: Isa) {
        let Self { blocks, panels, batch } = self;
        let of = &blocks.of;
        if panels.len() < of.len() {
            panels.resize_with(of.len(), Panel::default);
        }
        let n_cols = of.job.weight.cols();
        for start in (0..n_cols).step_by(COLS) {
            let cols = start..n_cols.min(start + COLS);
            isa.run(Unpack { blocks: &blocks, panels, cols: cols.clone() });
            let next = blocks.after(cols.end);
            let sweep = Sweep { of, panels, cols, next };
            match isa {
                Isa::Amx(amx) => {
                    amx.vectors().run(Tiled { sweep, amx, batch, kind: PhantomData::<F::Kind> });
                }
                _ => isa.run(Grouped(sweep, PhantomData::<F::Kind>)),
            }
        }
    }
}

/// panels <- some columns of a tile's rows.
struct Unpack<'a, F> {
    blocks: &'a Blocks<'a, F>,
    panels: &'a mut [Panel],
    cols: Range<usize>,
}

impl<F: Codes> Kernel for Unpack<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n_blocks = self.cols.len() / F::VALUES;
        for (i, panel) in self.panels[..self.blocks.of.len()].iter_mut().enumerate() {
            let w = self.blocks.at(i, self.cols.start / F::VALUES);
            // SAFETY: as many blocks of the `i`-th 16 rows.
            unsafe { panel.unpack::<S, F>(s, w, n_blocks) };
        }
    }
}

/// A tile's panels times all tokens, over some columns.
pub(super) struct Sweep<'a> {
    pub(super) of: &'a Sixteens<'a>,
    pub(super) panels: &'a [Panel],
    pub(super) cols: Range<usize>,
    pub(super) next: Next,
}

/// What is unpacked next, to be asked for meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Next {
    w: *const u8,
    /// From one 16 rows to the next.
    stride: usize,
    /// Bytes for each group of a panel.
    group_bytes: usize,
}

impl Next {
    /// Weights to ask for with the `i`-th 16 rows, and how many bytes of them with each group.
    #[inline(always)]
    pub(super) fn rows(&self, i: usize) -> (*const u8, usize) {
        (self.w.wrapping_add(i * self.stride), self.group_bytes)
    }
}

impl<F: Codes> Blocks<'_, F> {
    /// What follows the columns before `end`: the same rows' next, or the next tile's first.
    fn after(&self, end: usize) -> Next {
        let w = if end < self.of.job.weight.cols() {
            self.at(0, end / F::VALUES)
        } else {
            self.at(self.of.len(), 0)
        };
        Next {
            w,
            stride: self.n_blocks() * F::LANES_BYTES,
            group_bytes: F::LANES_BYTES * F::GROUP / F::VALUES,
        }
    }
}

/// The same where the kind of the format is known.
struct Grouped<'a, K>(Sweep<'a>, PhantomData<K>);

impl<K: Kind> Kernel for Grouped<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for tokens in even_tiles(self.0.of.job.n_tokens(), TOKENS) {
            match tokens.len() {
                6 => self.tile::<S, 6>(s, tokens.start),
                5 => self.tile::<S, 5>(s, tokens.start),
                4 => self.tile::<S, 4>(s, tokens.start),
                3 => self.tile::<S, 3>(s, tokens.start),
                n => unreachable!("{n} tokens of many in tiles of nearly {TOKENS}"),
            }
        }
    }
}

impl<K: Kind> Grouped<'_, K> {
    /// Tokens `first .. first + T` times every panel.
    #[inline(always)]
    fn tile<S: Simd, const T: usize>(&self, s: S, first: usize) {
        let Sweep { of, panels, cols, next } = &self.0;
        let x: [Token; T] = std::array::from_fn(|t| of.x.token(of.job.token(first + t)));
        for (i, panel) in panels[..of.len()].iter().enumerate() {
            let mut acc = of.begun::<S, T>(s, first, i, cols.start);
            // Once: with the first tokens.
            let next = (first == 0).then(|| next.rows(i));
            let products = Products { panel, x: &x, at: cols.start, next };
            // SAFETY: the panel holds these columns, the tokens have them.
            unsafe { products.add::<S, K>(s, &mut acc) };
            for t in 0..T {
                of.set(s, first + t, i, acc[t], cols.end);
            }
        }
    }
}
