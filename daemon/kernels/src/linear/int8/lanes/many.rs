//! Many tokens: rows are unpacked into panels, some columns at a time, and multiplied with batches of tokens.
//!
//! ```text
//! for some columns:                           panels of a tile stay in the second-level cache
//!   unpack the tile's rows
//!   for a batch of tokens:                    it stays in the first
//!     for 16 rows: out += panel x tokens      sums wait in `out` for the next columns
//! ```
//! Processors with AMX multiply 16 tokens at a time instead (`tiles.rs`), to the same bits.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

use std::marker::PhantomData;
use std::ops::Range;

use tensor::LANES;

use super::batch::{Batch, Order, Part, TILE_COLS};
use super::codes::Codes;
use super::format::Kind;
use super::panel::{Panel, Products};
use super::tiles::Tiled;
use super::{Blocks, Sixteens, even_tiles};
use crate::level::{Isa, Kernel};
use crate::simd::{Simd, TILE};

/// Columns that are unpacked at a time, whole blocks of every format: codes of 16 tokens take half of a small first-level
/// cache (32 KiB).
const COLS: usize = 1024;

/// Columns that are unpacked at a time.
fn cols(isa: Isa) -> usize {
    if matches!(isa, Isa::Amx(_)) { TILE_COLS } else { COLS }
}

/// Rows of a tile: their panels take half of a small second-level cache, of 512 KiB, or with AVX-512 of 1 MiB and less. Each
/// tile brings the tokens together anew.
pub(crate) fn tile_rows(isa: Isa) -> usize {
    let cache = if matches!(isa, Isa::Avx512(_)) { 384 << 10 } else { 256 << 10 };
    cache / Panel::bytes(cols(isa)) * LANES
}

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
        let (n_cols, step) = (of.job.weight.cols(), cols(isa));
        for start in (0..n_cols).step_by(step) {
            let cols = start..n_cols.min(start + step);
            isa.run(Unpack { blocks: &blocks, panels, cols: cols.clone() });
            let next = blocks.after(cols.end);
            let sweep = Sweep { of, panels, cols, next };
            match isa {
                Isa::Amx(amx) => {
                    amx.vectors().run(Tiled { sweep, amx, batch, kind: PhantomData::<F::Kind> });
                }
                _ => isa.run(Batched { sweep, batch, kind: PhantomData::<F::Kind> }),
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

/// The same on vectors, where the kind of the format is known.
struct Batched<'a, K> {
    sweep: Sweep<'a>,
    batch: &'a mut Batch,
    kind: PhantomData<K>,
}

impl<K: Kind> Kernel for Batched<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { sweep, batch, kind: _ } = self;
        for tokens in even_tiles(sweep.of.job.n_tokens(), TILE / S::MANY * S::MANY) {
            batch.fill::<S, K>(s, sweep.part(), &tokens, Order::Lanes);
            for tile in even_tiles(tokens.len(), S::MANY) {
                let (first, at) = (tokens.start + tile.start, tile.start);
                // Compiled only where tiles are that large.
                match tile.len() {
                    ..=2 => unreachable!("so few tokens are not many"),
                    3 if S::MANY < 8 => sweep.tile::<S, K, 3>(s, batch, first, at),
                    4 if S::MANY < 8 => sweep.tile::<S, K, 4>(s, batch, first, at),
                    5 if S::MANY < 8 => sweep.tile::<S, K, 5>(s, batch, first, at),
                    6 if S::MANY < 8 => sweep.tile::<S, K, 6>(s, batch, first, at),
                    10 if S::MANY > 8 => sweep.tile::<S, K, 10>(s, batch, first, at),
                    11 if S::MANY > 8 => sweep.tile::<S, K, 11>(s, batch, first, at),
                    12 if S::MANY > 8 => sweep.tile::<S, K, 12>(s, batch, first, at),
                    13 if S::MANY > 8 => sweep.tile::<S, K, 13>(s, batch, first, at),
                    14 if S::MANY > 8 => sweep.tile::<S, K, 14>(s, batch, first, at),
                    n => unreachable!("{n} tokens in tiles of {}", S::MANY),
                }
            }
        }
    }
}

impl Sweep<'_> {
    /// What it is multiplied with.
    #[inline(always)]
    pub(super) fn part(&self) -> Part<'_> {
        Part { of: self.of, cols: &self.cols, offset: self.panels[0].offset }
    }

    /// Tokens `first .. first + T`, which are the batch's from `at` on, times every panel.
    #[inline(always)]
    fn tile<S: Simd, K: Kind, const T: usize>(&self, s: S, batch: &Batch, first: usize, at: usize) {
        let Self { of, panels, cols, next } = self;
        for (i, panel) in panels[..of.len()].iter().enumerate() {
            let mut acc = of.begun::<S, T>(s, first, i, cols.start);
            // Once: with the first tokens.
            let next = (first == 0).then(|| next.rows(i));
            let products = Products { panel, batch, first: at, next };
            // SAFETY: panel and batch hold the same columns.
            unsafe { products.add::<S, K, T>(s, &mut acc) };
            for t in 0..T {
                of.set(s, first + t, i, acc[t], cols.end);
            }
        }
    }
}
