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
use std::ops::Range;

use bytemuck::Zeroable;

use super::even_tiles;
use super::format::Kind;
use super::many::{COLS, Sweep};
use super::panel::{Panel, SumsOf};
use crate::level::Kernel;
use crate::linear::activations::{Line, Token};
use crate::simd::{Amx, Product, Simd, TILE, Tiles};

/// Tokens from which tiles are used: half of one full.
pub(super) const TILE_TOKENS: usize = 8;
/// From one token's codes to the next. Not a power of two, or all would fall into a few sets of the cache.
const STRIDE: usize = COLS + size_of::<Line>();

/// Some columns of 16 tokens.
///
/// ```text
/// codes:        [16 tokens][STRIDE] bytes
/// scales, sums: [groups][16 tokens] f32
/// offsets:      [groups][16 tokens] i32: what the panel's offset of codes adds to a product
/// ```
#[derive(Debug, Default)]
pub(super) struct Batch {
    codes: Vec<Line>,
    scales: Vec<[f32; TILE]>,
    sums: Vec<[f32; TILE]>,
    offsets: Vec<[i32; TILE]>,
}

impl SumsOf for Batch {
    #[inline(always)]
    unsafe fn sum(&self, group: usize, t: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.sums.get_unchecked(group).get_unchecked(t) }
    }
}

impl Batch {
    /// Takes the columns from `start` on of `n_groups` groups; those of the last token again where there are not 16.
    fn fill<K: Kind>(&mut self, tokens: &[Token], start: usize, n_groups: usize, offset: i32) {
        let width = n_groups * K::GROUP;
        self.codes.resize(TILE * STRIDE / size_of::<Line>(), Line::zeroed());
        self.scales.resize(n_groups, [0.0; TILE]);
        self.sums.resize(n_groups, [0.0; TILE]);
        self.offsets.resize(n_groups, [0; TILE]);
        let codes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.codes);
        for (t, codes) in codes.chunks_exact_mut(STRIDE).enumerate() {
            let token = tokens[t.min(tokens.len() - 1)];
            // SAFETY: the token has these columns, and a scale and sums for each of their groups.
            unsafe {
                let from = token.codes.add(start).cast::<u8>();
                codes[..width].copy_from_slice(std::slice::from_raw_parts(from, width));
                for group in 0..n_groups {
                    let at = start + group * K::GROUP;
                    let pairs = token.pairs(K::GROUP, at);
                    self.scales[group][t] = *token.scales.add(at / 16);
                    self.sums[group][t] = token.sum(K::GROUP, at);
                    self.offsets[group][t] =
                        offset * (i32::from(pairs as i16) + i32::from((pairs >> 16) as i16));
                }
            }
        }
    }
}

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
        let (of, start, n_groups) = (sweep.of, sweep.cols.start, sweep.cols.len() / K::GROUP);
        for Range { start: first, end } in even_tiles(of.job.n_tokens(), TILE) {
            let mut tokens = [of.x.token(of.job.token(first)); TILE];
            for (token, i) in tokens.iter_mut().zip(first..end) {
                *token = of.x.token(of.job.token(i));
            }
            batch.fill::<K>(&tokens[..end - first], start, n_groups, sweep.panels[0].offset);
            let products = Tile { sweep: &sweep, tiles: &tiles, batch, first, n: end - first };
            match end - first {
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
            self.multiply(panel, 0, K::GROUP, &mut dots);
            for block in 0..panel.n_blocks() {
                let mut sums = [s.sixteen(0.0); T];
                for group in panel.groups(block) {
                    if group + 1 < n_groups {
                        self.multiply(panel, group + 1, K::GROUP, &mut dots);
                    }
                    if let Some((next, bytes)) = next {
                        for line in (0..bytes).step_by(64) {
                            s.prefetch(next.wrapping_add(group * bytes + line));
                        }
                    }
                    self.add_group::<S, K, T>(s, &mut sums, panel, group, &dots[group % 2]);
                }
                panel.add_block::<S, K, _, T>(s, acc, block, &sums, self.batch);
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
        let (scales, offsets) = (&self.batch.scales[group], &self.batch.offsets[group]);
        let shifted = K::SHIFTED || (K::SIGNED && !S::SIGNED_CODES);
        for part in 0..S::PARTS {
            // SAFETY: the caller's promise; a line is 16 integers.
            unsafe {
                let scale = panel.scale(s, group, part);
                for t in 0..T {
                    let dots = dots.as_ptr().add(t).cast::<u8>().add(4 * S::LANES * part);
                    let mut dots = s.load_i(dots);
                    if shifted {
                        dots = s.add_i(dots, s.splat_i(offsets[t] as u32));
                    }
                    let dots = s.scaled(s.folded(dots, scale), scale);
                    sums[t][part] = s.fma(dots, s.splat(scales[t]), sums[t][part]);
                }
            }
        }
    }

    /// dots[group % 2] <- the products of a group.
    ///
    /// # Safety
    /// The panel and the batch have the group.
    #[inline(always)]
    unsafe fn multiply(
        &self,
        panel: &Panel,
        group: usize,
        group_values: usize,
        dots: &mut [[Line; TILE]; 2],
    ) {
        let product = Product {
            a: self.batch.codes.as_ptr().cast::<i8>().wrapping_add(group * group_values),
            a_stride: STRIDE,
            b: panel.codes(group, group_values),
            sums: dots[group % 2].as_mut_ptr().cast(),
        };
        // SAFETY: 16 tokens, the group's codes each; as many of the panel's 16 rows; 16 lines of sums.
        unsafe { self.tiles.multiply(product, group % 2 == 1) };
    }
}
