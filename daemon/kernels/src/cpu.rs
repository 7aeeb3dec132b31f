//! The executor: stages of a layer over slices, cut into work for the pool.

use std::ops::Range;
use std::thread::available_parallelism;

use tensor::{Matrix, quant};

use crate::attention::{self, Attention, AttentionSeq, AttentionShape};
use crate::elementwise::{Add, RmsNorm, SwiGlu};
use crate::kv::{self, KvLayer, KvLayerMut};
use crate::level::{Isa, Kernel};
use crate::linear::{self, Activations, FloatTile, Int8Tile, Job, Linear};
use crate::{Error, Level, Pool, RopeTable};

/// Values below which a stage is not worth a parallel region (`examples/kernels.rs`: a region costs about 1 us).
const SERIAL_VALUES: usize = 16 << 10;
/// Products of a query and a key below which attention is not worth a parallel region.
const SERIAL_SCORES: usize = 256;

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
struct Scratch {
    linear: linear::Scratch,
    attention: attention::Scratch,
}

/// Computes the stages of a layer on all cores. Buffers grow at first use and are kept.
pub struct Cpu {
    pool: Pool,
    isa: Isa,
    precision: Precision,
    scratch: Vec<Scratch>,
    /// Quantised activations of the current linear stage.
    activations: Activations,
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

    /// out = x W^T + b for every job, in one parallel region.
    ///
    /// `x`: [n_tokens, cols]; each job's `out`: [n_tokens, rows].
    ///
    /// # Panics
    /// Lengths differ: a programmer's error.
    pub fn linear(&mut self, x: &[f32], n_tokens: usize, jobs: &mut [Linear<'_>]) {
        if n_tokens == 0 || jobs.is_empty() {
            return;
        }
        assert!(x.len().is_multiple_of(n_tokens), "x is [n_tokens, cols]");
        let cols = x.len() / n_tokens;
        let (isa, precision, n_threads) = (self.isa, self.precision, self.pool.n_threads());
        let on_integers = |dtype| precision == Precision::Fast && linear::int8_supports(isa, dtype);
        let jobs: Vec<Job<'_>> = jobs
            .iter_mut()
            .map(|job| {
                let integers = on_integers(job.weight.dtype());
                let tile_rows = linear::tile_rows(isa, &job.weight, n_tokens, n_threads, integers);
                Job::new(job, n_tokens, cols, tile_rows)
            })
            .collect();
        if jobs.iter().any(|job| on_integers(job.weight.dtype())) {
            let (records, record) = self.activations.records(n_tokens, cols);
            self.pool.for_each_slice(records, record * (SERIAL_VALUES / cols).max(1), |range, records| {
                linear::quantise(isa, records, record, &x[range.start / record * cols..], cols);
            });
        }
        let n_tiles = jobs.iter().map(Job::n_tiles).sum();
        let activations = &self.activations;
        self.pool.for_each_chunk_with(&mut self.scratch, n_tiles, 1, |scratch, range| {
            for idx in range {
                let (job, rows) = linear::tile(&jobs, idx);
                let (job, linear::Scratch { rows: dequantised, panels }) = (&jobs[job], &mut scratch.linear);
                if on_integers(job.weight.dtype()) {
                    Int8Tile { job, rows, x: activations, n_tokens, panels }.run(isa);
                } else {
                    isa.run(FloatTile { job, rows, x, n_tokens, scratch: dequantised });
                }
            }
        });
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

    /// Rotates every head of every token by its position. `x`: [n_tokens, n_heads, head_dim].
    ///
    /// # Panics
    /// Lengths differ, or the table rotates more than `head_dim`: a programmer's error.
    pub fn rope(
        &mut self,
        x: &mut [f32],
        n_heads: usize,
        head_dim: usize,
        table: &RopeTable,
        positions: &[u32],
    ) {
        let width = n_heads * head_dim;
        assert_eq!(x.len(), positions.len() * width, "x is [n_tokens, n_heads, head_dim]");
        assert!(table.dim() <= head_dim, "the table rotates at most a whole head");
        self.over_rows(x, width, |range, x| {
            for (x, position) in x.chunks_exact_mut(width).zip(&positions[range.start / width..]) {
                table.rotate(x, head_dim, *position);
            }
        });
    }

    /// Stores keys and values [n_tokens, n_kv_heads, head_dim] of all sequences at their positions.
    ///
    /// # Panics
    /// Lengths differ, or a block table is too short: a programmer's error.
    pub fn kv_write(
        &mut self,
        kv: KvLayerMut<'_>,
        shape: AttentionShape,
        k: &[f32],
        v: &[f32],
        seqs: &[AttentionSeq<'_>],
    ) {
        let n_tokens: usize = seqs.iter().map(|seq| seq.n_tokens).sum();
        let len = n_tokens * shape.n_kv_heads * shape.head_dim;
        assert!(k.len() == len && v.len() == len, "k and v are [n_tokens, n_kv_heads, head_dim]");
        kv::write(self.isa, kv.k, k, seqs, &shape);
        kv::write(self.isa, kv.v, v, seqs, &shape);
    }

    /// Causal grouped-query attention. `q`, `out`: [n_tokens, n_heads, head_dim], the sequences' rows one after
    /// another; every row sees its own position and those before, which [`kv_write`](Cpu::kv_write) has stored.
    ///
    /// # Panics
    /// Lengths differ, or a block table is too short: a programmer's error.
    pub fn attention(
        &mut self,
        out: &mut [f32],
        q: &[f32],
        seqs: &[AttentionSeq<'_>],
        shape: AttentionShape,
        kv: KvLayer<'_>,
    ) {
        let n_tokens: usize = seqs.iter().map(|seq| seq.n_tokens).sum();
        let len = n_tokens * shape.n_heads * shape.head_dim;
        assert!(q.len() == len && out.len() == len, "q and out are [n_tokens, n_heads, head_dim]");
        assert!(shape.n_heads.is_multiple_of(shape.n_kv_heads), "every KV head serves a whole group");
        let plan = attention::Plan::new(seqs, &shape, self.pool.n_threads());
        let scores: usize = seqs.iter().map(|seq| seq.n_tokens * (seq.first_pos + seq.n_tokens)).sum();
        let grain = if scores * shape.n_heads < SERIAL_SCORES { plan.n_tasks().max(1) } else { 1 };
        let (isa, out) = (self.isa, attention::Out::new(out));
        self.pool.for_each_chunk_with(&mut self.scratch, plan.n_tasks(), grain, |scratch, range| {
            for idx in range {
                let scratch = &mut scratch.attention;
                isa.run(Attention { out, q, seqs, shape: &shape, kv, plan: &plan, idx, scratch });
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
                quant::dequantize(table.dtype(), table.row(*id as usize), out);
            }
        });
    }

    /// Runs a kernel over `out`, in parallel pieces of whole rows where it is long.
    fn by_rows<'a, K: Kernel<Output = ()>>(
        &mut self,
        out: &'a mut [f32],
        width: usize,
        kernel: impl Fn(Range<usize>, &'a mut [f32]) -> K + Sync,
    ) {
        let isa = self.isa;
        self.over_rows(out, width, |range, out| isa.run(kernel(range, out)));
    }

    /// Calls `work(range, &mut out[range])`, in parallel pieces of whole rows where `out` is long.
    fn over_rows<'a>(
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
