//! Speed of latent attention in DeepSeek-R1's shape: one layer's call, absorbed and plain.
//!
//! `cargo run --release -p kernels --example latent [THREADS [TOKENS PAST]]`; numbers are the fastest of several runs, as other tenants
//! only ever slow them; compare only within one run.
#![expect(clippy::print_stdout, reason = "prints a table")]

use std::time::Instant;

use half::f16;
use kernels::{
    AttentionSeq, AttentionShape, BLOCK_TOKENS, Cpu, CpuOptions, HeadWeights, KvElements, KvLayer,
    LatentShape, LatentWeights,
};
use tensor::{DType, Matrix};

const SHAPE: LatentShape =
    LatentShape { n_heads: 128, rank: 512, rope_dim: 64, nope_dim: 128, value_dim: 128, scale: 0.0722 };
/// Tokens the cache has room for.
const CONTEXT: usize = 16 << 10;

/// (tokens, tokens before): decode, a batch of drafts, prompts from their beginning and later on.
const STEPS: [(usize, usize); 8] =
    [(1, 512), (1, 4095), (1, 16000), (8, 4088), (32, 0), (128, 0), (512, 0), (512, 3584)];

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).map(|n| n.parse().expect("a number")).collect();
    let threads = args.first().copied();
    let mut cpu =
        Cpu::new(CpuOptions { threads, ..CpuOptions::default() }).expect("a level of this processor");
    println!("level {}, {} threads", cpu.level(), cpu.n_threads());
    let latents: Vec<f16> =
        (0..CONTEXT * SHAPE.row_dim()).map(|i| f16::from_f32((i % 31) as f32 / 16.0 - 1.0)).collect();
    println!(
        "{:>7} {:>8} {:>12} {:>9} {:>12} {:>9}",
        "tokens", "past", "absorbed ms", "Gop/s", "plain ms", "Gop/s"
    );
    match args[..] {
        [_, n, past] => compare(&mut cpu, &latents, n, past),
        _ => STEPS.iter().for_each(|&(n, past)| compare(&mut cpu, &latents, n, past)),
    }
}

/// Prints both forms of one layer's call; plain is no candidate for a few tokens.
fn compare(cpu: &mut Cpu, latents: &[f16], n: usize, past: usize) {
    let repeats = if n < 32 { 31 } else { 5 };
    let scores = (SHAPE.n_heads * n * (2 * past + n)) as f64;
    let t = fastest_s(repeats, absorbed(cpu, latents, n, past));
    let ops = scores * (SHAPE.row_dim() + SHAPE.rank) as f64;
    print!("{n:7} {past:8} {:12.2} {:9.0}", t * 1e3, ops / t / 1e9);
    if n < 32 {
        return println!();
    }
    let t = fastest_s(repeats, plain(cpu, latents, n, past));
    let expanded = (2 * SHAPE.n_heads * (past + n) * SHAPE.rank * (SHAPE.nope_dim + SHAPE.value_dim)) as f64;
    let ops = scores * (SHAPE.key_dim() + SHAPE.value_dim) as f64 + expanded;
    println!(" {:12.2} {:9.0}", t * 1e3, ops / t / 1e9);
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

/// Some numbers about 0.
fn queries(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect()
}

/// A call over absorbed queries.
fn absorbed<'a>(cpu: &'a mut Cpu, latents: &'a [f16], n: usize, past: usize) -> impl FnMut() + 'a {
    let LatentShape { n_heads, rank, scale, .. } = SHAPE;
    let shape = AttentionShape { n_heads, n_kv_heads: 1, key_dim: SHAPE.row_dim(), value_dim: rank, scale };
    let q = queries(n * n_heads * shape.key_dim);
    let mut out = vec![0.0; n * n_heads * rank];
    let block_table = block_table();
    move || {
        let seqs = [AttentionSeq { n_tokens: n, first_pos: past, block_table: &block_table }];
        cpu.attention(&mut out, &q, &seqs, shape, KvLayer { k: KvElements::F16(latents), v: None });
    }
}

/// A call that expands keys and values from Q8_0 weights.
fn plain<'a>(cpu: &'a mut Cpu, latents: &'a [f16], n: usize, past: usize) -> impl FnMut() + 'a {
    let LatentShape { n_heads, rank, nope_dim, value_dim, .. } = SHAPE;
    let rows_a_head = nope_dim + value_dim;
    let n_bytes = DType::Q8_0.bytes_for(n_heads * rows_a_head * rank).expect("whole blocks");
    // Any bytes are codes; scales must be numbers, so every byte is small.
    let bytes: Vec<u8> = (0..n_bytes).map(|i| (i * 7 % 31) as u8).collect();
    let q = queries(n * n_heads * SHAPE.key_dim());
    let mut out = vec![0.0; n * n_heads * value_dim];
    let block_table = block_table();
    move || {
        let weight = Matrix::new(DType::Q8_0, n_heads * rows_a_head, rank, &bytes).expect("whole blocks");
        let k_b = HeadWeights { weight, rows_a_head, first: 0, rows: nope_dim, transposed: false };
        let weights = LatentWeights { k_b, v_b: HeadWeights { first: nope_dim, rows: value_dim, ..k_b } };
        let seqs = [AttentionSeq { n_tokens: n, first_pos: past, block_table: &block_table }];
        let kv = KvLayer { k: KvElements::F16(latents), v: None };
        cpu.latent_attention(&mut out, &q, &seqs, &SHAPE, kv, &weights);
    }
}

/// Blocks in order.
fn block_table() -> Vec<u32> {
    (0..(CONTEXT / BLOCK_TOKENS) as u32).collect()
}
