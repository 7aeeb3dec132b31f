//! Products with a transposed matrix: `y = W^T x`, a weighted sum of the rows of `W`.
#![expect(unsafe_code, reason = "vector loads and stores of rows of checked length")]

use half::{bf16, f16};
use tensor::{DType, SCALE_BLOCK};

use super::{Job, Rows};
use crate::level::Kernel;
use crate::simd::{E4m3, Element, Simd};

/// One job, all of its tokens: out[i, :] <- sum_r x[i, r] W[r, :].
pub(crate) struct Columns<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) x: Rows<'a>,
    /// A decoded row, where rows can't be read as they lie.
    pub(crate) scratch: &'a mut Vec<f32>,
    /// The sums of one token.
    pub(crate) sums: &'a mut Vec<f32>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let n_cols = self.job.weight.cols();
        self.sums.clear();
        self.sums.resize(self.job.n_tokens() * n_cols, 0.0);
        for row in 0..self.job.weight.rows() {
            let w = self.job.row(row);
            match self.job.weight.dtype() {
                DType::F32 => self.add_row(s, row, w.cast::<f32>()),
                DType::F16 => self.add_row(s, row, w.cast::<f16>()),
                DType::BF16 => self.add_row(s, row, w.cast::<bf16>()),
                DType::F8E4M3 => self.add_row(s, row, w.cast::<E4m3>()),
                _ => {
                    self.scratch.resize(n_cols, 0.0);
                    self.job.weight.decode_row(row, self.scratch);
                    let decoded = self.scratch.as_ptr();
                    self.add_row(s, row, decoded);
                }
            }
        }
        for (i, sums) in self.sums.chunks_exact(n_cols).enumerate() {
            // SAFETY: the job is one tile, this worker's; its results are `n_cols` a token, without a bias.
            unsafe { self.job.results(i, 0..n_cols) }.copy_from_slice(sums);
        }
    }
}

impl Columns<'_> {
    /// sums[i, :] += x[i, row] * w, where `w` points to the row's values.
    #[inline(always)]
    fn add_row<S: Simd, E: Element>(&mut self, s: S, row: usize, w: *const E) {
        let n_cols = self.job.weight.cols();
        for i in 0..self.job.n_tokens() {
            let x = self.x.row(self.job.token(i))[row];
            let sums = &mut self.sums[i * n_cols..(i + 1) * n_cols];
            for start in (0..n_cols).step_by(SCALE_BLOCK) {
                let end = n_cols.min(start + SCALE_BLOCK);
                let factor = if E::SCALED { x * self.job.weight.scale_at(row, start) } else { x };
                let whole = end - (end - start) % S::LANES;
                for c in (start..whole).step_by(S::LANES) {
                    // SAFETY: c + LANES is at most the number of columns, the length of row and sums.
                    unsafe {
                        let sum = s.load(sums.as_ptr().add(c));
                        let sum = s.fma(E::load(s, w.add(c)), s.splat(factor), sum);
                        s.store(sums.as_mut_ptr().add(c), sum);
                    }
                }
                for c in whole..end {
                    // SAFETY: c is below the number of columns.
                    sums[c] += factor * unsafe { w.add(c).read_unaligned() }.to_f32();
                }
            }
        }
    }
}
