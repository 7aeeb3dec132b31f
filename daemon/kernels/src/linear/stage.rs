//! The executor's linear stages.

use super::{Columns, FloatTile, Job, LanesTile, Linear, Rows, RowsTile, Scratch, Tiles, Way, quantise};
use crate::cpu::SERIAL_VALUES;
use crate::{Cpu, HeadWeights};

impl Cpu {
    /// out = x W^T + b for every job, in one parallel region.
    ///
    /// `x`: [n_tokens, cols]; each job's `out`: [tokens of the job, rows].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn linear(&mut self, x: &[f32], n_tokens: usize, jobs: &mut [Linear<'_>]) {
        if n_tokens == 0 || jobs.is_empty() {
            return;
        }
        assert!(x.len().is_multiple_of(n_tokens), "x is [n_tokens, cols]");
        let cols = x.len() / n_tokens;
        let x = Rows::new(x, cols, cols);
        let jobs = jobs.iter_mut().map(|job| Job::new(job, &x)).collect();
        self.products(x, jobs);
    }

    /// One matrix a head: out[t, h, ..n] = W_h x[t, h, ..cols], or W_h^T x where `transpose`.
    ///
    /// `x`: [n_tokens, n_heads, x_width], `out`: [n_tokens, n_heads, out_width]; what lies in a head's row behind the
    /// operands is neither read nor written.
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn linear_heads(
        &mut self,
        (out, out_width): (&mut [f32], usize),
        (x, x_width): (&[f32], usize),
        n_heads: usize,
        weights: &HeadWeights<'_>,
        transpose: bool,
    ) {
        if x.is_empty() {
            return;
        }
        // The stored matrix is multiplied from the left, or its rows are summed.
        let columns = transpose != weights.transposed;
        let stored = weights.head(0);
        let (n_in, n_out) =
            if columns { (stored.rows(), stored.cols()) } else { (stored.cols(), stored.rows()) };
        let x = Rows::new(x, x_width, n_in);
        let jobs: Vec<Job<'_>> = (0..n_heads)
            .map(|h| Job::of_head(weights.head(h), n_out, h, n_heads, x.n_rows(), out, out_width))
            .collect();
        if !columns {
            return self.products(x, jobs);
        }
        let isa = self.isa;
        self.pool.for_each_chunk_with(&mut self.scratch, n_heads, 1, |scratch, range| {
            for job in &jobs[range] {
                let Scratch { rows, sums, .. } = &mut scratch.linear;
                isa.run(Columns { job, x, scratch: rows, sums });
            }
        });
    }

    fn products(&mut self, x: Rows<'_>, jobs: Vec<Job<'_>>) {
        let (isa, precision, n_threads) = (self.isa, self.precision, self.pool.n_threads());
        let way = |job: &Job<'_>| Way::of(isa, precision, job);
        if jobs.iter().any(|job| way(job) != Way::Float) {
            let (records, record) = self.activations.records(x.n_rows(), x.cols());
            let grain = record * (SERIAL_VALUES / x.cols()).max(1);
            self.pool.for_each_slice(records, grain, |range, records| {
                quantise(isa, records, record, &x, range.start / record);
            });
        }
        let tiles = Tiles::new(jobs, |job| way(job).tile_rows(isa, job, n_threads));
        let activations = &self.activations;
        self.pool.for_each_chunk_with(&mut self.scratch, tiles.len(), 1, |scratch, range| {
            for idx in range {
                let (job, rows) = tiles.get(idx);
                let Scratch { rows: dequantised, lanes, .. } = &mut scratch.linear;
                match way(job) {
                    Way::Float => isa.run(FloatTile { job, rows, x, scratch: dequantised }),
                    Way::Rows => RowsTile { job, rows, x: activations }.run(isa),
                    Way::Lanes => LanesTile { job, rows, x: activations, scratch: lanes }.run(isa),
                }
            }
        });
    }
}
