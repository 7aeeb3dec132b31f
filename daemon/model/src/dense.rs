//! Llama and Qwen2: the layer loop.
//!
//! Source: Touvron et al. 2023, arXiv:2302.13971 (Llama); Yang et al. 2024, arXiv:2407.10671 (Qwen2: a bias on Q, K, V).

use std::sync::Arc;

use kernels::{AttentionSeq, AttentionShape, BLOCK_TOKENS, Cpu, CpuOptions, Linear, Precision, RopeTable};
use weights::{Architecture, Hyperparameters, Weights};

use crate::forward::{Chunk, Forward, Limits, LogitsOf, SeqId};
use crate::kv::KvCache;
use crate::layers::{Projection, Tensors};
use crate::{Error, TokenId, rope};

/// Tokens a step may carry: longer prompts go in several steps.
const STEP_TOKENS: usize = 512;

/// How a model is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Arithmetic.
    pub precision: Precision,
    /// Threads; `None` takes one a core.
    pub threads: Option<usize>,
    /// Workers stay on a core each.
    pub pin: bool,
    /// Tokens of KV cache, over all sequences.
    pub kv_tokens: usize,
    /// Longest sequence; cut to the model's own context.
    pub context: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { precision: Precision::Fast, threads: None, pin: false, kv_tokens: 16384, context: 8192 }
    }
}

/// A dense transformer on the CPU.
pub struct Model {
    weights: Arc<Weights>,
    tensors: Tensors,
    rope: RopeTable,
    limits: Limits,
    kv: KvCache,
    cpu: Cpu,
    activations: Activations,
}

/// Activations of one step, [n_tokens, width] each; grown once, then reused.
#[derive(Debug, Default)]
struct Activations {
    hidden: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    ffn: Vec<f32>,
    out: Vec<f32>,
}

impl Model {
    /// Binds mapped weights to the layer loop.
    pub fn new(weights: Arc<Weights>, options: &Options) -> Result<Self, Error> {
        let hyper = weights.hyper();
        if hyper.architecture == Architecture::DeepSeek2 {
            return Err(Error::Architecture { architecture: "deepseek2".into() });
        }
        let tensors = Tensors::bind(&weights)?;
        let (freqs, scale) = rope::inverse_frequencies(&hyper.rope, &weights)?;
        let context = options.context.min(hyper.context);
        let kv = KvCache::new(
            options.precision,
            hyper.n_layers,
            hyper.n_kv_heads,
            hyper.head_dim,
            options.kv_tokens.max(context.min(BLOCK_TOKENS)),
        );
        let limits = Limits {
            n_vocab: hyper.n_vocab,
            context: context.min(kv.capacity()),
            step_tokens: STEP_TOKENS,
            kv_tokens: kv.capacity(),
        };
        let cpu = Cpu::new(CpuOptions {
            threads: options.threads,
            precision: options.precision,
            pin: options.pin,
            ..CpuOptions::default()
        })?;
        let rope = RopeTable::new(&freqs, scale, hyper.rope.pairs);
        Ok(Self { tensors, rope, limits, kv, cpu, activations: Activations::default(), weights })
    }

    /// The executor, for its level and number of threads.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The KV cache, for its sizes.
    pub fn kv(&self) -> &KvCache {
        &self.kv
    }

    fn check(&self, chunks: &[Chunk<'_>]) -> Result<(), Error> {
        for chunk in chunks {
            let (wanted, reserved) = (self.kv.len(chunk.seq) + chunk.tokens.len(), self.kv.room(chunk.seq));
            if wanted > reserved {
                return Err(Error::BeyondReservation { seq: chunk.seq.0, wanted, reserved });
            }
            let n_vocab = self.limits.n_vocab;
            if let Some(&id) = chunk.tokens.iter().find(|&&id| id as usize >= n_vocab) {
                return Err(Error::UnknownToken { id, n_vocab });
            }
        }
        Ok(())
    }

    /// hidden [n_tokens, d_model] <- the last layer's output for every token of every chunk.
    fn layers(&mut self, chunks: &[Chunk<'_>]) {
        let Self { weights, tensors, rope, kv, cpu, activations: a, .. } = self;
        let hyper = weights.hyper();
        let shape = AttentionShape {
            n_heads: hyper.n_heads,
            n_kv_heads: hyper.n_kv_heads,
            key_dim: hyper.head_dim,
            value_dim: hyper.head_dim,
            scale: (hyper.head_dim as f32).sqrt().recip(),
        };
        let ids: Vec<TokenId> = chunks.iter().flat_map(|chunk| chunk.tokens).copied().collect();
        let positions: Vec<u32> = chunks.iter().flat_map(|chunk| positions(kv, chunk)).collect();
        let tables: Vec<Vec<u32>> = chunks.iter().map(|chunk| kv.block_table(chunk.seq).to_vec()).collect();
        let seqs: Vec<AttentionSeq<'_>> = chunks
            .iter()
            .zip(&tables)
            .map(|(chunk, block_table)| AttentionSeq {
                n_tokens: chunk.tokens.len(),
                first_pos: kv.len(chunk.seq),
                block_table,
            })
            .collect();
        let n = ids.len();
        a.resize(hyper, n);
        cpu.embed(&mut a.hidden, &tensors.embedding.matrix(weights), &ids);
        for (i, layer) in tensors.layers.iter().enumerate() {
            let linear = |p: &Projection| p.matrix(weights);
            cpu.rms_norm(&mut a.normed, &a.hidden, &layer.attn_norm, hyper.rms_eps);
            cpu.linear(
                &a.normed,
                n,
                &mut [
                    Linear::new(linear(&layer.q), &mut a.q).bias(layer.q.bias()),
                    Linear::new(linear(&layer.k), &mut a.k).bias(layer.k.bias()),
                    Linear::new(linear(&layer.v), &mut a.v).bias(layer.v.bias()),
                ],
            );
            cpu.rope(&mut a.q, shape.n_heads, (hyper.head_dim, 0), rope, &positions);
            cpu.rope(&mut a.k, shape.n_kv_heads, (hyper.head_dim, 0), rope, &positions);
            cpu.kv_write(kv.layer_mut(i), shape, &a.k, Some(&a.v), &seqs);
            cpu.attention(&mut a.attended, &a.q, &seqs, shape, kv.layer(i));
            let o = Linear::new(linear(&layer.o), &mut a.out).bias(layer.o.bias());
            cpu.linear(&a.attended, n, &mut [o]);
            cpu.add(&mut a.hidden, &a.out);

            cpu.rms_norm(&mut a.normed, &a.hidden, &layer.ffn_norm, hyper.rms_eps);
            let gate = Linear::new(linear(&layer.gate), &mut a.gate).bias(layer.gate.bias());
            let up = Linear::new(linear(&layer.up), &mut a.up).bias(layer.up.bias());
            cpu.linear(&a.normed, n, &mut [gate, up]);
            cpu.swiglu(&mut a.ffn, &a.gate, &a.up);
            let down = Linear::new(linear(&layer.down), &mut a.out).bias(layer.down.bias());
            cpu.linear(&a.ffn, n, &mut [down]);
            cpu.add(&mut a.hidden, &a.out);
        }
    }

    /// logits [n_wanted, n_vocab] <- norm and head over the wanted rows of hidden.
    fn head(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) {
        let Self { weights, tensors, cpu, activations: a, limits, .. } = self;
        let hyper = weights.hyper();
        let rows = wanted_rows(chunks);
        let d = hyper.d_model;
        a.normed.clear();
        for &row in &rows {
            a.normed.extend_from_slice(&a.hidden[row * d..(row + 1) * d]);
        }
        a.out.resize(a.normed.len(), 0.0);
        cpu.rms_norm(&mut a.out, &a.normed, &tensors.output_norm, hyper.rms_eps);
        logits.resize(rows.len() * limits.n_vocab, 0.0);
        let head = Linear::new(tensors.head.matrix(weights), logits).bias(tensors.head.bias());
        cpu.linear(&a.out, rows.len(), &mut [head]);
    }
}

impl Activations {
    fn resize(&mut self, hyper: &Hyperparameters, n: usize) {
        let (d, ff) = (n * hyper.d_model, n * hyper.d_ff);
        let (d_q, d_kv) = (n * hyper.n_heads * hyper.head_dim, n * hyper.n_kv_heads * hyper.head_dim);
        let Self { hidden, normed, q, k, v, attended, gate, up, ffn, out } = self;
        let widths = [(hidden, d), (normed, d), (q, d_q), (k, d_kv), (v, d_kv), (attended, d_q)];
        for (buffer, len) in widths.into_iter().chain([(gate, ff), (up, ff), (ffn, ff), (out, d)]) {
            buffer.resize(len, 0.0);
        }
    }
}

/// Positions of a chunk's tokens in their sequence.
fn positions(kv: &KvCache, chunk: &Chunk<'_>) -> std::ops::Range<u32> {
    let first = kv.len(chunk.seq) as u32;
    first..first + chunk.tokens.len() as u32
}

/// Rows of hidden, over the whole step, that logits are wanted for.
fn wanted_rows(chunks: &[Chunk<'_>]) -> Vec<usize> {
    let mut rows = Vec::new();
    let mut start = 0;
    for chunk in chunks {
        let end = start + chunk.tokens.len();
        match chunk.logits {
            LogitsOf::None => {}
            LogitsOf::Last => rows.extend(end.checked_sub(1).filter(|&last| last >= start)),
            LogitsOf::All => rows.extend(start..end),
        }
        start = end;
    }
    rows
}

impl Forward for Model {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn open(&mut self, n_tokens: usize) -> Option<SeqId> {
        self.kv.open(n_tokens)
    }

    fn resize(&mut self, seq: SeqId, n_tokens: usize) -> bool {
        self.kv.resize(seq, n_tokens)
    }

    fn close(&mut self, seq: SeqId) {
        self.kv.close(seq);
    }

    fn len(&self, seq: SeqId) -> usize {
        self.kv.len(seq)
    }

    fn truncate(&mut self, seq: SeqId, n_tokens: usize) {
        assert!(n_tokens <= self.kv.len(seq), "sequence {seq}: truncate only shortens");
        self.kv.set_len(seq, n_tokens);
    }

    fn step(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) -> Result<(), Error> {
        self.check(chunks)?;
        self.layers(chunks);
        self.head(chunks, logits);
        for chunk in chunks {
            self.kv.set_len(chunk.seq, self.kv.len(chunk.seq) + chunk.tokens.len());
        }
        Ok(())
    }
}
