//! `y = W x + b` for every data type, split over the pool by rows of `W`.

mod activations;
mod float;
mod int8;

use std::ops::Range;

use tensor::Matrix;

pub(crate) use activations::{Activations, quantise};
pub(crate) use float::FloatTile;
pub(crate) use int8::{Int8Tile, Panel, rows_a_tile as int8_rows_a_tile, supports as int8_supports};

/// One matrix to multiply with, and where the product goes.
#[derive(Debug)]
pub struct Linear<'a> {
    /// Weights [rows, cols].
    pub weight: Matrix<'a>,
    /// Added to every token's product, [rows].
    pub bias: Option<&'a [f32]>,
    /// Result [n_tokens, rows].
    pub out: &'a mut [f32],
}

/// One worker's memory for linear stages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Dequantised rows.
    pub(crate) rows: Vec<f32>,
    /// Unpacked rows.
    pub(crate) panels: Vec<Panel>,
}

/// A job's matrix and the place of its results, shared by all workers: each writes the rows it was given.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) weight: Matrix<'a>,
    row_bytes: usize,
    bias: Option<&'a [f32]>,
    out: *mut f32,
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
    pub(crate) fn new(linear: &'a mut Linear<'_>, n_tokens: usize, cols: usize) -> Self {
        let Linear { weight, bias, out } = linear;
        assert_eq!(weight.cols(), cols, "columns of the weights and width of x");
        assert_eq!(out.len(), n_tokens * weight.rows(), "length of out");
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows()), "length of the bias");
        Self { weight: *weight, row_bytes: weight.row_bytes(), bias: *bias, out: out.as_mut_ptr() }
    }

    /// Where row `row` of the weights begins.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> *const u8 {
        self.weight.data()[row * self.row_bytes..].as_ptr()
    }

    /// out[token, row] <- value + bias[row].
    ///
    /// # Safety
    /// `token` is below the number of tokens; `row` is in the tile this worker runs.
    #[inline(always)]
    #[expect(unsafe_code, reason = "workers write interleaved parts of one slice")]
    pub(crate) unsafe fn set(&self, token: usize, row: usize, value: f32) {
        let bias = self.bias.map_or(0.0, |bias| bias[row]);
        // SAFETY: in bounds by the promise and the check in `new`; no other worker has this row.
        unsafe { self.out.add(token * self.weight.rows() + row).write(value + bias) };
    }

    /// out[token, row ..] <- values + bias[row ..].
    ///
    /// # Safety
    /// `token` is below the number of tokens; the rows are in the tile this worker runs.
    #[inline(always)]
    #[expect(unsafe_code, reason = "workers write interleaved parts of one slice")]
    pub(crate) unsafe fn set_rows(&self, token: usize, row: usize, values: &[f32]) {
        // SAFETY: in bounds by the promise and the check in `new`; no other worker has these rows.
        let out = unsafe {
            std::slice::from_raw_parts_mut(self.out.add(token * self.weight.rows() + row), values.len())
        };
        match self.bias {
            None => out.copy_from_slice(values),
            Some(bias) => {
                for ((out, value), bias) in out.iter_mut().zip(values).zip(&bias[row..]) {
                    *out = value + bias;
                }
            }
        }
    }
}

/// Rows of all jobs, cut into tiles.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// Rows in a tile and tiles before, a job each.
    jobs: Vec<(usize, usize)>,
    n: usize,
}

impl Tiles {
    pub(crate) fn new<'a>(
        jobs: impl Iterator<Item = Matrix<'a>>,
        rows_a_tile: impl Fn(&Matrix<'a>) -> usize,
    ) -> Self {
        let mut n = 0;
        let jobs = jobs
            .map(|weight| {
                let rows = rows_a_tile(&weight);
                let first = n;
                n += weight.rows().div_ceil(rows);
                (rows, first)
            })
            .collect();
        Self { jobs, n }
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// Job and rows of a tile.
    pub(crate) fn get(&self, tile: usize, jobs: &[Job<'_>]) -> (usize, Range<usize>) {
        let job = self.jobs.partition_point(|&(_, first)| first <= tile) - 1;
        let (rows, first) = self.jobs[job];
        let start = (tile - first) * rows;
        (job, start..jobs[job].weight.rows().min(start + rows))
    }
}
