//! Many tokens on AMX: unpacked panels times 16 tokens, a group of columns at a time.
//!
//! ```text
//! dots[16 tokens][16 rows] = codes of the tokens [16][group] x codes of the panel [group / 4][16][4]     one instruction
//! acc[token][row] += offset[row] * sum[token] + scale[row] * scale[token] * dots[token][row]             as everywhere
//! ```
//! A product takes the tile unit about as long as the vectors take for the second line of the product before: the two
//! overlap.
#![expect(unsafe_code, reason = "reads panels by pointer")]

use bytemuck::Zeroable;
use tensor::LANES;

use super::many::{COLS, Sweep};
use super::panel::Panel;
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
/// ```
#[derive(Debug, Default)]
pub(super) struct Batch {
    codes: Vec<Line>,
    scales: Vec<[f32; TILE]>,
    sums: Vec<[f32; TILE]>,
}

impl Batch {
    /// Takes the columns from `start` on of `n_groups` groups; those of the last token again where there are not 16.
    fn fill<const GROUP: usize>(&mut self, tokens: &[Token], start: usize, n_groups: usize) {
        self.codes.resize(TILE * STRIDE / size_of::<Line>(), Line::zeroed());
        self.scales.resize(n_groups, [0.0; TILE]);
        self.sums.resize(n_groups, [0.0; TILE]);
        let codes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.codes);
        for (t, codes) in codes.chunks_exact_mut(STRIDE).enumerate() {
            let token = tokens[t.min(tokens.len() - 1)];
            // SAFETY: the token has these columns, and a scale and sums for each of their groups.
            unsafe {
                let from = token.codes.add(start).cast::<u8>();
                codes[..n_groups * GROUP].copy_from_slice(std::slice::from_raw_parts(from, n_groups * GROUP));
                for group in 0..n_groups {
                    let at = start + group * GROUP;
                    self.scales[group][t] = *token.scales.add(at / 16);
                    self.sums[group][t] = token.sum::<GROUP>(at);
                }
            }
        }
    }
}

/// A tile's panels times all tokens, over some columns.
pub(super) struct Tiled<'a, const GROUP: usize> {
    pub(super) sweep: Sweep<'a>,
    pub(super) amx: Amx,
    pub(super) batch: &'a mut Batch,
}

impl<const GROUP: usize> Kernel for Tiled<'_, GROUP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { sweep, amx, batch } = self;
        let tiles = amx.tiles(GROUP);
        let (of, start, n_groups) = (sweep.of, sweep.cols.start, sweep.cols.len() / GROUP);
        let n_tokens = of.job.n_tokens();
        let n_tiles = n_tokens.div_ceil(TILE);
        for tile in 0..n_tiles {
            let (first, end) = (tile * n_tokens / n_tiles, (tile + 1) * n_tokens / n_tiles);
            let mut tokens = [of.x.token(of.job.token(first)); TILE];
            for (token, i) in tokens.iter_mut().zip(first..end) {
                *token = of.x.token(of.job.token(i));
            }
            batch.fill::<GROUP>(&tokens[..end - first], start, n_groups);
            let products = Tile { sweep: &sweep, tiles: &tiles, batch, first, n: end - first };
            match end - first {
                ..=8 => products.add::<S, 8, GROUP>(s),
                9..=12 => products.add::<S, 12, GROUP>(s),
                _ => products.add::<S, 16, GROUP>(s),
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
    fn add<S: Simd, const T: usize, const GROUP: usize>(&self, s: S) {
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
            unsafe { self.add_groups::<S, T, GROUP>(s, &mut acc, panel, next) };
            for t in 0..self.n {
                of.set(s, self.first + t, i, acc[t], cols.end);
            }
        }
    }

    /// acc[t] += the panel times the batch's token `t`. What comes `next` is asked for meanwhile.
    ///
    /// # Safety
    /// Panel and batch hold the sweep's columns in groups of `GROUP`.
    #[inline(always)]
    unsafe fn add_groups<S: Simd, const T: usize, const GROUP: usize>(
        &self,
        s: S,
        acc: &mut [S::Sixteen; T],
        panel: &Panel,
        next: Option<(*const u8, usize)>,
    ) {
        let n_groups = self.sweep.cols.len() / GROUP;
        let mut dots = [[Line::zeroed(); TILE]; 2];
        // SAFETY: the caller's promise; a group of the panel is `GROUP / 4` lines, a line 16 integers or floats.
        unsafe {
            self.multiply::<GROUP>(panel, 0, &mut dots);
            for group in 0..n_groups {
                if group + 1 < n_groups {
                    self.multiply::<GROUP>(panel, group + 1, &mut dots);
                }
                if let Some((next, bytes)) = next {
                    for line in (0..bytes).step_by(64) {
                        s.prefetch(next.wrapping_add(group * bytes + line));
                    }
                }
                let (scales, sums) = (&self.batch.scales[group], &self.batch.sums[group]);
                let dots = dots[group % 2].as_ptr().cast::<u8>();
                for part in 0..S::PARTS {
                    let (scale, offset) = panel.scale_and_offset(s, group, part);
                    for t in 0..T {
                        acc[t][part] = s.fma(offset, s.splat(sums[t]), acc[t][part]);
                        let dots = s.load_i(dots.add(4 * (t * LANES + part * S::LANES)));
                        acc[t][part] = s.fma(s.to_f32(dots), s.mul(scale, s.splat(scales[t])), acc[t][part]);
                    }
                }
            }
        }
    }

    /// dots[group % 2] <- the products of a group.
    ///
    /// # Safety
    /// The panel and the batch have the group.
    #[inline(always)]
    unsafe fn multiply<const GROUP: usize>(&self, panel: &Panel, group: usize, dots: &mut [[Line; TILE]; 2]) {
        let product = Product {
            a: self.batch.codes.as_ptr().cast::<i8>().wrapping_add(group * GROUP),
            a_stride: STRIDE,
            b: panel.group::<GROUP>(group).cast(),
            sums: dots[group % 2].as_mut_ptr().cast(),
        };
        // SAFETY: 16 tokens, `GROUP` codes each; as many of the panel's 16 rows; 16 lines of sums.
        unsafe { self.tiles.multiply(product, group % 2 == 1) };
    }
}
