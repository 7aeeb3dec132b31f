//! Speed of a whole model step on made-up weights. (`wels bench --kernels` measures products alone.)
//!
//! `cargo run --release -p kernels --example kernels [THREADS]`; numbers are the fastest of several runs, as other tenants only
//! ever slow them; compare only within one run.
#![expect(clippy::print_stdout, reason = "prints a table")]

use std::time::Instant;

use half::f16;
use kernels::{
    AttentionSeq, AttentionShape, BLOCK_TOKENS, Cpu, CpuOptions, KvElements, KvElementsMut, KvLayer,
    KvLayerMut, Linear, Pool, RopePairs, RopeTable,
};
use tensor::{DType, Matrix};

/// The shape of SmolLM2-135M.
const D_MODEL: usize = 576;
const D_FF: usize = 1536;
const N_LAYERS: usize = 30;
const N_VOCAB: usize = 49152;
const HEAD_DIM: usize = 64;
const SHAPE: AttentionShape =
    AttentionShape { n_heads: 9, n_kv_heads: 3, key_dim: HEAD_DIM, value_dim: HEAD_DIM, scale: 0.125 };

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let mut cpu =
        Cpu::new(CpuOptions { threads, ..CpuOptions::default() }).expect("a level of this processor");
    println!("level {}, {} threads", cpu.level(), cpu.n_threads());
    let mut pool = Pool::new(cpu.n_threads(), false).expect("as many threads again");
    let region = fastest_s(2001, || pool.run(&|_| ()));
    println!("empty parallel region: {:.2} us", region * 1e6);
    drop(pool);
    println!("read bandwidth: {:.1} GB/s", cpu.probe_read_bandwidth(Cpu::PROBE_BYTES) / 1e9);
    let mut step = Step::new(DType::Q4_1, DType::Q8_0, 1024);
    for past in [16, 512] {
        step.run(&mut cpu, 1, past);
        let t = fastest_s(31, || step.run(&mut cpu, 1, past));
        println!("decode  at {past:4}: {:7.1} tok/s, {:.1} GB/s of weights", 1.0 / t, step.bytes() / t / 1e9);
    }
    for n in [4, 16, 128, 512] {
        let t = fastest_s(5, || step.run(&mut cpu, n, 0));
        println!("prefill of {n:4}: {:7.1} tok/s", n as f64 / t);
    }
}

/// Seconds of the fastest of `n` runs.
fn fastest_s(n: usize, mut f: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..n).map(once).fold(f64::INFINITY, f64::min)
}

/// Any bytes are codes; scales must be numbers, so every byte is small.
fn weights(dtype: DType, n: usize, seed: usize) -> Vec<u8> {
    (0..dtype.bytes_for(n).expect("whole blocks")).map(|i| ((i * 7 + seed) % 31) as u8).collect()
}

/// Weights of one layer: Q, K, V, O, gate, up, down.
struct Layer([(usize, usize, Vec<u8>); 7]);

/// A model's step: every stage of every layer, and the head for the last token.
struct Step {
    dtype: DType,
    head_dtype: DType,
    layers: Vec<Layer>,
    head: Vec<u8>,
    norm: Vec<f32>,
    rope: RopeTable,
    kv: Vec<(Vec<f16>, Vec<f16>)>,
    blocks: Vec<u32>,
    buffers: [Vec<f32>; 10],
    logits: Vec<f32>,
}

impl Step {
    fn new(dtype: DType, head_dtype: DType, context: usize) -> Self {
        let kv_width = SHAPE.n_kv_heads * HEAD_DIM;
        let shapes = [
            (D_MODEL, D_MODEL),
            (kv_width, D_MODEL),
            (kv_width, D_MODEL),
            (D_MODEL, D_MODEL),
            (D_FF, D_MODEL),
            (D_FF, D_MODEL),
            (D_MODEL, D_FF),
        ];
        let layer = |i| Layer(shapes.map(|(rows, cols)| (rows, cols, weights(dtype, rows * cols, i))));
        let freqs: Vec<f32> = (0..HEAD_DIM / 2).map(|i| 1e4_f32.powf(-(i as f32) / 32.0)).collect();
        Self {
            dtype,
            head_dtype,
            layers: (0..N_LAYERS).map(layer).collect(),
            head: weights(head_dtype, N_VOCAB * D_MODEL, 99),
            norm: vec![1.0; D_MODEL],
            rope: RopeTable::new(&freqs, 1.0, RopePairs::Halves),
            kv: (0..N_LAYERS).map(|_| [0; 2].map(|_| vec![f16::ONE; context * kv_width]).into()).collect(),
            blocks: (0..(context / BLOCK_TOKENS) as u32).collect(),
            buffers: Default::default(),
            logits: vec![0.0; N_VOCAB],
        }
    }

    fn bytes(&self) -> f64 {
        let layers: usize =
            self.layers.iter().flat_map(|layer| &layer.0).map(|(_, _, bytes)| bytes.len()).sum();
        (layers + self.head.len()) as f64
    }

    fn run(&mut self, cpu: &mut Cpu, n: usize, past: usize) {
        let Self { dtype, head_dtype, layers, head, norm, rope, kv, blocks, buffers, logits } = self;
        let (d, kv_width) = (n * D_MODEL, n * SHAPE.n_kv_heads * HEAD_DIM);
        let [hidden, normed, q, k, v, attended, gate, up, ffn, out] = buffers;
        for (buffer, len) in
            [(&mut *k, kv_width), (v, kv_width), (gate, n * D_FF), (up, n * D_FF), (ffn, n * D_FF)]
        {
            buffer.resize(len, 0.0);
        }
        for buffer in [&mut *hidden, normed, q, attended, out] {
            buffer.resize(d, 0.1);
        }
        let positions: Vec<u32> = (past as u32..(past + n) as u32).collect();
        let seqs = [AttentionSeq { n_tokens: n, first_pos: past, block_table: blocks }];
        for (Layer(layer), (keys, values)) in layers.iter().zip(kv) {
            let weight = |i: usize| {
                let (rows, cols, bytes) = &layer[i];
                Matrix::new(*dtype, *rows, *cols, bytes).expect("whole blocks")
            };
            cpu.rms_norm(normed, hidden, norm, 1e-5);
            cpu.linear(
                normed,
                n,
                &mut [Linear::new(weight(0), q), Linear::new(weight(1), k), Linear::new(weight(2), v)],
            );
            cpu.rope(q, SHAPE.n_heads, (HEAD_DIM, 0), rope, &positions);
            cpu.rope(k, SHAPE.n_kv_heads, (HEAD_DIM, 0), rope, &positions);
            let kv = KvLayerMut { k: KvElementsMut::F16(keys), v: Some(KvElementsMut::F16(values)) };
            cpu.kv_write(kv, SHAPE, k, Some(v), &seqs);
            let kv = KvLayer { k: KvElements::F16(keys), v: Some(KvElements::F16(values)) };
            cpu.attention(attended, q, &seqs, SHAPE, kv);
            cpu.linear(attended, n, &mut [Linear::new(weight(3), out)]);
            cpu.add(hidden, out);
            cpu.rms_norm(normed, hidden, norm, 1e-5);
            cpu.linear(normed, n, &mut [Linear::new(weight(4), gate), Linear::new(weight(5), up)]);
            cpu.swiglu(ffn, gate, up);
            cpu.linear(ffn, n, &mut [Linear::new(weight(6), out)]);
            cpu.add(hidden, out);
        }
        let weight = Matrix::new(*head_dtype, N_VOCAB, D_MODEL, head).expect("whole blocks");
        cpu.linear(&normed[d - D_MODEL..], 1, &mut [Linear::new(weight, logits)]);
    }
}
