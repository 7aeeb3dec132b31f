//! What codings of BF16 and FP8 weights are worth: bytes left of 100, and GB a second (of values, not of coded bytes) that
//! one core decodes.
//!
//! `cargo run --release -p weights --example codings [GGUF]`; rates are the fastest of several runs, as other tenants only
//! ever slow them. Made-up weights are normal, each row with a deviation of its own, 0.02 exp(0.5 n), n normal. Those of a
//! GGUF file are dequantised. FP8 has a scale for each 128 x 128 values, as DeepSeek publishes it. Block formats are there
//! to show that nothing is to be had from them.
#![expect(clippy::print_stdout, reason = "prints a table")]

use std::error::Error;
use std::hint::black_box;

use tensor::quant::e4m3_to_f32;
use tensor::{DType, SCALE_BLOCK};
use weights::pack::{Coding, RecordLayer, RecordPart, decode_record, encode_record};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

const ROWS: usize = 2048;
const COLS: usize = 4096;
/// Values that zstd packs at once, as our own coder does.
const CHUNK: usize = 256 << 10;
const RUNS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:32}{:>10}{:>10}", "", "bytes %", "GB/s");
    measure("normal", &made_up())?;
    for path in std::env::args().skip(1) {
        let model = weights::open(path.as_ref())?;
        let mut rows = Vec::new();
        for tensor in model.tensors().filter(|t| t.shape.len() == 2 && !t.name.contains("embd")) {
            let n = tensor.shape[1];
            let keep = tensor.len() / n / SCALE_BLOCK * SCALE_BLOCK;
            let is_square = n.is_multiple_of(SCALE_BLOCK) && rows.len() < ROWS * COLS;
            rows.extend(tensor.to_f32().into_iter().take(if is_square { keep * n } else { 0 }));
        }
        rows.truncate(rows.len() / (SCALE_BLOCK * SCALE_BLOCK) * SCALE_BLOCK * SCALE_BLOCK);
        measure(&path, &rows)?;
        let blocks = model.tensors().filter(|t| t.dtype.is_quantised());
        let blocks: Vec<u8> = blocks.flat_map(|t| t.data.iter().copied()).take(16 << 20).collect();
        zstd("  its blocks, zstd 1", &blocks, &blocks, 1, false)?;
        zstd("  its blocks, zstd 19", &blocks, &blocks, 19, false)?;
    }
    Ok(())
}

fn measure(name: &str, weights: &[f32]) -> Result<(), Box<dyn Error>> {
    let bf16 = weights.iter().flat_map(|w| (((w.to_bits() + 0x8000) >> 16) as u16).to_le_bytes()).collect();
    let fp8 = to_fp8(weights);
    for (dtype, values) in [(DType::BF16, bf16), (DType::F8E4M3, fp8)] {
        println!("{name}, {dtype}, {} values", weights.len());
        own(dtype, &values);
        let exponents: Vec<u8> = match dtype {
            DType::BF16 => values.chunks_exact(2).map(|b| b[1] << 1 | b[0] >> 7).collect(),
            _ => values.iter().map(|code| code >> 3 & 15).collect(),
        };
        bound(&exponents, &values);
        zstd("  values, zstd 3", &values, &values, 3, false)?;
        for level in [1, 3, 9, 19] {
            zstd(&format!("  exponents, zstd {level}"), &exponents, &values, level, false)?;
        }
        zstd("  exponents, zstd, no matches", &exponents, &values, 1, true)?;
    }
    Ok(())
}

/// Our own coder, through the door that the streamer uses.
fn own(dtype: DType, values: &[u8]) {
    let part = RecordPart {
        name: "blk.0.ffn_up.*.weight".into(),
        published: String::new(),
        dtype,
        shape: vec![values.len() / dtype.block_bytes()],
        layout: tensor::Layout::Rows,
        coding: Coding::Split,
        offset: 0,
        bytes: values.len() as u64,
    };
    let bytes = values.len() as u64;
    let mut layer = RecordLayer {
        layer: 0,
        offset: 0,
        stride: bytes,
        record_bytes: bytes,
        parts: vec![part],
        stored: Vec::new(),
        xxh3: Vec::new(),
    };
    let start = cpu_seconds();
    let stored = encode_record(&layer, values);
    let encoded = bytes as f64 / (cpu_seconds() - start) / 1e9;
    layer.stored.push(stored.len() as u64);
    let mut out = vec![0; values.len()];
    let seconds = fastest(|| decode_record(&layer, 0, &stored, &mut out).expect("just encoded"));
    assert!(out == values);
    let name = format!("  split (encodes {encoded:.2} GB/s)");
    report(&name, stored.len(), values.len(), seconds);
}

/// What no coder of exponents alone, one by one, takes less than.
fn bound(exponents: &[u8], values: &[u8]) {
    let mut counts = [0f64; 256];
    exponents.iter().for_each(|&exponent| counts[usize::from(exponent)] += 1.0);
    let n = exponents.len() as f64;
    let bits: f64 = counts.iter().filter(|count| **count > 0.0).map(|count| count * (n / count).log2()).sum();
    let rest = if values.len() == exponents.len() { n / 2.0 } else { n };
    println!("{:32}{:>10.1}", "  bound: entropy", 100.0 * (bits / 8.0 + rest) / values.len() as f64);
}

/// zstd on `planes`, a byte an exponent, with signs and mantissas joined to what it gives; all else stays as it is.
fn zstd(
    name: &str,
    planes: &[u8],
    values: &[u8],
    level: i32,
    no_matches: bool,
) -> Result<(), Box<dyn Error>> {
    let mut compressor = Compressor::new(level)?;
    if no_matches {
        compressor.set_parameter(CParameter::MinMatch(7))?;
        compressor.set_parameter(CParameter::HashLog(6))?;
    }
    let chunks =
        planes.chunks(CHUNK).map(|chunk| compressor.compress(chunk)).collect::<Result<Vec<_>, _>>()?;
    let (mut decompressor, mut out) = (Decompressor::new()?, vec![0; CHUNK]);
    let width = values.len() / planes.len();
    let mut joined = vec![0; values.len()];
    let rest_plane = vec![0x5a; planes.len()];
    let seconds = fastest(|| {
        for (i, chunk) in chunks.iter().enumerate() {
            let n = decompressor.decompress_to_buffer(chunk, &mut out).expect("just compressed");
            if planes != values {
                let to = &mut joined[i * CHUNK * width..][..n * width];
                join(&out[..n], &rest_plane[i * CHUNK..][..n], to, width);
            }
        }
        black_box(&joined);
    });
    let packed: usize = chunks.iter().map(Vec::len).sum();
    // Signs and mantissas: what the exponents' bits leave of the values.
    let rest = match planes.len() {
        n if n == values.len() && planes == values => 0,
        n if n == values.len() => values.len() / 2,
        n => n,
    };
    report(name, packed + rest, values.len(), seconds);
    Ok(())
}

/// As our own coder does it; for FP8 with a byte of sign and mantissa, which is a little faster than a nibble.
fn join(exponents: &[u8], rest: &[u8], out: &mut [u8], width: usize) {
    if width == 1 {
        for (out, (&e, &sm)) in out.iter_mut().zip(exponents.iter().zip(rest)) {
            *out = sm << 4 & 0x80 | e << 3 | sm & 7;
        }
        return;
    }
    for (out, (&e, &sm)) in out.chunks_exact_mut(2).zip(exponents.iter().zip(rest)) {
        let word = u16::from(sm & 0x80) << 8 | u16::from(e) << 7 | u16::from(sm & 0x7f);
        out.copy_from_slice(&word.to_le_bytes());
    }
}

fn report(name: &str, stored: usize, values: usize, seconds: f64) {
    println!(
        "{name:32}{:>10.1}{:>10.2}",
        100.0 * stored as f64 / values as f64,
        values as f64 / seconds / 1e9
    );
}

fn fastest(mut run: impl FnMut()) -> f64 {
    let one = |_| {
        let start = cpu_seconds();
        run();
        cpu_seconds() - start
    };
    (0..RUNS).map(one).fold(f64::INFINITY, f64::min)
}

/// Time that this thread has had on a core, in seconds: what others take doesn't count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.expect("Linux counts each thread's time") / 1e9
}

fn made_up() -> Vec<f32> {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as f64 / (1u64 << 53) as f64
    };
    // Box and Muller 1958.
    let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    let mut weights = Vec::with_capacity(ROWS * COLS);
    for _ in 0..ROWS {
        let deviation = 0.02 * (0.5 * normal()).exp();
        weights.extend((0..COLS).map(|_| (deviation * normal()) as f32));
    }
    weights
}

/// Rows of `SCALE_BLOCK` values; `SCALE_BLOCK` rows share a scale.
fn to_fp8(weights: &[f32]) -> Vec<u8> {
    let grid: Vec<f32> = (0..127).map(e4m3_to_f32).collect();
    let mut codes = Vec::with_capacity(weights.len());
    for block in weights.chunks(SCALE_BLOCK * SCALE_BLOCK) {
        let scale = block.iter().fold(f32::MIN_POSITIVE, |max, w| max.max(w.abs())) / 448.0;
        codes.extend(block.iter().map(|w| {
            let size = w.abs() / scale;
            let above = grid.partition_point(|&code| code < size).clamp(1, 126);
            let is_below = size - grid[above - 1] < grid[above] - size;
            (above - usize::from(is_below)) as u8 | u8::from(w.is_sign_negative()) << 7
        }));
    }
    codes
}
