//! The executor: stages of a layer over slices, cut into work for the pool.

use std::ops::Range;
use std::thread::available_parallelism;

use tensor::Matrix;

use crate::elementwise::{Add, RmsNorm, SwiGlu};
use crate::level::{Isa, Kernel};
use crate::linear::Activations;
use crate::{Error, Level, Pool, RopeTable, attention, linear};

/// Values below which a stage is not worth a parallel region (`examples/kernels.rs`: a region costs about 1 us).
pub(crate) const SERIAL_VALUES: usize = 16 << 10;

/// Arithmetic of the linear stages, and with it the element type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights dequantised, products in f32: the reference, to about 1e-6 of the operands' norms. KV cache in f32.
    F32,
    /// Activations quantised to 8 bits where the weights are quantised too, products in integers. KV cache in f16.
    Fast,
}

/// How a [`Cpu`] is to run.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// Threads, the caller included; `None` takes one for every core.
    pub threads: Option<usize>,
    /// Instruction set; `None` takes `WELS_CPU`'s, or the best.
    pub level: Option<Level>,
    /// Arithmetic.
    pub precision: Precision,
    /// Worker threads stay on a core each.
    pub pin: bool,
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self { threads: None, level: None, precision: Precision::Fast, pin: false }
    }
}

/// One worker's memory.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) linear: linear::Scratch,
    pub(crate) attention: attention::Scratch,
}

/// Computes the stages of a layer on all cores. Buffers grow at first use and are kept.
pub struct Cpu {
    pub(crate) pool: Pool,
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    pub(crate) scratch: Vec<Scratch>,
    /// Quantised activations of the current linear stage.
    pub(crate) activations: Activations,
}

impl Cpu {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// The level is unknown or not this processor's, or threads are refused.
    pub fn new(options: CpuOptions) -> Result<Self, Error> {
        let isa = Isa::new(options.level.map_or_else(Level::from_env, Ok)?)?;
        let threads = options.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        let pool = Pool::new(threads, options.pin)?;
        let scratch = (0..threads).map(|_| Scratch::default()).collect();
        Ok(Self { pool, isa, precision: options.precision, scratch, activations: Activations::default() })
    }

    /// Instruction set in use.
    pub fn level(&self) -> Level {
        self.isa.level()
    }

    /// Arithmetic in use.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Threads, the caller included.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// Gives back the memory of quantised activations, which otherwise stays at what the largest step needed.
    pub fn give_back(&mut self) {
        self.activations = Activations::default();
    }

    /// RMSNorm of every row: out = w * x / sqrt(mean(x^2) + eps). `x`, `out`: [n_tokens, w.len()].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn rms_norm(&mut self, out: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
        assert_eq!(out.len(), x.len(), "lengths of out and x");
        assert!(x.len().is_multiple_of(w.len()), "x is [n_tokens, w.len()]");
        self.by_rows(out, w.len(), |range, out| RmsNorm { out, x: &x[range], w, eps });
    }

    /// Residual: x[i] += y[i].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn add(&mut self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "lengths of x and y");
        self.by_rows(x, 1, |range, x| Add { x, y: &y[range] });
    }

    /// SwiGLU: out[i] = silu(gate[i]) * up[i].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn swiglu(&mut self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        assert!(out.len() == gate.len() && out.len() == up.len(), "lengths of out, gate and up");
        self.by_rows(out, 1, |range, out| SwiGlu { out, gate: &gate[range.clone()], up: &up[range] });
    }

    /// Rotates every head of every token by its position, or of every head its part from `first` on.
    /// `x`: [n_tokens, n_heads, head_dim].
    ///
    /// # Panics
    /// Lengths differ, or the table rotates more than `head_dim`: a programmer's error.
    pub fn rope(
        &mut self,
        x: &mut [f32],
        n_heads: usize,
        (head_dim, first): (usize, usize),
        table: &RopeTable,
        positions: &[u32],
    ) {
        let width = n_heads * head_dim;
        assert_eq!(x.len(), positions.len() * width, "x is [n_tokens, n_heads, head_dim]");
        assert!(first + table.dim() <= head_dim, "the table rotates at most a whole head");
        self.over_rows(x, width, |range, x| {
            let rotated = first..first + table.dim();
            for (x, position) in x.chunks_exact_mut(width).zip(&positions[range.start / width..]) {
                table.rotate(x, head_dim, rotated.clone(), *position);
            }
        });
    }

    /// Rows of the embedding: out[i] = table[ids[i]]. `out`: [n_tokens, cols].
    ///
    /// # Panics
    /// Lengths differ or an id is out of range: a programmer's error.
    pub fn embed(&mut self, out: &mut [f32], table: &Matrix<'_>, ids: &[u32]) {
        assert_eq!(out.len(), ids.len() * table.cols(), "out is [n_tokens, cols]");
        self.over_rows(out, table.cols(), |range, out| {
            let ids = &ids[range.start / table.cols()..];
            for (out, id) in out.chunks_exact_mut(table.cols()).zip(ids) {
                table.decode_row(*id as usize, out);
            }
        });
    }

    /// Runs a kernel over `out`, in parallel pieces of whole rows where it is long.
    pub(crate) fn by_rows<'a, K: Kernel<Output = ()>>(
        &mut self,
        out: &'a mut [f32],
        width: usize,
        kernel: impl Fn(Range<usize>, &'a mut [f32]) -> K + Sync,
    ) {
        let isa = self.isa;
        self.over_rows(out, width, |range, out| isa.run(kernel(range, out)));
    }

    /// Calls `work(range, &mut out[range])`, in parallel pieces of whole rows where `out` is long.
    pub(crate) fn over_rows<'a>(
        &mut self,
        out: &'a mut [f32],
        width: usize,
        work: impl Fn(Range<usize>, &'a mut [f32]) + Sync,
    ) {
        if out.len() <= SERIAL_VALUES {
            return work(0..out.len(), out);
        }
        let grain = (SERIAL_VALUES / 4).next_multiple_of(width);
        self.pool.for_each_slice(out, grain, work);
    }
}
