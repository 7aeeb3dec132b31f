//! `wels bench --kernels`: products with made-up weights of every format, without a model.

use std::time::Instant;

use anyhow::{Result, bail};
use kernels::{Cpu, Linear};
use serde_json::{Value, json};
use tensor::{DType, Layout, Matrix};

use super::limits::{self, Limits};
use crate::cli::Bench;
use crate::machine;

/// Formats worth knowing the speed of: what published files of our models are in.
const FORMATS: [DType; 10] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q8_0,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::F16,
];
/// Inputs and results of a matrix: up projections of R1-Distill-Qwen-1.5B, of an R1 expert and of a V2-Lite expert.
const SHAPES: [(usize, usize); 3] = [(1536, 8960), (7168, 2048), (2048, 1408)];
/// Bytes of weights that a sweep reads: more than the last-level cache keeps.
const SWEEP_BYTES: usize = 256 << 20;
/// Tokens of a long prompt.
const MANY: usize = 512;
/// Sequences of a busy box.
const SOME: usize = 8;

/// Any bytes are codes; those of scales must be numbers, so every byte is small.
pub(super) fn made_up_weights(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|i| (i * 7 % 31) as u8).collect()
}

/// Activations that no format takes for zeroes.
pub(super) fn made_up_values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect()
}

/// Seconds of the fastest of `n` runs, as others only ever slow one.
pub(super) fn fastest_s(n: usize, mut run: impl FnMut(usize)) -> f64 {
    let once = |i| {
        let start = Instant::now();
        run(i);
        start.elapsed().as_secs_f64()
    };
    (0..n).map(once).fold(f64::INFINITY, f64::min)
}

pub(super) fn run(args: &Bench) -> Result<()> {
    let mut cpu = limits::cpu(&args.compute)?;
    let limits = Limits::of(&mut cpu);
    say(&format!("processor  {}, {limits}", machine::cpu_name()));
    let rows = match &args.moe {
        Some(shape) => shape.measure(&mut cpu, &limits, args.repeat)?,
        None => products(&mut cpu, &limits, args.repeat)?,
    };
    if args.json {
        let key = if args.moe.is_some() { "moe" } else { "kernels" };
        let line = json!({
            "device": "cpu", "level": limits.level.to_string(), "threads": limits.threads,
            "read_bytes_s": limits.read_bytes_s, "int8_ops_s": limits.int8_ops_s, key: rows,
        });
        say(&line.to_string());
    }
    Ok(())
}

fn products(cpu: &mut Cpu, limits: &Limits, repeat: usize) -> Result<Vec<Value>> {
    let bytes = made_up_weights(SWEEP_BYTES);
    say(&format!("{:22} {:>15} {:>15} {:>16}", "", "1 token", "8 tokens", "512 tokens"));
    let head = [("GB/s", "read"), ("GB/s", "read"), ("Gop/s", "peak")]
        .map(|(unit, of)| format!("{unit:>8} {of:>6}"));
    say(&format!("{:6} {:14} {}", "", "", head.join(" ")));
    let mut rows = Vec::new();
    for format in FORMATS {
        for shape in SHAPES {
            rows.push(Product::measure(cpu, format, shape, &bytes, repeat)?.report(limits));
        }
    }
    Ok(rows)
}

/// Speed of one format on one shape.
struct Product {
    format: DType,
    shape: (usize, usize),
    /// Bytes of weights a second, with one token and with some.
    one_bytes_s: f64,
    some_bytes_s: f64,
    /// Operations a second, with many.
    many_ops_s: f64,
}

impl Product {
    fn measure(
        cpu: &mut Cpu,
        format: DType,
        shape: (usize, usize),
        bytes: &[u8],
        repeat: usize,
    ) -> Result<Self> {
        let (n_in, n_out) = shape;
        let matrices = matrices(format, shape, bytes)?;
        let read = (matrices.len() * matrices[0].data().len()) as f64;
        let mut sweep_bytes_s = |n| Ok::<_, anyhow::Error>(read / sweep_s(cpu, &matrices, n, repeat)?);
        let (one_bytes_s, some_bytes_s) = (sweep_bytes_s(1)?, sweep_bytes_s(SOME)?);
        let many_s = sweep_s(cpu, &matrices[..1], MANY, repeat)?;
        let many_ops_s = (2 * n_in * n_out * MANY) as f64 / many_s;
        Ok(Self { format, shape, one_bytes_s, some_bytes_s, many_ops_s })
    }

    /// Prints it, and the same as JSON.
    fn report(&self, limits: &Limits) -> Value {
        let Self { format, shape: (n_in, n_out), one_bytes_s, some_bytes_s, many_ops_s } = self;
        let of_read = |rate: f64| rate / limits.read_bytes_s;
        let (one, some, many) =
            (of_read(*one_bytes_s), of_read(*some_bytes_s), many_ops_s / limits.int8_ops_s);
        say(&format!(
            "{:6} {:14} {:8.1} {:5.0}% {:8.1} {:5.0}% {:8.0} {:5.1}%",
            format.name(),
            format!("{n_in}x{n_out}"),
            one_bytes_s / 1e9,
            100.0 * one,
            some_bytes_s / 1e9,
            100.0 * some,
            many_ops_s / 1e9,
            100.0 * many
        ));
        json!({
            "format": format.name(), "n_in": n_in, "n_out": n_out, "bytes_s_1": one_bytes_s, "bandwidth_fraction_1": one,
            "bytes_s_8": some_bytes_s, "bandwidth_fraction_8": some, "ops_s_512": many_ops_s, "peak_fraction_512": many,
        })
    }
}

/// As many as the bytes hold.
fn matrices(format: DType, (n_in, n_out): (usize, usize), bytes: &[u8]) -> Result<Vec<Matrix<'_>>> {
    let Some(each) = format.bytes_for(n_in * n_out).filter(|_| n_in.is_multiple_of(format.block_values()))
    else {
        bail!("rows of {n_in} values are no whole blocks of {format}");
    };
    let matrices = bytes.chunks_exact(each).map(|data| Matrix::new(format, n_out, n_in, data).map(packed));
    Ok(matrices.collect::<Result<_, _>>()?)
}

/// The matrix in the order of bytes that packs give it.
pub(super) fn packed(matrix: Matrix<'_>) -> Matrix<'_> {
    matrix.with_layout(Layout::Rows16).unwrap_or(matrix)
}

/// Seconds of the fastest sweep over all matrices with `n` tokens.
fn sweep_s(cpu: &mut Cpu, matrices: &[Matrix<'_>], n: usize, repeat: usize) -> Result<f64> {
    let (n_in, n_out) = (matrices[0].cols(), matrices[0].rows());
    let (x, mut out) = (made_up_values(n * n_in), vec![0.0; n * n_out]);
    let seconds = fastest_s(repeat, |_| {
        for matrix in matrices {
            cpu.linear(&x, n, &mut [Linear::new(*matrix, &mut out)]);
        }
    });
    expect_finite(&out)?;
    Ok(seconds)
}

pub(super) fn expect_finite(out: &[f32]) -> Result<()> {
    if out.iter().any(|value| !value.is_finite()) {
        bail!("the products are not finite: the speed of a wrong answer is worth nothing");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command's result")]
pub(super) fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_whole_blocks_of_every_format() {
        let bytes = made_up_weights(32 << 20);
        for format in FORMATS {
            for shape in SHAPES {
                assert!(!matrices(format, shape, &bytes).unwrap().is_empty(), "{format} {shape:?}");
            }
        }
    }

    #[test]
    fn a_product_of_every_format_is_finite_and_has_a_speed() {
        let mut cpu = Cpu::new(kernels::CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
        let bytes = made_up_weights(1 << 20);
        for format in FORMATS {
            let product = Product::measure(&mut cpu, format, (256, 64), &bytes, 1).unwrap();
            assert!(product.one_bytes_s > 0.0 && product.many_ops_s.is_finite(), "{format}");
        }
    }
}
