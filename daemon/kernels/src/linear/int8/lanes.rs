//! Products of interleaved rows: a vector lane is a row, and nothing is summed across lanes.
//!
//! ```text
//! 16 rows, T tokens; for every group of 16 or 32 values:
//!   dots[t][row]  = sum over k-steps of codes[k][row] . x[t][k]          four values at a time, x broadcast
//!   acc[t][row]  += offset[row] * sum[t] + scale[row] * scale[t] * dots[t][row]
//! ```
//! The same operations in the same order for any number of tokens: what is computed with others beside it is, bit for
//! bit, what it would be alone.
#![expect(unsafe_code, reason = "reads weights and activations by pointer")]

mod codes;
mod format;

use std::marker::PhantomData;
use std::ops::Range;

use tensor::{DType, LANES, Layout, interleave};

use self::codes::Codes;
use self::format::{Iq4Nl, Iq4Xs, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use super::super::Job;
use super::super::activations::{Activations, Line, Token};
use crate::level::{Isa, Kernel};
use crate::simd::Simd;

/// Tokens of the inner loop: as many sums as registers hold beside codes and scales.
const TOKENS: usize = 4;
/// Tokens that all rows of a tile use before the next: their activations stay in the first-level cache.
const TOKENS_A_SWEEP: usize = 8;
/// Bytes ahead of their use that weights are asked for.
const PREFETCH_BYTES: usize = 4096;

/// True where there is a kernel for interleaved rows of this type.
pub(crate) fn supports(dtype: DType) -> bool {
    use DType::{IQ4NL, IQ4XS, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    matches!(dtype, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2K | Q3K | Q4K | Q5K | Q6K | IQ4NL | IQ4XS)
}

/// Rows of one job times all tokens, 16 rows at a time. Rows that lie one after another are interleaved first.
pub(crate) struct LanesTile<'a> {
    pub(crate) job: &'a Job<'a>,
    /// Whole sixteens, but for the last of a matrix that is not interleaved.
    pub(crate) rows: Range<usize>,
    pub(crate) x: &'a Activations,
    /// Where rows are interleaved.
    pub(crate) scratch: &'a mut Vec<Line>,
}

impl<'a> LanesTile<'a> {
    /// out[.., rows] <- x W^T.
    ///
    /// # Panics
    /// [`supports`] denies the type: a programmer's error.
    pub(crate) fn run(self, isa: Isa) {
        match self.job.weight.dtype() {
            DType::Q4_0 => isa.run(self.of::<Q4_0>()),
            DType::Q4_1 => isa.run(self.of::<Q4_1>()),
            DType::Q5_0 => isa.run(self.of::<Q5_0>()),
            DType::Q5_1 => isa.run(self.of::<Q5_1>()),
            DType::Q8_0 => isa.run(self.of::<Q8_0>()),
            DType::Q2K => isa.run(self.of::<Q2K>()),
            DType::Q3K => isa.run(self.of::<Q3K>()),
            DType::Q4K => isa.run(self.of::<Q4K>()),
            DType::Q5K => isa.run(self.of::<Q5K>()),
            DType::Q6K => isa.run(self.of::<Q6K>()),
            DType::IQ4NL => isa.run(self.of::<Iq4Nl>()),
            DType::IQ4XS => isa.run(self.of::<Iq4Xs>()),
            other => panic!("no kernel for interleaved {other}: asked of `supports`"),
        }
    }

    /// The same where the format is known.
    fn of<F: Codes>(self) -> Sweep<'a, F> {
        let Self { job, rows, x, scratch } = self;
        let w = if job.weight.layout() == Layout::Rows16 {
            job.row(rows.start)
        } else {
            interleave_rows(job, rows.clone(), scratch);
            scratch.as_ptr().cast()
        };
        Sweep { job, rows, x, w, format: PhantomData }
    }
}

/// A tile's rows, interleaved, times all tokens.
struct Sweep<'a, F> {
    job: &'a Job<'a>,
    rows: Range<usize>,
    x: &'a Activations,
    /// The first block of the first 16 rows.
    w: *const u8,
    format: PhantomData<F>,
}

impl<F: Codes> Kernel for Sweep<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { job, rows, x, w, .. } = self;
        let n_blocks = job.weight.cols() / F::VALUES;
        for start in (0..job.n_tokens()).step_by(TOKENS_A_SWEEP) {
            let tokens = start..job.n_tokens().min(start + TOKENS_A_SWEEP);
            for (i, first) in rows.clone().step_by(LANES).enumerate() {
                let w = w.wrapping_add(i * n_blocks * F::LANES_BYTES);
                let of = Sixteen { job, w, n_blocks, rows: first..rows.end.min(first + LANES), x };
                of.times::<S, F>(s, tokens.clone());
            }
        }
    }
}

/// Interleaves `rows` of the job's matrix into `scratch`, 16 at a time; missing rows repeat the last.
fn interleave_rows(job: &Job<'_>, rows: Range<usize>, scratch: &mut Vec<Line>) {
    let weight = job.weight;
    let bytes = LANES * weight.row_bytes();
    let sixteens = rows.len().div_ceil(LANES);
    scratch.resize((sixteens * bytes).div_ceil(size_of::<Line>()), bytemuck::Zeroable::zeroed());
    let out: &mut [u8] = bytemuck::cast_slice_mut(scratch);
    for (first, out) in rows.clone().step_by(LANES).zip(out.chunks_exact_mut(bytes)) {
        if first + LANES <= rows.end {
            interleave(weight.dtype(), weight.row_range(first, first + LANES).data(), out);
        } else {
            let mut padded = weight.row_range(first, rows.end).data().to_vec();
            while padded.len() < bytes {
                padded.extend_from_slice(weight.row(rows.end - 1));
            }
            interleave(weight.dtype(), &padded, out);
        }
    }
}

/// 16 interleaved rows of a job.
struct Sixteen<'a> {
    job: &'a Job<'a>,
    /// The first block of 16.
    w: *const u8,
    n_blocks: usize,
    /// Those of the 16 that the matrix has.
    rows: Range<usize>,
    x: &'a Activations,
}

impl Sixteen<'_> {
    /// out[tokens, rows] <- the products, at most [`TOKENS`] tokens at a time.
    #[inline(always)]
    fn times<S: Simd, F: Codes>(&self, s: S, tokens: Range<usize>) {
        let n_tiles = tokens.len().div_ceil(TOKENS);
        for tile in 0..n_tiles {
            let start = tokens.start + tile * tokens.len() / n_tiles;
            let end = tokens.start + (tile + 1) * tokens.len() / n_tiles;
            match end - start {
                1 => self.tile::<S, F, 1>(s, start),
                2 => self.tile::<S, F, 2>(s, start),
                3 => self.tile::<S, F, 3>(s, start),
                _ => self.tile::<S, F, TOKENS>(s, start),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, F: Codes, const T: usize>(&self, s: S, first: usize) {
        let x: [Token; T] = std::array::from_fn(|t| self.x.token(self.job.token(first + t)));
        let mut acc = [s.sixteen(0.0); T];
        for block in 0..self.n_blocks {
            // SAFETY: one of the row's blocks; the tokens hold as many values.
            unsafe {
                let w = self.w.add(block * F::LANES_BYTES);
                for line in (0..F::LANES_BYTES).step_by(64) {
                    s.prefetch(w.wrapping_add(PREFETCH_BYTES + line));
                }
                add_block::<S, F, T>(s, &mut acc, w, block * F::VALUES, &x);
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            let mut sums = [0.0; LANES];
            for part in 0..S::PARTS {
                // SAFETY: the vectors hold 16 floats together.
                unsafe { s.store(sums.as_mut_ptr().add(part * S::LANES), acc[part]) };
            }
            // SAFETY: the rows are this tile's, the token one of the job's.
            unsafe { self.job.set_rows(first + t, self.rows.start, &sums[..self.rows.len()]) };
        }
    }
}

/// acc[t] += one block of 16 rows times values `at ..` of every token.
///
/// # Safety
/// `w` points to 16 interleaved blocks of the format, the tokens hold `at + F::VALUES` values (padded to 256).
#[inline(always)]
unsafe fn add_block<S: Simd, F: Codes, const T: usize>(
    s: S,
    acc: &mut [S::Sixteen; T],
    w: *const u8,
    at: usize,
    x: &[Token; T],
) {
    for group in 0..F::VALUES / F::GROUP {
        let at = at + group * F::GROUP;
        for part in 0..S::PARTS {
            // SAFETY: the caller's promise; the token's records have an entry for every 16 values.
            unsafe {
                let dots = group_dots::<S, F, T>(s, w, group, part, at, x);
                let (scale, offset) = F::scales(s, w, group, part);
                let offset = if F::SIGNED { s.mul(scale, s.splat(-128.0)) } else { offset };
                for t in 0..T {
                    let dots = s.to_f32(dots[t]);
                    let scale = s.mul(scale, s.splat(*x[t].scales.add(at / 16)));
                    if !F::SIGNED || !S::SIGNED_CODES {
                        let sum = if F::GROUP == 16 {
                            x[t].sums16.add(at / 16)
                        } else {
                            x[t].sums32.add(at / 16 + 1)
                        };
                        acc[t][part] = s.fma(offset, s.splat(*sum), acc[t][part]);
                    }
                    acc[t][part] = s.fma(dots, scale, acc[t][part]);
                }
            }
        }
    }
}

/// Integer products of a group: a vector of the 16 rows with every token.
///
/// # Safety
/// As [`add_block`].
#[inline(always)]
unsafe fn group_dots<S: Simd, F: Codes, const T: usize>(
    s: S,
    w: *const u8,
    group: usize,
    part: usize,
    at: usize,
    x: &[Token; T],
) -> [S::I; T] {
    // Signed codes fill 16 bits with one k-step.
    let summed = if S::SUMS_OF_16_BITS || F::SIGNED { F::SUMMED } else { F::STEPS };
    let mut dots = [s.splat_i(0); T];
    for first in (0..F::STEPS).step_by(summed) {
        let mut sums = [s.splat_i(0); T];
        for k in first..first + summed {
            // SAFETY: the caller's promise.
            let codes = unsafe { F::codes(s, w, group, k, part) };
            let codes =
                if F::SIGNED && !S::SIGNED_CODES { s.xor(codes, s.splat_i(0x8080_8080)) } else { codes };
            for t in 0..T {
                // SAFETY: four of the token's values.
                let x = s.splat_i(unsafe { x[t].codes.add(at + 4 * k).cast::<u32>().read_unaligned() });
                sums[t] = if F::SIGNED && S::SIGNED_CODES {
                    s.signed_products(codes, x)
                } else if k == first {
                    s.products(codes, x)
                } else {
                    s.add_products(sums[t], codes, x)
                };
            }
        }
        for t in 0..T {
            let folded = s.folded(sums[t]);
            dots[t] = if first == 0 { folded } else { s.add_i(dots[t], folded) };
        }
    }
    dots
}
