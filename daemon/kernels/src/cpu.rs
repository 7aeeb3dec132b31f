//! The executor: stages of a layer over slices, cut into work for the pool.

use std::ops::Range;
use std::thread::available_parallelism;

use tensor::Matrix;

use crate::attention::latent::{self, LatentAttention, LatentShape, LatentWeights};
use crate::attention::{self, Attention, AttentionSeq, AttentionShape};
use crate::elementwise::{Add, RmsNorm, SwiGlu};
use crate::kv::{self, KvLayer, KvLayerMut};
use crate::level::{Isa, Kernel};
use crate::linear::{self, Activations, Columns, FloatTile, Int8Tile, Job, Linear, Rows, Tiles};
use crate::{Error, HeadWeights, Level, Pool, RopeTable};

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
                let linear::Scratch { rows, sums, .. } = &mut scratch.linear;
                isa.run(Columns { job, x, scratch: rows, sums });
            }
        });
    }

    fn products(&mut self, x: Rows<'_>, jobs: Vec<Job<'_>>) {
        let (isa, precision, n_threads) = (self.isa, self.precision, self.pool.n_threads());
        let on_integers =
            |job: &Job<'_>| precision == Precision::Fast && linear::int8_supports(isa, job.weight.dtype());
        if jobs.iter().any(on_integers) {
            let (records, record) = self.activations.records(x.n_rows(), x.cols());
            let grain = record * (SERIAL_VALUES / x.cols()).max(1);
            self.pool.for_each_slice(records, grain, |range, records| {
                linear::quantise(isa, records, record, &x, range.start / record);
            });
        }
        let tiles = Tiles::new(jobs, |job| linear::tile_rows(isa, job, n_threads, on_integers(job)));
        let activations = &self.activations;
        self.pool.for_each_chunk_with(&mut self.scratch, tiles.len(), 1, |scratch, range| {
            for idx in range {
                let (job, rows) = tiles.get(idx);
                let linear::Scratch { rows: dequantised, panels, .. } = &mut scratch.linear;
                if on_integers(job) {
                    Int8Tile { job, rows, x: activations, panels }.run(isa);
                } else {
                    isa.run(FloatTile { job, rows, x, scratch: dequantised });
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

    /// Stores keys [n_tokens, n_kv_heads, key_dim] and values [n_tokens, n_kv_heads, value_dim] of all sequences at
    /// their positions; a latent layer has no values.
    ///
    /// # Panics
    /// Lengths differ, values are given or missing, or a block table is too short: a programmer's error.
    pub fn kv_write(
        &mut self,
        kv: KvLayerMut<'_>,
        shape: AttentionShape,
        k: &[f32],
        v: Option<&[f32]>,
        seqs: &[AttentionSeq<'_>],
    ) {
        let n_rows = shape.n_kv_heads * seqs.iter().map(|seq| seq.n_tokens).sum::<usize>();
        assert_eq!(k.len(), n_rows * shape.key_dim, "k is [n_tokens, n_kv_heads, key_dim]");
        kv::write(self.isa, kv.k, k, seqs, shape.keys());
        match (kv.v, v) {
            (None, None) => {}
            (Some(kv), Some(v)) => {
                assert_eq!(v.len(), n_rows * shape.value_dim, "v is [n_tokens, n_kv_heads, value_dim]");
                kv::write(self.isa, kv, v, seqs, shape.values());
            }
            _ => panic!("values for a layer that has them"),
        }
    }

    /// Causal attention, grouped-query or latent. `q`: [n_tokens, n_heads, key_dim], `out`: [n_tokens, n_heads,
    /// value_dim], the sequences' rows one after another; every row sees its own position and those before, which
    /// [`kv_write`](Cpu::kv_write) has stored.
    ///
    /// Over a latent layer (no values) this is the absorbed form of multi-head latent attention: with
    /// q' = [W_uk^T q_nope | q_rope] and one KV head, `key_dim` = rank + rope_dim and `value_dim` = rank, every row gives
    /// sum_t softmax(scale q' . row[t]) c[t], to which the head's W_uv is applied afterwards.
    /// Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
    ///
    /// Rows over a latent layer are the same to the bit whichever tokens and sequences are computed beside them; with keys
    /// and values of their own they are as long as a sequence has at most [`EXACT_ROWS`](crate::EXACT_ROWS) tokens in the step.
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
        let n_rows = shape.n_heads * seqs.iter().map(|seq| seq.n_tokens).sum::<usize>();
        assert_eq!(q.len(), n_rows * shape.key_dim, "q is [n_tokens, n_heads, key_dim]");
        assert_eq!(out.len(), n_rows * shape.value_dim, "out is [n_tokens, n_heads, value_dim]");
        assert!(shape.n_heads.is_multiple_of(shape.n_kv_heads), "every KV head serves a whole group");
        assert!(kv.v.is_some() || shape.value_dim <= shape.key_dim, "values are a part of the keys");
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

    /// Causal multi-head latent attention in its plain form, for many tokens at once: what
    /// [`attention`](Cpu::attention) computes of absorbed queries and W_uv afterwards, up to rounding. `q`:
    /// [n_tokens, n_heads, nope_dim + rope_dim], `out`: [n_tokens, n_heads, value_dim]; `kv`: a latent layer of rows
    /// [c (rank) | k_rope (rope_dim)]. Each head's keys and values are expanded from them on the way:
    ///
    /// ```text
    /// k[t] = [W_uk c[t] | k_rope[t]],  v[t] = W_uv c[t]
    /// ```
    /// Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
    ///
    /// # Panics
    /// Lengths or shapes differ, the layer has values of its own, or a block table is too short: a programmer's error.
    pub fn latent_attention(
        &mut self,
        out: &mut [f32],
        q: &[f32],
        seqs: &[AttentionSeq<'_>],
        shape: &LatentShape,
        kv: KvLayer<'_>,
        weights: &LatentWeights<'_>,
    ) {
        let n_rows = shape.n_heads * seqs.iter().map(|seq| seq.n_tokens).sum::<usize>();
        assert_eq!(q.len(), n_rows * shape.key_dim(), "q is [n_tokens, n_heads, nope_dim + rope_dim]");
        assert_eq!(out.len(), n_rows * shape.value_dim, "out is [n_tokens, n_heads, value_dim]");
        assert!(weights.fit(shape), "weights of this shape");
        assert!(kv.v.is_none(), "a latent layer");
        let (isa, latents, out) = (self.isa, kv.k, attention::Out::new(out));
        let plan = latent::plan(seqs, shape);
        self.pool.for_each_chunk_with(&mut self.scratch, plan.n_tasks(), 1, |scratch, range| {
            for idx in range {
                let scratch = &mut scratch.attention;
                isa.run(LatentAttention { out, q, seqs, shape, weights, latents, plan: &plan, idx, scratch });
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

    /// The same for rows that are worth a parallel region each.
    pub(crate) fn over_slices<'a, T: Send>(
        &mut self,
        out: &'a mut [T],
        width: usize,
        work: impl Fn(Range<usize>, &'a mut [T]) + Sync,
    ) {
        self.pool.for_each_slice(out, width, work);
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }
}
