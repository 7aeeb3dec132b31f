//! `y = W x + b` for every data type, split over the pool by rows of `W`.

mod activations;
mod float;
mod int8;

use std::ops::Range;

use tensor::Matrix;

pub(crate) use activations::{Activations, quantise};
pub(crate) use float::FloatTile;
pub(crate) use int8::{Int8Tile, Panel, supports as int8_supports};

use crate::level::Isa;

/// Bytes of weights a tile aims at: half a microsecond of one core's memory bandwidth, and what a worker may be late by.
const TILE_BYTES: usize = 8 << 10;
/// Bytes ahead of their use that weights are asked for: past the next page, where the hardware's prefetchers stop.
/// 0, 1, 2, 4 and 8 KiB gave 79, 96, 105, 108 and 100 tok/s on one core (`examples/kernels.rs`, decode at 16).
const PREFETCH_BYTES: usize = 4096;

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
    tile_rows: usize,
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
    /// Checks the shapes against the activations'. `tile_rows`: rows that a worker takes at a time.
    pub(crate) fn new(linear: &'a mut Linear<'_>, n_tokens: usize, cols: usize, tile_rows: usize) -> Self {
        let Linear { weight, bias, out } = linear;
        assert_eq!(weight.cols(), cols, "columns of the weights and width of x");
        assert_eq!(out.len(), n_tokens * weight.rows(), "length of out");
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows()), "length of the bias");
        Self { weight: *weight, tile_rows, row_bytes: weight.row_bytes(), bias: *bias, out: out.as_mut_ptr() }
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.weight.rows().div_ceil(self.tile_rows)
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

/// A tile of the stage: index of its job, and its rows.
pub(crate) fn tile(jobs: &[Job<'_>], mut idx: usize) -> (usize, Range<usize>) {
    for (i, job) in jobs.iter().enumerate() {
        if idx < job.n_tiles() {
            let start = idx * job.tile_rows;
            return (i, start..job.weight.rows().min(start + job.tile_rows));
        }
        idx -= job.n_tiles();
    }
    panic!("a tile beyond the last job's")
}

/// Rows of a tile: enough weights to be worth claiming, and several tiles a thread.
pub(crate) fn tile_rows(
    isa: Isa,
    weight: &Matrix<'_>,
    n_tokens: usize,
    n_threads: usize,
    integers: bool,
) -> usize {
    let share = weight.rows().div_ceil(4 * n_threads);
    match int8::panel_rows(isa, weight.cols(), n_tokens).filter(|_| integers) {
        Some(cached) => cached.min(share.next_multiple_of(int8::PANEL_ROWS)),
        None => {
            let by_bytes = TILE_BYTES / weight.row_bytes().max(1);
            by_bytes.min(share).next_multiple_of(4)
        }
    }
}
