//! Every stage computes what its twin on the processor does, at odd sizes, in every variant.

use crate::card::{Card, agree, numbers};
use gpu::{Counts, DeviceOptions, Linear, Quantised, Rows, WeightShape};
use shaders::{Arithmetic, Format, Threads};
use tensor::{BlockScale, DType, Matrix, reference};

/// Bytes of a matrix with finite values; of blocks, with scales of moderate size.
fn bytes_of(dtype: DType, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
    let values = numbers(rows * cols, seed);
    match dtype {
        DType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        // Every code but the two NaN, subnormal ones among them.
        DType::F8E4M3 => {
            values.iter().map(|x| ((x.abs() * 126.0) as u8) | if *x < 0.0 { 0x80 } else { 0 }).collect()
        }
        _ => blocks(dtype, rows * cols / dtype.block_values(), seed),
    }
}

/// Blocks of random codes and scales; half floats are set where the format has them.
fn blocks(dtype: DType, n: usize, seed: u64) -> Vec<u8> {
    let bytes = dtype.block_bytes();
    let random = numbers(n * bytes, seed);
    let mut out: Vec<u8> = random.iter().map(|x| (x * 128.0 + 128.0).min(255.0) as u8).collect();
    let halves: &[usize] = match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        _ => &[0],
    };
    for (i, block) in out.chunks_exact_mut(bytes).enumerate() {
        for &at in halves {
            let half = half::f16::from_f32(random[i] * 0.01);
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    out
}

pub(crate) struct Weights {
    dtype: DType,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
    scales: Vec<u8>,
}

impl Weights {
    pub(crate) fn new(dtype: DType, rows: usize, cols: usize, seed: u64) -> Self {
        let n_scales = rows.div_ceil(128) * cols.div_ceil(128);
        let scales = numbers(n_scales, seed + 9).iter().flat_map(|x| (x * 0.1).to_le_bytes()).collect();
        Self { dtype, rows, cols, bytes: bytes_of(dtype, rows, cols, seed), scales }
    }

    pub(crate) fn matrix(&self) -> Matrix<'_> {
        let matrix = Matrix::new(self.dtype, self.rows, self.cols, &self.bytes).expect("a matrix");
        if self.dtype != DType::F8E4M3 {
            return matrix;
        }
        let (rows, cols) = (self.rows.div_ceil(128), self.cols.div_ceil(128));
        matrix.with_scale(BlockScale { rows, cols, data: &self.scales }).expect("scales fit")
    }

    /// The largest sum of products that a row of ones could give.
    pub(crate) fn norm(&self) -> f32 {
        let mut row = vec![0.0; self.cols];
        let mut sum = |r| {
            self.matrix().decode_row(r, &mut row);
            row.iter().map(|x| x.abs()).sum::<f32>()
        };
        (0..self.rows).map(&mut sum).fold(0.0, f32::max)
    }
}

#[derive(Clone, Copy)]
struct Case {
    rows: usize,
    cols: usize,
    n_tokens: usize,
    tokens: u32,
    splits: u32,
    gated: bool,
    bias: bool,
    fast: bool,
}

fn linear_agrees(format: Format, case: &Case) {
    let &Case { rows, cols, n_tokens, tokens, splits, gated, bias, fast } = case;
    let dtype = format.dtype();
    let (gate, up) = (Weights::new(dtype, rows, cols, 1), Weights::new(dtype, rows, cols, 2));
    let mut x = numbers(n_tokens * cols, 3);
    if fast && format.has_codes() {
        // What the stage's own quantising leaves as it is.
        x = rounded(&x);
    }
    let biases = numbers(rows, 4);
    let mut card = Card::new();
    let parts = 1 + usize::from(gated);
    let weight = card.layout.weight(WeightShape { dtype, rows, cols, parts });
    let stride = rows.next_multiple_of(4);
    let (at, out) = (card.floats(&x), card.buffer(n_tokens * stride));
    let padded: Vec<f32> =
        biases.iter().copied().chain(std::iter::repeat(0.0)).take(rows.next_multiple_of(16)).collect();
    let bias_at = card.floats(&padded);
    let codes = card.buffer((n_tokens * cols).div_ceil(2));
    let quantised = Quantised { codes, factors: card.buffer((n_tokens * cols).div_ceil(8)), f16: true };
    let job = Linear {
        bias: bias.then_some(bias_at),
        tokens,
        quantised: fast.then_some(quantised),
        ..Linear::new(&weight, Threads { quads: 4, splits })
    };
    gpu::linear(&mut card.recording, job, Rows::new(at, cols), Rows::new(out, stride));
    let matrices = [gate.matrix(), up.matrix()];
    let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
    let got = card.run(counts, &[(&weight, &matrices[..parts])], out, n_tokens * stride);
    for t in 0..n_tokens {
        let mut want = vec![0.0; rows];
        let bias = bias.then_some(biases.as_slice());
        let up_matrix = gated.then_some(&matrices[1]);
        reference::linear(&mut want, &matrices[0], up_matrix, bias, &x[t * cols..(t + 1) * cols]);
        let scale = gate.norm() * if gated { up.norm() } else { 1.0 } * precision_of(format, fast);
        agree(&format!("{dtype} token {t}"), &got[t * stride..t * stride + rows], &want, scale);
    }
}

/// How much coarser sums may be than in f32: half floats have 11 bits.
pub(crate) fn precision_of(format: Format, fast: bool) -> f32 {
    if fast && format.fast(true) == Some(Arithmetic::F16) { 300.0 } else { 1.0 }
}

/// Activations as they are after quantising.
pub(crate) fn rounded(x: &[f32]) -> Vec<f32> {
    let (mut codes, mut scales) = (vec![0; x.len()], vec![0.0; x.len() / 32]);
    reference::quantise_activations(x, &mut codes, &mut scales, &mut vec![0; x.len() / 32]);
    codes.iter().enumerate().map(|(i, &code)| f32::from(code) * scales[i / 32]).collect()
}

#[test]
fn linear_in_every_format() {
    for format in Format::all() {
        let cols = format.dtype().block_values().max(4) * 3;
        let plain =
            Case { rows: 37, cols, n_tokens: 1, tokens: 1, splits: 1, gated: false, bias: true, fast: false };
        linear_agrees(format, &plain);
        linear_agrees(format, &Case { rows: 50, n_tokens: 2, splits: 8, gated: true, bias: false, ..plain });
        let tiles = Case { rows: 21, n_tokens: 11, tokens: 8, bias: false, ..plain };
        linear_agrees(format, &tiles);
        if format.fast(true).is_some() {
            let fast = Case { fast: true, cols: cols.next_multiple_of(32), ..tiles };
            linear_agrees(format, &fast);
            linear_agrees(format, &Case { gated: true, splits: 4, ..fast });
        }
    }
}

#[test]
fn quantise_activations_as_the_processor_does() {
    let (n_tokens, cols) = (3, 96);
    let mut x = numbers(n_tokens * cols, 17);
    x[32..64].fill(0.0);
    let mut card = Card::new();
    let (at, out) = (card.floats(&x), card.buffer(n_tokens * 4));
    let w = Weights::new(DType::Q8_0, 4, cols, 18);
    let weight = card.layout.weight(WeightShape { dtype: w.dtype, rows: 4, cols, parts: 1 });
    let codes = card.buffer(n_tokens * cols / 4);
    let quantised = Quantised { codes, factors: card.buffer(n_tokens * cols / 8), f16: true };
    let threads = Threads { quads: 4, splits: 1 };
    let job = Linear { tokens: 8, quantised: Some(quantised), ..Linear::new(&weight, threads) };
    gpu::linear(&mut card.recording, job, Rows::new(at, cols), Rows::new(out, 4));
    // Another linear over the same activations takes them as they are.
    gpu::linear(&mut card.recording, job, Rows::new(at, cols), Rows::new(out, 4));
    assert_eq!(card.recording.stages.len(), 3);
    let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
    let got = card.run(counts, &[(&weight, &[w.matrix()])], codes, n_tokens * cols / 4);
    let got: Vec<i8> =
        got.iter().flat_map(|word| word.to_bits().to_le_bytes()).map(|byte| byte as i8).collect();
    let (mut want, mut scales) = (vec![0; x.len()], vec![0.0; x.len() / 32]);
    reference::quantise_activations(&x, &mut want, &mut scales, &mut vec![0; x.len() / 32]);
    let apart = got.iter().zip(&want).map(|(got, want)| (i32::from(*got) - i32::from(*want)).abs()).max();
    // A product instead of a quotient: a value between two codes may go to either.
    assert!(apart.is_some_and(|apart| apart <= 1), "{apart:?}");
}

#[test]
fn quantise_activations_to_half_floats() {
    let (n_tokens, cols) = (3, 64);
    let mut x: Vec<f32> = numbers(n_tokens * cols, 19).iter().map(|x| 1e6 * x).collect();
    x[32..64].fill(0.0);
    let mut card = Card::new();
    let (at, out) = (card.floats(&x), card.buffer(n_tokens * 4));
    let w = Weights::new(DType::F16, 4, cols, 18);
    let weight = card.layout.weight(WeightShape { dtype: w.dtype, rows: 4, cols, parts: 1 });
    let codes = card.buffer(n_tokens * cols / 2);
    let quantised = Quantised { codes, factors: card.buffer(n_tokens * cols / 8), f16: true };
    let job = Linear {
        tokens: 8,
        quantised: Some(quantised),
        ..Linear::new(&weight, Threads { quads: 4, splits: 1 })
    };
    gpu::linear(&mut card.recording, job, Rows::new(at, cols), Rows::new(out, 4));
    let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
    let got = card.run(counts, &[(&weight, &[w.matrix()])], codes, n_tokens * cols / 2);
    let halves = got.iter().flat_map(|word| {
        let bits = word.to_bits();
        [half::f16::from_bits(bits as u16), half::f16::from_bits((bits >> 16) as u16)]
    });
    for (i, half) in halves.enumerate() {
        let group = &x[i / 32 * 32..(i / 32 + 1) * 32];
        let largest = group.iter().fold(0f32, |most, x| most.max(x.abs()));
        let want = if largest == 0.0 { 0.0 } else { x[i] / largest };
        assert!((half.to_f32() - want).abs() <= 1e-3 * want.abs() + 1e-6, "[{i}]: {half}, want {want}");
    }
}

#[test]
fn linear_of_heads_adds_to_what_is_there() {
    let (heads, head_rows, cols, n_tokens) = (3, 8, 12, 2);
    let w = Weights::new(DType::F16, heads * head_rows, cols, 5);
    let x = numbers(n_tokens * heads * cols, 6);
    let before = numbers(n_tokens * heads * 12, 7);
    let mut card = Card::new();
    let weight = card.layout.weight(WeightShape { dtype: w.dtype, rows: w.rows, cols, parts: 1 });
    let (at, out) = (card.floats(&x), card.floats(&before));
    let threads = Threads { quads: 4, splits: 2 };
    let job = Linear { heads, add: true, ..Linear::new(&weight, threads) };
    let (from, to) = (Rows::of_heads(at, heads * cols, cols), Rows::of_heads(out, heads * 12, 12));
    gpu::linear(&mut card.recording, job, from, to);
    let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
    let got = card.run(counts, &[(&weight, &[w.matrix()])], out, before.len());
    for t in 0..n_tokens {
        for head in 0..heads {
            let (from, to) = ((t * heads + head) * cols, (t * heads + head) * 12);
            let matrix = w.matrix().row_range(head * head_rows, (head + 1) * head_rows);
            let mut want = vec![0.0; head_rows];
            reference::linear(&mut want, &matrix, None, None, &x[from..from + cols]);
            want.iter_mut().zip(&before[to..]).for_each(|(want, before)| *want += before);
            want.extend_from_slice(&before[to + head_rows..to + 12]);
            agree(&format!("token {t} head {head}"), &got[to..to + 12], &want, w.norm());
        }
    }
}

#[test]
fn a_matrix_in_shards_is_the_matrix() {
    let (rows, cols) = (300, 128);
    let w = Weights::new(DType::F8E4M3, rows, cols, 8);
    let x = numbers(cols, 9);
    let mut card = Card::new();
    // 128 rows a shard.
    card.layout = gpu::Layout::new(128 * 128, 1 << 20);
    let weight = card.layout.weight(WeightShape { dtype: w.dtype, rows, cols, parts: 1 });
    assert_eq!(weight.shards.len(), 3);
    let (at, out, table) = (card.floats(&x), card.buffer(rows), card.buffer(2 * cols));
    let ids = card.words(&[299, 130]);
    let threads = Threads { quads: 8, splits: 1 };
    let job = Linear { wanted: true, ..Linear::new(&weight, threads) };
    gpu::linear(&mut card.recording, job, Rows::new(at, cols), Rows::new(out, rows));
    gpu::embedding(
        &mut card.recording,
        &weight,
        gpu::Embedding { step: ids, ids: 0 },
        Rows::new(table, cols),
    );
    let counts = Counts { tokens: 2, wanted: 1, ..Counts::default() };
    let mut want = vec![0.0; rows];
    reference::linear(&mut want, &w.matrix(), None, None, &x);
    let (layout, recording) = (card.layout.clone(), card.recording.clone());
    let got = card.run(counts, &[(&weight, &[w.matrix()])], out, rows);
    agree("sharded", &got, &want, w.norm());
    let mut again = Card::new();
    (again.layout, again.recording) = (layout, recording);
    again.rewrite(at, &x.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    again.rewrite(ids, &[299, 130]);
    let got = again.run(counts, &[(&weight, &[w.matrix()])], table, 2 * cols);
    for (i, id) in [299, 130].into_iter().enumerate() {
        let mut want = vec![0.0; cols];
        reference::embedding(&mut want, &w.matrix(), id);
        agree("row", &got[i * cols..(i + 1) * cols], &want, 0.0);
    }
}

#[test]
fn embedding_in_every_format() {
    for format in Format::all() {
        let dtype = format.dtype();
        let (rows, cols) = (45, 2 * dtype.block_values().max(4));
        let w = Weights::new(dtype, rows, cols, 10);
        let mut card = Card::new();
        let weight = card.layout.weight(WeightShape { dtype, rows, cols, parts: 1 });
        let ids = card.words(&[7, 44, 0, 17, 3]);
        let out = card.buffer(3 * cols);
        // The ids begin at word 1.
        gpu::embedding(
            &mut card.recording,
            &weight,
            gpu::Embedding { step: ids, ids: 1 },
            Rows::new(out, cols),
        );
        let counts = Counts { tokens: 3, ..Counts::default() };
        let got = card.run(counts, &[(&weight, &[w.matrix()])], out, 3 * cols);
        for (i, id) in [44, 0, 17].into_iter().enumerate() {
            let mut want = vec![0.0; cols];
            reference::embedding(&mut want, &w.matrix(), id);
            agree(&format!("{dtype} row {id}"), &got[i * cols..(i + 1) * cols], &want, 0.0);
        }
    }
}

#[test]
fn rms_norm_with_and_without_subgroups() {
    for no_subgroups in [false, true] {
        let (width, tail, stride) = (148, 12, 164);
        let x = numbers(4 * stride, 11);
        let w = numbers(width, 12);
        let mut card = Card::with(DeviceOptions { no_subgroups, ..DeviceOptions::default() });
        let (at, weight, rows) = (card.floats(&x), card.floats(&w), card.words(&[9, 3, 0]));
        let out = card.buffer(2 * (width + tail));
        let (from, to) = (Rows::new(at, stride), Rows::new(out, width + tail));
        let norm = (weight, width, 1e-5);
        gpu::rms_norm(&mut card.recording, norm, tail, (rows, Some(1)), (from, to), !no_subgroups);
        let counts = Counts { tokens: 4, wanted: 2, ..Counts::default() };
        let got = card.run(counts, &[], out, 2 * (width + tail));
        for (got, row) in got.chunks(width + tail).zip([3, 0]) {
            let x = &x[row * stride..];
            let mut want = vec![0.0; width];
            reference::rms_norm(&mut want, &x[..width], &w, 1e-5);
            want.extend_from_slice(&x[width..width + tail]);
            agree("rms_norm", got, &want, 0.5);
        }
    }
}

#[test]
fn rope_of_neighbours_and_halves_in_place_and_elsewhere() {
    let (n_tokens, heads, head_dim, dim) = (3, 5, 20, 12);
    let freqs = reference::rope_frequencies(10_000.0, dim);
    let positions = [0u32, 7, 1000];
    let x = numbers(n_tokens * heads * head_dim, 13);
    for neighbours in [false, true] {
        for in_place in [false, true] {
            let mut card = Card::new();
            let angles: Vec<u32> = positions
                .iter()
                .flat_map(|&p| freqs.iter().map(move |f| f64::from(p as f32 * f)))
                .flat_map(|angle| [angle.cos() as f32, angle.sin() as f32])
                .map(f32::to_bits)
                .collect();
            let step = card.words(&angles);
            let (at, other) = (card.floats(&x), card.floats(&x));
            let rows = |at| Rows { offset: 8, ..Rows::of_heads(at, heads * head_dim, head_dim) };
            let job = gpu::Rope { heads, dim, neighbours, step, angles: 0 };
            let (from, to) = if in_place { (None, at) } else { (Some(rows(at)), other) };
            gpu::rope(&mut card.recording, job, from, rows(to));
            let counts = Counts { tokens: n_tokens as u32, ..Counts::default() };
            let got = card.run(counts, &[], to, x.len());
            let mut want = x.clone();
            let pairs =
                if neighbours { reference::RopePairs::Interleaved } else { reference::RopePairs::Halves };
            for (t, token) in want.chunks_exact_mut(heads * head_dim).enumerate() {
                for head in token.chunks_exact_mut(head_dim) {
                    reference::rope(&mut head[8..8 + dim], positions[t] as usize, &freqs, 1.0, pairs);
                }
            }
            agree("rope", &got, &want, 1.0);
        }
    }
}

#[test]
fn argmax_finds_the_first_of_the_largest() {
    let (width, stride, n_rows) = (1003, 1004, 5);
    let mut x = numbers(n_rows * stride, 16);
    // Equals, far apart; NaN beside the largest; nothing but the least; padding that does not count.
    (x[700], x[41], x[999]) = (9.0, 9.0, 9.0);
    (x[stride + 5], x[stride + 6]) = (f32::NAN, 8.0);
    x[2 * stride..3 * stride].fill(f32::NEG_INFINITY);
    (x[3 * stride], x[4 * stride - 1]) = (7.0, 70.0);
    x[5 * stride - 2] = 6.0;
    let mut card = Card::new();
    let (at, out) = (card.floats(&x), card.buffer(2 * n_rows));
    gpu::argmax(&mut card.recording, width, Rows::new(at, stride), out);
    let got = card.run(Counts { wanted: n_rows as u32, ..Counts::default() }, &[], out, 2 * n_rows);
    for (row, got) in x.chunks_exact(stride).zip(got.chunks_exact(2)) {
        assert_eq!(got[0].to_bits() as usize, reference::argmax(&row[..width]));
    }
}

#[test]
fn swiglu_agrees() {
    let (width, n_tokens) = (76, 3);
    let (gate, up) = (numbers(width * n_tokens, 14), numbers(width * n_tokens, 15));
    let mut card = Card::new();
    let (gate_at, up_at) = (card.floats(&gate), card.floats(&up));
    let out = card.buffer(width * n_tokens);
    gpu::swiglu(&mut card.recording, width, gate_at, up_at, out);
    let got = card.run(Counts { tokens: 3, ..Counts::default() }, &[], out, width * n_tokens);
    let mut want = vec![0.0; width * n_tokens];
    reference::swiglu(&mut want, &gate, &up);
    agree("swiglu", &got, &want, 1.0);
}
