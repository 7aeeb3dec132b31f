//! Many tokens on AMX: unpacked panels times 16 tokens, a group of columns at a time.
//!
//! ```text
//! dots[16 tokens][16 rows] = codes of the tokens [16][group] x codes of the panel [group / 4][16][4]     one instruction
//! sums[token][row] += scale[row] (dots[token][row] + offset[token]) scale[token]                          as everywhere
//! ```
//! A product takes the tile unit about as long as the vectors take for the second line of the product before: the two
//! overlap.
#![expect(unsafe_code, reason = "reads panels by pointer")]

use std::marker::PhantomData;

use bytemuck::Zeroable;

use super::batch::{Batch, Order, ROW_BYTES, Together};
use super::dots::Values;
use super::even_tiles;
use super::format::Kind;
use super::many::Sweep;
use super::panel::Panel;
use crate::level::Kernel;
use crate::linear::activations::Line;
use crate::simd::{Amx, Product, Simd, TILE, Tiles};

/// Tokens from which tiles are used: half of one full.
pub(super) const TILE_TOKENS: usize = 8;

/// A tile's panels times all tokens, over some columns.
pub(super) struct Tiled<'a, K> {
    pub(super) sweep: Sweep<'a>,
    pub(super) amx: Amx,
    pub(super) batch: &'a mut Batch,
    pub(super) kind: PhantomData<K>,
}

impl<K: Kind> Kernel for Tiled<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { sweep, amx, batch, kind: _ } = self;
        let tiles = amx.tiles(K::GROUP);
        for tokens in even_tiles(sweep.of.job.n_tokens(), TILE) {
            let (first, n) = (tokens.start, tokens.len());
            batch.fill::<S, K>(s, sweep.part(), &tokens, Order::Rows);
            let products = Tile { sweep: &sweep, tiles: &tiles, batch, first, n };
            match n {
                ..=8 => products.add::<S, K, 8>(s),
                9..=12 => products.add::<S, K, 12>(s),
                _ => products.add::<S, K, 16>(s),
            }
        }
    }
}

/// The tokens `first .. first + n` of a sweep.
struct Tile<'a> {
    sweep: &'a Sweep<'a>,
    tiles: &'a Tiles,
    batch: &'a Batch,
    first: usize,
    n: usize,
}

impl Tile<'_> {
    /// Adds every panel's products to the results; the first `T` of the tile's 16 tokens are looked at.
    #[inline(always)]
    fn add<S: Simd, K: Kind, const T: usize>(&self, s: S) {
        let Sweep { of, panels, cols, .. } = self.sweep;
        for (i, panel) in panels[..of.len()].iter().enumerate() {
            let mut acc = [s.sixteen(0.0); T];
            if cols.start > 0 {
                for t in 0..self.n {
                    acc[t] = of.sums(s, self.first + t, i);
                }
            }
            let next = (self.first == 0).then(|| self.sweep.next.rows(i));
            // SAFETY: panel and batch hold the same columns.
            unsafe { self.add_panel::<S, K, T>(s, &mut acc, panel, next) };
            for t in 0..self.n {
                of.set(s, self.first + t, i, acc[t], cols.end);
            }
        }
    }

    /// acc[t] += the panel times the batch's token `t`. What comes `next` is asked for meanwhile.
    ///
    /// # Safety
    /// Panel and batch hold the sweep's columns, in groups of the kind.
    #[inline(always)]
    unsafe fn add_panel<S: Simd, K: Kind, const T: usize>(
        &self,
        s: S,
        acc: &mut [S::Sixteen; T],
        panel: &Panel,
        next: Option<(*const u8, usize)>,
    ) {
        let n_groups = self.sweep.cols.len() / K::GROUP;
        let mut dots = [[Line::zeroed(); TILE]; 2];
        // SAFETY: the caller's promise; the panel's blocks have all groups.
        unsafe {
            self.multiply::<K>(panel, 0, &mut dots);
            for block in 0..panel.n_blocks() {
                let mut sums = [s.sixteen(0.0); T];
                for group in panel.groups(block) {
                    if group + 1 < n_groups {
                        self.multiply::<K>(panel, group + 1, &mut dots);
                    }
                    if let Some((next, bytes)) = next {
                        for line in (0..bytes).step_by(64) {
                            s.prefetch(next.wrapping_add(group * bytes + line));
                        }
                    }
                    self.add_group::<S, K, T>(s, &mut sums, panel, group, &dots[group % 2]);
                }
                panel.add_block::<S, K, T>(s, acc, block, &sums, (self.batch, 0));
            }
        }
    }

    /// sums[t] += scales times the products of a group.
    ///
    /// # Safety
    /// The panel and the batch have the group.
    #[inline(always)]
    unsafe fn add_group<S: Simd, K: Kind, const T: usize>(
        &self,
        s: S,
        sums: &mut [S::Sixteen; T],
        panel: &Panel,
        group: usize,
        dots: &[Line; TILE],
    ) {
        let x = Together::<K>::new(s, self.batch, group, 0);
        for part in 0..S::PARTS {
            // SAFETY: the caller's promise; a line is 16 integers.
            unsafe {
                let scale = panel.scale(s, group, part);
                for t in 0..T {
                    let dots = dots.as_ptr().add(t).cast::<u8>().add(4 * S::LANES * part);
                    let mut dots = s.load_i(dots);
                    let begin = if K::shifted::<S>() {
                        x.offset_products(s, t, panel.offset)
                    } else {
                        s.splat_i(S::BEGIN)
                    };
                    dots = s.add_i(dots, begin);
                    let dots = s.scaled(s.folded(dots, scale), scale);
                    let x_scale = s.splat(Values::<S>::scale(&x, t));
                    sums[t][part] = s.fma(dots, x_scale, sums[t][part]);
                }
            }
        }
    }

    /// dots[group % 2] <- the products of a group.
    ///
    /// # Safety
    /// The panel and the batch have the group.
    #[inline(always)]
    unsafe fn multiply<K: Kind>(&self, panel: &Panel, group: usize, dots: &mut [[Line; TILE]; 2]) {
        let product = Product {
            a: self.batch.rows::<K>(group),
            a_stride: ROW_BYTES,
            b: panel.codes(group, K::GROUP),
            sums: dots[group % 2].as_mut_ptr().cast(),
        };
        // SAFETY: 16 tokens, the group's codes each; as many of the panel's 16 rows; 16 lines of sums.
        unsafe { self.tiles.multiply(product, group % 2 == 1) };
    }
}
