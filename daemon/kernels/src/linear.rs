//! `y = W x + b` for every data type, split over the pool by rows of `W`.
//!
//! A stage is a set of jobs over the same activations: a matrix, the tokens it is for, and where the products go. Layers
//! give every token to every matrix, experts the tokens routed to them, attention heads a slice of each token's vector.

mod activations;
mod columns;
mod float;
mod int8;
mod stage;

use std::ops::Range;

use tensor::{LANES, Matrix};

pub(crate) use activations::{Activations, quantise};
pub(crate) use columns::Columns;
pub(crate) use float::FloatTile;
pub(crate) use int8::{LanesScratch, LanesTile, RowsTile, rows_as_they_lie, supports as int8_supports};
use int8::{apart, tile_rows};

use crate::Precision;
use crate::level::Isa;

/// Rows that a step may have for each to be computed, bit for bit, as it would be alone; beyond it kernels may add in another
/// order. Guesses are checked in steps of so many rows, so that they change no answer.
pub const EXACT_ROWS: usize = 4;

/// Bytes of weights a tile aims at: half a microsecond of one core's memory bandwidth, and what a worker may be late by.
const TILE_BYTES: usize = 8 << 10;
/// Bytes ahead of their use that weights are asked for: past the next page, where the hardware's prefetchers stop.
/// 0, 1, 2, 4 and 8 KiB gave 79, 96, 105, 108 and 100 tok/s on one core (`examples/kernels.rs`, decode at 16).
pub(crate) const PREFETCH_BYTES: usize = 4096;

/// One matrix to multiply with, for which tokens, and where the products go.
#[derive(Debug)]
pub struct Linear<'a> {
    weight: Matrix<'a>,
    bias: Option<&'a [f32]>,
    tokens: Tokens<'a>,
    out: &'a mut [f32],
}

impl<'a> Linear<'a> {
    /// out <- W x for every token: weight [rows, cols], out [n_tokens, rows].
    pub fn new(weight: Matrix<'a>, out: &'a mut [f32]) -> Self {
        Self { weight, bias: None, tokens: Tokens::All, out }
    }

    /// Adds `bias` [rows] to every token's product.
    pub fn bias(self, bias: Option<&'a [f32]>) -> Self {
        Self { bias, ..self }
    }

    /// Multiplies with some tokens only: out [tokens.len(), rows].
    pub fn tokens(self, tokens: Tokens<'a>) -> Self {
        Self { tokens, ..self }
    }
}

/// Rows of the activations that a job reads, in the order of its results.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    /// Every one.
    All,
    /// Every `step`-th from `first` on, `n` of them.
    Every {
        /// Row of the first.
        first: usize,
        /// Distance of two.
        step: usize,
        /// How many.
        n: usize,
    },
    /// These.
    List(&'a [u32]),
}

impl Tokens<'_> {
    /// How many, of `n_rows` rows of activations.
    fn count(&self, n_rows: usize) -> usize {
        match *self {
            Self::All => n_rows,
            Self::Every { n, .. } => n,
            Self::List(list) => list.len(),
        }
    }

    /// The row of the activations that the `i`-th result comes from.
    #[inline(always)]
    fn row(&self, i: usize) -> usize {
        match *self {
            Self::All => i,
            Self::Every { first, step, .. } => first + i * step,
            Self::List(list) => list[i] as usize,
        }
    }
}

/// Activations as they lie: `n_rows` rows of `cols` values, their starts `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    data: &'a [f32],
    n_rows: usize,
    stride: usize,
    cols: usize,
}

impl<'a> Rows<'a> {
    /// The first `cols` of each row of `stride` values.
    pub(crate) fn new(data: &'a [f32], stride: usize, cols: usize) -> Self {
        assert!(cols <= stride && data.len().is_multiple_of(stride), "rows of `stride` values");
        Self { data, n_rows: data.len() / stride, stride, cols }
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..self.cols]
    }
}

/// One worker's memory for linear stages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Dequantised rows.
    pub(crate) rows: Vec<f32>,
    /// Sums of columns.
    pub(crate) sums: Vec<f32>,
    /// Interleaved and unpacked rows.
    pub(crate) lanes: LanesScratch,
}

/// A job's matrix, its tokens and the place of its results, shared by all workers: each writes the rows it was given.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) weight: Matrix<'a>,
    tokens: Tokens<'a>,
    n_tokens: usize,
    row_bytes: usize,
    bias: Option<&'a [f32]>,
    out: *mut f32,
    /// Distance of two tokens' results.
    out_stride: usize,
}

#[expect(unsafe_code, reason = "workers write interleaved parts of one slice")]
mod shared {
    // SAFETY: every row of the result belongs to one tile, a tile is run by one worker (`Job::set`).
    unsafe impl Sync for super::Job<'_> {}
    // SAFETY: as above.
    unsafe impl Send for super::Job<'_> {}
}

impl<'a> Job<'a> {
    /// Checks the shapes against the activations'.
    pub(crate) fn new(linear: &'a mut Linear<'_>, x: &Rows<'_>) -> Self {
        let Linear { weight, bias, tokens, out } = linear;
        let n_tokens = tokens.count(x.n_rows);
        assert!((0..n_tokens).all(|i| tokens.row(i) < x.n_rows), "tokens are rows of x");
        assert_eq!(weight.cols(), x.cols, "columns of the weights and width of x");
        assert_eq!(out.len(), n_tokens * weight.rows(), "length of out");
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows()), "length of the bias");
        let (row_bytes, out_stride) = (weight.row_bytes(), weight.rows());
        let out = out.as_mut_ptr();
        Self { weight: *weight, tokens: *tokens, n_tokens, row_bytes, bias: *bias, out, out_stride }
    }

    /// One head of many: its vectors are every `n_heads`-th row of `x` from `head` on, its results the first of each
    /// `out_width` values of `out` [n_tokens, n_heads, out_width].
    pub(crate) fn of_head(
        weight: Matrix<'a>,
        n_results: usize,
        head: usize,
        n_heads: usize,
        n_rows: usize,
        out: &mut [f32],
        out_width: usize,
    ) -> Self {
        assert!(head < n_heads && n_rows.is_multiple_of(n_heads), "x is [n_tokens, n_heads, width]");
        assert!(
            n_results <= out_width && out.len() == n_rows * out_width,
            "out is [n_tokens, n_heads, width]"
        );
        let n_tokens = n_rows / n_heads;
        Self {
            weight,
            tokens: Tokens::Every { first: head, step: n_heads, n: n_tokens },
            n_tokens,
            row_bytes: weight.row_bytes(),
            bias: None,
            out: out[head * out_width..].as_mut_ptr(),
            out_stride: n_heads * out_width,
        }
    }

    /// Tokens, and rows of results.
    #[inline(always)]
    pub(crate) fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// The row of the activations of the `i`-th result.
    #[inline(always)]
    pub(crate) fn token(&self, i: usize) -> usize {
        self.tokens.row(i)
    }

    /// Where row `row` of the weights begins.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> *const u8 {
        self.weight.data()[row * self.row_bytes..].as_ptr()
    }

    /// out[i, row] <- value + bias[row].
    ///
    /// # Safety
    /// `i` is below the number of tokens; `row` is in the tile this worker runs.
    #[inline(always)]
    #[expect(unsafe_code, reason = "workers write interleaved parts of one slice")]
    pub(crate) unsafe fn set(&self, i: usize, row: usize, value: f32) {
        let bias = self.bias.map_or(0.0, |bias| bias[row]);
        // SAFETY: in bounds by the promise and the checks above; no other worker has this row.
        unsafe { self.out.add(i * self.out_stride + row).write(value + bias) };
    }

    /// out[i, rows].
    ///
    /// # Safety
    /// `i` is below the number of tokens; the rows are in the tile this worker runs, and no other such slice is in use.
    #[inline(always)]
    #[expect(unsafe_code, reason = "workers write interleaved parts of one slice")]
    #[expect(
        clippy::mut_from_ref,
        reason = "a job is shared by all workers; the caller answers for its part"
    )]
    pub(crate) unsafe fn results(&self, i: usize, rows: Range<usize>) -> &mut [f32] {
        // SAFETY: in bounds by the promise and the checks above; no other worker has these rows.
        unsafe { std::slice::from_raw_parts_mut(self.out.add(i * self.out_stride + rows.start), rows.len()) }
    }

    /// bias[rows], where there is one.
    #[inline(always)]
    pub(crate) fn bias(&self, rows: Range<usize>) -> Option<&'a [f32]> {
        self.bias.map(|bias| &bias[rows])
    }
}

/// A stage's jobs cut into tiles: rows of one matrix, the unit that a worker claims.
pub(crate) struct Tiles<'a> {
    jobs: Vec<Job<'a>>,
    /// Rows of a tile, by job.
    tile_rows: Vec<usize>,
    /// Tiles before job i; one entry more than jobs.
    first_tile: Vec<usize>,
}

impl<'a> Tiles<'a> {
    /// `tile_rows` gives the rows a tile of a job has.
    pub(crate) fn new(jobs: Vec<Job<'a>>, tile_rows: impl Fn(&Job<'a>) -> usize) -> Self {
        let tile_rows: Vec<usize> = jobs.iter().map(tile_rows).collect();
        let mut first_tile = vec![0];
        for (job, rows) in jobs.iter().zip(&tile_rows) {
            let n = if job.n_tokens == 0 { 0 } else { job.weight.rows().div_ceil(*rows) };
            first_tile.push(first_tile[first_tile.len() - 1] + n);
        }
        Self { jobs, tile_rows, first_tile }
    }

    pub(crate) fn len(&self) -> usize {
        self.first_tile[self.jobs.len()]
    }

    /// A tile's job and rows.
    pub(crate) fn get(&self, idx: usize) -> (&Job<'a>, Range<usize>) {
        let job = self.first_tile.partition_point(|&first| first <= idx) - 1;
        let start = (idx - self.first_tile[job]) * self.tile_rows[job];
        let job_rows = self.jobs[job].weight.rows();
        (&self.jobs[job], start..job_rows.min(start + self.tile_rows[job]))
    }
}

/// How a job is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In f32.
    Float,
    /// In integers, rows as they lie.
    Rows,
    /// In integers, 16 interleaved rows at a time.
    Lanes,
}

impl Way {
    pub(crate) fn of(isa: Isa, precision: Precision, job: &Job<'_>) -> Self {
        if precision != Precision::Fast || !int8_supports(job.weight.dtype()) {
            Self::Float
        } else if rows_as_they_lie(isa, job) {
            Self::Rows
        } else {
            Self::Lanes
        }
    }

    /// Rows of a tile: enough weights to be worth claiming, and several tiles a thread.
    pub(crate) fn tile_rows(self, isa: Isa, job: &Job<'_>, n_threads: usize) -> usize {
        let weight = &job.weight;
        let share = weight.rows().div_ceil(4 * n_threads);
        if self == Self::Lanes && job.n_tokens > apart(isa) {
            return tile_rows(isa).min(share.next_multiple_of(LANES));
        }
        let by_bytes = TILE_BYTES / weight.row_bytes().max(1);
        let multiple = if self == Self::Lanes { LANES } else { 4 };
        by_bytes.min(share).max(1).next_multiple_of(multiple)
    }
}
