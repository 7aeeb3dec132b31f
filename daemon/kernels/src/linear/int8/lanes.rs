//! Products of interleaved rows: a vector lane is a row, and nothing is summed across lanes.
//!
//! ```text
//! 16 rows, T tokens; for every block of the format:
//!   for every group of 16 or 32 values:
//!     dots[t][row]    = scale[row] * sum over k-steps of (codes[k][row] + offset) . x[t][k]     whole numbers, exact
//!     sums[t][row]   += dots[t][row] * x_scale[t]
//!     minima[t][row] += min[row] * x_sum[t]                                                     where it has them
//!   acc[t][row] += d[row] * sums[t][row] + m[row] * minima[t][row]
//! ```
//! The same operations in the same order for any number of tokens: what is computed with others beside it is, bit for
//! bit, what it would be alone. A few tokens are read where they are, more are brought together (`batch.rs`). Blocks are read
//! as they lie (`lying.rs`), or, with many tokens, unpacked first (`many.rs`, `panel.rs`, `tiles.rs`).
#![expect(unsafe_code, reason = "writes rows that belong to a tile")]

mod batch;
mod codes;
mod dots;
mod format;
mod interleave;
mod lying;
mod many;
mod panel;
mod tiles;

use std::marker::PhantomData;
use std::ops::Range;

use tensor::{DType, LANES, Layout};

use self::batch::Batch;
use self::codes::Codes;
use self::format::{Format, Iq4Nl, Iq4Xs, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use self::interleave::Interleave;
use self::lying::Lying;
use self::many::Many;
pub(crate) use self::many::tile_rows;
use self::panel::Panel;
use self::tiles::TILE_TOKENS;
use super::super::Job;
use super::super::activations::{Activations, Line};
use crate::level::Isa;
use crate::simd::{Avx2, Avx512Vnni, Scalar, Simd};

/// Tokens up to which they are read where they lie; more are brought together once for a tile, which has more rows therefore.
pub(crate) fn apart(isa: Isa) -> usize {
    match isa {
        Isa::Scalar(_) => Scalar::APART,
        Isa::Avx2(_) => Avx2::APART,
        Isa::Avx512(_) | Isa::Amx(_) => Avx512Vnni::APART,
    }
}

/// Tokens up to which blocks are read as they lie; for more, rows are unpacked.
///
/// One core, Q4_K: AVX2 gave four tokens 5.0 GB/s of weights as they lie, five tokens 6.0 unpacked. A core of a Zen 5 with
/// AVX-512 gave 64 tokens 525 Gop/s either way, 512 tokens 520 as they lie and 585 unpacked; of Q8_0, Q5_0 and Q4_0, whose blocks
/// are one group, it gave any number of tokens 570 to 600 as they lie and 430 to 510 unpacked. AMX gains once its own tiles are
/// at least half full.
fn as_they_lie<F: Format>(isa: Isa) -> usize {
    match isa {
        Isa::Scalar(_) | Isa::Avx2(_) => apart(isa),
        Isa::Avx512(_) if F::VALUES == F::GROUP => usize::MAX,
        Isa::Avx512(_) => 64,
        Isa::Amx(_) => TILE_TOKENS - 1,
    }
}

/// All tokens in tiles of nearly the same length, `largest` at most.
fn even_tiles(n_tokens: usize, largest: usize) -> impl Iterator<Item = Range<usize>> {
    let n_tiles = n_tokens.div_ceil(largest);
    (0..n_tiles).map(move |tile| tile * n_tokens / n_tiles..(tile + 1) * n_tokens / n_tiles)
}

/// True where there is a kernel for interleaved rows of this type.
pub(crate) fn supports(dtype: DType) -> bool {
    use DType::{IQ4NL, IQ4XS, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    matches!(dtype, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2K | Q3K | Q4K | Q5K | Q6K | IQ4NL | IQ4XS)
}

/// One worker's memory.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Rows of a matrix that is not interleaved, interleaved.
    lanes: Vec<Line>,
    panels: Vec<Panel>,
    batch: Batch,
}

/// Rows of one job times all tokens, 16 rows at a time. Rows that lie one after another are interleaved first.
pub(crate) struct LanesTile<'a> {
    pub(crate) job: &'a Job<'a>,
    /// Whole sixteens, but for the last of a matrix that is not interleaved.
    pub(crate) rows: Range<usize>,
    pub(crate) x: &'a Activations,
    pub(crate) scratch: &'a mut Scratch,
}

impl LanesTile<'_> {
    /// out[.., rows] <- x W^T.
    ///
    /// # Panics
    /// [`supports`] denies the type: a programmer's error.
    pub(crate) fn run(self, isa: Isa) {
        match self.job.weight.dtype() {
            DType::Q4_0 => self.of::<Q4_0>(isa),
            DType::Q4_1 => self.of::<Q4_1>(isa),
            DType::Q5_0 => self.of::<Q5_0>(isa),
            DType::Q5_1 => self.of::<Q5_1>(isa),
            DType::Q8_0 => self.of::<Q8_0>(isa),
            DType::Q2K => self.of::<Q2K>(isa),
            DType::Q3K => self.of::<Q3K>(isa),
            DType::Q4K => self.of::<Q4K>(isa),
            DType::Q5K => self.of::<Q5K>(isa),
            DType::Q6K => self.of::<Q6K>(isa),
            DType::IQ4NL => self.of::<Iq4Nl>(isa),
            DType::IQ4XS => self.of::<Iq4Xs>(isa),
            other => panic!("no kernel for interleaved {other}: asked of `supports`"),
        }
    }

    /// The same where the format is known.
    fn of<F: Codes>(self, isa: Isa) {
        let Self { job, rows, x, scratch } = self;
        let w = if job.weight.layout() == Layout::Rows16 {
            job.row(rows.start)
        } else {
            interleave_rows(isa, job, rows.clone(), &mut scratch.lanes);
            scratch.lanes.as_ptr().cast()
        };
        let blocks = Blocks { of: Sixteens { job, rows, x }, w, format: PhantomData::<F> };
        let batch = &mut scratch.batch;
        if job.n_tokens() <= as_they_lie::<F>(isa) {
            isa.run(Lying { blocks, batch });
        } else {
            Many { blocks, panels: &mut scratch.panels, batch }.run(isa);
        }
    }
}

/// A tile's rows, 16 at a time.
struct Sixteens<'a> {
    job: &'a Job<'a>,
    rows: Range<usize>,
    x: &'a Activations,
}

impl Sixteens<'_> {
    /// How many sixteens.
    fn len(&self) -> usize {
        self.rows.len().div_ceil(LANES)
    }

    /// Those of the `i`-th 16 rows that the matrix has.
    #[inline(always)]
    fn rows(&self, i: usize) -> Range<usize> {
        let first = self.rows.start + LANES * i;
        first..self.rows.end.min(first + LANES)
    }

    /// out[token, the `i`-th rows] <- sums over the columns before `end`; with the bias where these are all.
    #[inline(always)]
    fn set<S: Simd>(&self, s: S, token: usize, i: usize, sums: S::Sixteen, end: usize) {
        let rows = self.rows(i);
        // SAFETY: the rows are this tile's, the token one of the job's.
        let out = unsafe { self.job.results(token, rows.clone()) };
        let bias = if end == self.job.weight.cols() { self.job.bias(rows) } else { None };
        if let (Ok(out), None) = (<&mut [f32; LANES]>::try_from(&mut *out), bias) {
            return store_sixteen(s, sums, out);
        }
        let mut values = [0.0; LANES];
        store_sixteen(s, sums, &mut values);
        for (i, (out, value)) in out.iter_mut().zip(values).enumerate() {
            *out = bias.map_or(value, |bias| value + bias[i]);
        }
    }

    /// The sums of tokens from `first` on over the columns before `start`.
    #[inline(always)]
    fn begun<S: Simd, const T: usize>(&self, s: S, first: usize, i: usize, start: usize) -> [S::Sixteen; T] {
        let mut sums = [s.sixteen(0.0); T];
        if start > 0 {
            for t in 0..T {
                sums[t] = self.sums(s, first + t, i);
            }
        }
        sums
    }

    /// What [`set`](Sixteens::set) has stored of some columns.
    #[inline(always)]
    fn sums<S: Simd>(&self, s: S, token: usize, i: usize) -> S::Sixteen {
        // SAFETY: the rows are this tile's, the token one of the job's.
        let out = unsafe { self.job.results(token, self.rows(i)) };
        if let Ok(out) = <&[f32; LANES]>::try_from(&*out) {
            return load_sixteen(s, out);
        }
        let mut values = [0.0; LANES];
        values[..out.len()].copy_from_slice(out);
        load_sixteen(s, &values)
    }
}

#[inline(always)]
fn store_sixteen<S: Simd>(s: S, values: S::Sixteen, out: &mut [f32; LANES]) {
    for part in 0..S::PARTS {
        // SAFETY: the vectors hold 16 floats together.
        unsafe { s.store(out.as_mut_ptr().add(part * S::LANES), values[part]) };
    }
}

#[inline(always)]
fn load_sixteen<S: Simd>(s: S, values: &[f32; LANES]) -> S::Sixteen {
    let mut sixteen = s.sixteen(0.0);
    for part in 0..S::PARTS {
        // SAFETY: the vectors hold 16 floats together.
        sixteen[part] = unsafe { s.load(values.as_ptr().add(part * S::LANES)) };
    }
    sixteen
}

/// A tile's rows with their weights, interleaved.
struct Blocks<'a, F> {
    of: Sixteens<'a>,
    /// The first block of the first 16 rows.
    w: *const u8,
    format: PhantomData<F>,
}

impl<F: Codes> Blocks<'_, F> {
    /// Blocks of a row.
    fn n_blocks(&self) -> usize {
        self.of.job.weight.cols() / F::VALUES
    }

    /// Block `block` of the `i`-th 16 rows.
    #[inline(always)]
    fn at(&self, i: usize, block: usize) -> *const u8 {
        self.w.wrapping_add((i * self.n_blocks() + block) * F::LANES_BYTES)
    }
}

/// Interleaves `rows` of the job's matrix into `scratch`, 16 at a time; missing rows repeat the last.
fn interleave_rows(isa: Isa, job: &Job<'_>, rows: Range<usize>, scratch: &mut Vec<Line>) {
    let weight = job.weight;
    let dtype = weight.dtype();
    let bytes = LANES * weight.row_bytes();
    let sixteens = rows.len().div_ceil(LANES);
    scratch.resize((sixteens * bytes).div_ceil(size_of::<Line>()), bytemuck::Zeroable::zeroed());
    let out: &mut [u8] = bytemuck::cast_slice_mut(scratch);
    for (first, out) in rows.clone().step_by(LANES).zip(out.chunks_exact_mut(bytes)) {
        if first + LANES <= rows.end {
            isa.run(Interleave { dtype, rows: weight.row_range(first, first + LANES).data(), out });
        } else {
            let mut padded = weight.row_range(first, rows.end).data().to_vec();
            while padded.len() < bytes {
                padded.extend_from_slice(weight.row(rows.end - 1));
            }
            isa.run(Interleave { dtype, rows: &padded, out });
        }
    }
}
