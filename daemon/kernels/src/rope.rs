//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864).

use std::ops::Range;
use std::sync::OnceLock;

use tensor::reference::RopePairs;

/// Positions whose cosines and sines are computed together.
const CHUNK: usize = 256;
/// Chunks that are kept: 1 Mi positions. Beyond them every use computes anew.
const CHUNKS_MAX: usize = 4096;

/// Cosines and sines by position, computed at first use.
///
/// Angles are products of f32, as in the published implementations; their cosines are then taken in f64.
#[derive(Debug)]
pub struct RopeTable {
    freqs: Vec<f32>,
    scale: f32,
    pairs: RopePairs,
    chunks: Vec<OnceLock<Vec<f32>>>,
}

impl RopeTable {
    /// `freqs`: [dim / 2], radians a position; `scale` multiplies every cosine and sine (YaRN's attention factor).
    pub fn new(freqs: &[f32], scale: f32, pairs: RopePairs) -> Self {
        let chunks = (0..CHUNKS_MAX).map(|_| OnceLock::new()).collect();
        Self { freqs: freqs.to_vec(), scale, pairs, chunks }
    }

    /// Dimensions of a head that are rotated: the first `dim`.
    pub fn dim(&self) -> usize {
        2 * self.freqs.len()
    }

    /// Calls `f` with the cosines and the sines [dim / 2] of a position.
    pub fn with_row(&self, position: u32, f: impl FnOnce(&[f32], &[f32])) {
        let (chunk, row) = (position as usize / CHUNK, position as usize % CHUNK);
        let n = self.freqs.len();
        match self.chunks.get(chunk) {
            Some(chunk_rows) => {
                let rows = chunk_rows.get_or_init(|| {
                    let first = (chunk * CHUNK) as u32;
                    (first..first + CHUNK as u32).flat_map(|position| self.row(position)).collect()
                });
                let (cos, sin) = rows[row * 2 * n..(row + 1) * 2 * n].split_at(n);
                f(cos, sin);
            }
            None => {
                let row = self.row(position);
                let (cos, sin) = row.split_at(n);
                f(cos, sin);
            }
        }
    }

    /// Cosines, then sines, of a position.
    fn row(&self, position: u32) -> Vec<f32> {
        let angles = || self.freqs.iter().map(|freq| f64::from(position as f32 * freq));
        let cos = angles().map(|angle| angle.cos() as f32 * self.scale);
        let sin = angles().map(|angle| angle.sin() as f32 * self.scale);
        cos.chain(sin).collect()
    }

    /// Rotates the part `rotated`, of [`dim`](Self::dim) values, of every head [head_dim] of one token.
    pub(crate) fn rotate(&self, heads: &mut [f32], head_dim: usize, rotated: Range<usize>, position: u32) {
        self.with_row(position, |cos, sin| {
            for head in heads.chunks_exact_mut(head_dim) {
                let part = &mut head[rotated.clone()];
                match self.pairs {
                    RopePairs::Halves => rotate_halves(part, cos, sin),
                    RopePairs::Interleaved => rotate_interleaved(part, cos, sin),
                }
            }
        });
    }
}

fn rotate_halves(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, b) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
}

fn rotate_interleaved(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, cos), sin) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        (pair[0], pair[1]) = (a * cos - b * sin, a * sin + b * cos);
    }
}
