//! Products with many tokens: 32 rows are unpacked once, interleaved so that a vector lane is a row.
//!
//! ```text
//! panel codes:   [cols / 4][32 rows][4 values] u8      one vector: 4 values of each of 16 rows
//! scales, offsets: [groups][32 rows] f32
//! inner loop:    dots[token][row] += codes[k][row] . x[token][k]   4 values at a time, x broadcast
//! each group:    acc[token][row] += scale[row] * scale[token] * dots + offset[row] * sum[token]
//! ```
#![expect(unsafe_code, reason = "AVX-512 intrinsics behind a token")]

use std::arch::x86_64::*;
use std::ops::Range;

use bytemuck::Zeroable;

use super::super::Job;
use super::super::activations::{Activations, Line, STEP, Token};
use super::avx512::Format512;
use crate::simd::transpose_512 as transpose;

/// Rows of a panel: two vectors of lanes.
pub(crate) const PANEL_ROWS: usize = 32;
/// Tokens of the inner loop: 2 x 6 integer and as many float accumulators fill the registers.
const TOKENS: usize = 6;

/// Unpacked rows of one matrix.
#[derive(Debug, Default)]
pub(crate) struct Panel {
    codes: Vec<Line>,
    scales: Vec<Line>,
    offsets: Vec<Line>,
    groups_of_16: bool,
    /// Values of a row, padded to a chunk of 64.
    cols: usize,
}

impl Panel {
    /// Bytes a panel of `cols` columns takes, roughly.
    pub(super) fn bytes(cols: usize) -> usize {
        PANEL_ROWS * (cols + cols / 4)
    }

    fn group(&self) -> usize {
        if self.groups_of_16 { 16 } else { 32 }
    }

    /// Unpacks `rows` of the job's matrix, at most [`PANEL_ROWS`]; missing rows repeat the last.
    ///
    /// # Safety
    /// AVX-512 with VNNI is enabled, and `F` is the matrix's format.
    #[inline(always)]
    pub(super) unsafe fn unpack<F: Format512>(&mut self, job: &Job<'_>, rows: Range<usize>) {
        let n = job.weight.cols();
        self.groups_of_16 = F::GROUPS_OF_16;
        self.cols = n.next_multiple_of(64);
        let n_groups = self.cols / self.group();
        let ahead = 16 * job.weight.row_bytes();
        self.codes.resize(self.cols * PANEL_ROWS / 64, Line::zeroed());
        self.scales.resize(n_groups * 2, Line::zeroed());
        self.offsets.resize(n_groups * 2, Line::zeroed());
        for half in 0..2 {
            let rows: [*const u8; 16] = std::array::from_fn(|r| {
                let row = (rows.start + 16 * half + r).min(rows.end - 1);
                job.row(row)
            });
            for step in 0..n / STEP {
                let rows = rows.map(|row| row.wrapping_add(step * F::STEP_BYTES));
                // SAFETY: whole steps of these rows.
                unsafe { self.unpack_step::<F>(half, step, rows, STEP, ahead) };
            }
            let (step, rest) = (n / STEP, n % STEP);
            let tails = rows.map(|row| row.wrapping_add(step * F::STEP_BYTES));
            if rest % 64 == 0 && rest > 0 {
                // SAFETY: the rest of these rows, in whole chunks.
                unsafe { self.unpack_step::<F>(half, step, tails, rest, ahead) };
            } else if rest > 0 {
                // A last odd block is copied to where a whole chunk may be read.
                let mut copies = [[0_u8; 8 * 34]; 16];
                for (copy, tail) in copies.iter_mut().zip(tails) {
                    // SAFETY: the rest of the row; at most 7 blocks of at most 34 bytes.
                    unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(tail, rest / F::VALUES * F::BYTES) };
                }
                let tails = std::array::from_fn(|r| copies[r].as_ptr());
                // SAFETY: copies of the blocks, with zeros behind.
                unsafe { self.unpack_step::<F>(half, step, tails, rest, ahead) };
            }
        }
    }

    /// Unpacks `n` values of 16 rows: those of step `step`.
    #[inline(always)]
    unsafe fn unpack_step<F: Format512>(
        &mut self,
        half: usize,
        step: usize,
        rows: [*const u8; 16],
        n: usize,
        ahead: usize,
    ) {
        for row in rows {
            // The row below by half a panel, which is unpacked next.
            for line in (0..F::STEP_BYTES).step_by(64) {
                // SAFETY: a prefetch of any address is allowed.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(ahead + line).cast()) };
            }
        }
        let n_chunks = n.div_ceil(64);
        // SAFETY: the caller's promise.
        unsafe { self.unpack_scales::<F>(half, step, rows, n / F::VALUES, n_chunks) };
        for chunk in 0..n_chunks {
            let first = ((step * STEP + 64 * chunk) / 4) * 2 + half;
            let to = &mut self.codes[first..first + 31];
            // SAFETY: the caller's promise; 16 vectors at every other line, the last at 30.
            unsafe {
                let mut codes = [_mm512_setzero_si512(); 16];
                for r in 0..16 {
                    codes[r] = F::codes(rows[r], chunk);
                }
                let columns = transpose(codes);
                for k in 0..16 {
                    _mm512_store_si512(to.as_mut_ptr().add(2 * k).cast(), columns[k]);
                }
            }
        }
    }

    /// Scales and offsets of a step: transposed like the codes, a lane a row.
    #[inline(always)]
    unsafe fn unpack_scales<F: Format512>(
        &mut self,
        half: usize,
        step: usize,
        rows: [*const u8; 16],
        n_blocks: usize,
        n_chunks: usize,
    ) {
        let n_groups = n_chunks * 64 / self.group();
        let first = 2 * step * STEP / self.group() + half;
        let scales = &mut self.scales[first..first + 2 * n_groups - 1];
        let offsets = &mut self.offsets[first..first + 2 * n_groups - 1];
        // SAFETY: the caller's promise; a vector at every other line, 2 n_groups - 2 the last.
        unsafe {
            let mut lanes = [_mm512_setzero_si512(); 16];
            for r in 0..16 {
                lanes[r] = _mm512_castps_si512(F::scales(rows[r], n_blocks));
            }
            let columns = transpose(lanes);
            for group in 0..n_groups {
                let (scale, offset) = if F::GROUPS_OF_16 {
                    (columns[group], columns[group])
                } else {
                    (columns[2 * group], columns[2 * group + 1])
                };
                let offset = _mm512_mul_ps(_mm512_castsi512_ps(offset), _mm512_set1_ps(F::OFFSET));
                _mm512_store_si512(scales.as_mut_ptr().add(2 * group).cast(), scale);
                _mm512_store_ps(offsets.as_mut_ptr().add(2 * group).cast(), offset);
            }
        }
    }

    /// out[.., rows] <- the panel's rows times every token.
    ///
    /// # Safety
    /// AVX-512 with VNNI is enabled; `rows` are those last unpacked, and this worker's.
    #[inline(always)]
    pub(super) unsafe fn times(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        x: &Activations,
        tokens: Range<usize>,
    ) {
        let n_tiles = tokens.len().div_ceil(TOKENS);
        for tile in 0..n_tiles {
            let start = tokens.start + tile * tokens.len() / n_tiles;
            let end = tokens.start + (tile + 1) * tokens.len() / n_tiles;
            // SAFETY: the caller's promise.
            unsafe {
                match end - start {
                    1 => self.tile::<1>(job, rows.clone(), x, start),
                    2 => self.tile::<2>(job, rows.clone(), x, start),
                    3 => self.tile::<3>(job, rows.clone(), x, start),
                    4 => self.tile::<4>(job, rows.clone(), x, start),
                    5 => self.tile::<5>(job, rows.clone(), x, start),
                    _ => self.tile::<TOKENS>(job, rows.clone(), x, start),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<const T: usize>(&self, job: &Job<'_>, rows: Range<usize>, x: &Activations, first: usize) {
        let tokens: [Token; T] = std::array::from_fn(|t| x.token(job.token(first + t)));
        // SAFETY: the caller's promise.
        let sums = unsafe {
            if self.groups_of_16 { self.sums::<T, 16>(&tokens) } else { self.sums::<T, 32>(&tokens) }
        };
        for (t, sums) in sums.into_iter().enumerate() {
            // SAFETY: two vectors of 16; the rows are this worker's.
            unsafe {
                let values = std::mem::transmute::<[__m512; 2], [f32; PANEL_ROWS]>(sums);
                job.set_rows(first + t, rows.start, &values[..rows.len()]);
            }
        }
    }

    /// Products of all rows with `T` tokens.
    #[inline(always)]
    unsafe fn sums<const T: usize, const GROUP: usize>(&self, x: &[Token; T]) -> [[__m512; 2]; T] {
        // SAFETY: the caller's promise; the panel holds cols / GROUP groups, the tokens are padded beyond `cols`.
        unsafe {
            let mut acc = [[_mm512_setzero_ps(); 2]; T];
            for group in 0..self.cols / GROUP {
                let mut dots = [[_mm512_setzero_si512(); 2]; T];
                for k in 0..GROUP / 4 {
                    let k = group * (GROUP / 4) + k;
                    let codes = self.codes.as_ptr().add(2 * k);
                    let (c0, c1) = (_mm512_load_si512(codes.cast()), _mm512_load_si512(codes.add(1).cast()));
                    for t in 0..T {
                        let x = _mm512_set1_epi32(x[t].codes.add(4 * k).cast::<i32>().read_unaligned());
                        dots[t][0] = _mm512_dpbusd_epi32(dots[t][0], c0, x);
                        dots[t][1] = _mm512_dpbusd_epi32(dots[t][1], c1, x);
                    }
                }
                let scales: *const f32 = self.scales.as_ptr().add(2 * group).cast();
                let offsets: *const f32 = self.offsets.as_ptr().add(2 * group).cast();
                for t in 0..T {
                    let (scale, sum) = if GROUP == 16 {
                        (x[t].scales.add(group), x[t].sums16.add(group))
                    } else {
                        (x[t].scales.add(2 * group), x[t].sums32.add(2 * group + 1))
                    };
                    let (scale, sum) = (_mm512_set1_ps(*scale), _mm512_set1_ps(*sum));
                    for h in 0..2 {
                        let row_scale = _mm512_mul_ps(_mm512_load_ps(scales.add(16 * h)), scale);
                        acc[t][h] = _mm512_fmadd_ps(_mm512_load_ps(offsets.add(16 * h)), sum, acc[t][h]);
                        acc[t][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t][h]), row_scale, acc[t][h]);
                    }
                }
            }
            acc
        }
    }
}
