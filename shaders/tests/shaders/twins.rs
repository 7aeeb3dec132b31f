//! Every stage computes what its twin on the processor does, at odd sizes, in every variant.

use crate::card::{Card, agree, numbers};
use gpu::{Counts, DeviceOptions, Linear, Rows, WeightShape};
use shaders::{Format, KvType, Threads};
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

struct Case {
    rows: usize,
    cols: usize,
    n_tokens: usize,
    tokens: u32,
    splits: u32,
    gated: bool,
    bias: bool,
}

fn linear_agrees(format: Format, case: &Case) {
    let &Case { rows, cols, n_tokens, tokens, splits, gated, bias } = case;
    let dtype = format.dtype();
    let (gate, up) = (Weights::new(dtype, rows, cols, 1), Weights::new(dtype, rows, cols, 2));
    let x = numbers(n_tokens * cols, 3);
    let biases = numbers(rows, 4);
    let mut card = Card::new();
    let parts = 1 + usize::from(gated);
    let weight = card.layout.weight(WeightShape { dtype, rows, cols, parts });
    let stride = rows.next_multiple_of(4);
    let (at, out) = (card.floats(&x), card.buffer(n_tokens * stride));
    let padded: Vec<f32> =
        biases.iter().copied().chain(std::iter::repeat(0.0)).take(rows.next_multiple_of(16)).collect();
    let bias_at = card.floats(&padded);
    let job = Linear {
        weight: &weight,
        bias: bias.then_some(bias_at),
        heads: 1,
        add: false,
        tokens,
        threads: Threads { quads: 4, splits },
        wanted: false,
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
        let scale = gate.norm() * if gated { up.norm() } else { 1.0 };
        agree(&format!("{dtype} token {t}"), &got[t * stride..t * stride + rows], &want, scale);
    }
}

#[test]
fn linear_in_every_format() {
    for format in Format::all() {
        let cols = format.dtype().block_values().max(4) * 3;
        let case = |rows, n_tokens, tokens, splits, gated, bias| Case {
            rows,
            cols,
            n_tokens,
            tokens,
            splits,
            gated,
            bias,
        };
        linear_agrees(format, &case(37, 1, 1, 1, false, true));
        linear_agrees(format, &case(50, 2, 1, 8, true, false));
        linear_agrees(format, &case(21, 11, 8, 1, false, false));
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
    let job = Linear { weight: &weight, bias: None, heads, add: true, tokens: 1, threads, wanted: false };
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
    let job = Linear { weight: &weight, bias: None, heads: 1, add: false, tokens: 1, threads, wanted: true };
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

/// Two sequences over a cache whose blocks are out of order: 0 ends with tokens 68 and 69, 1 with token 4.
struct Past {
    kv: KvType,
    heads: usize,
    kv_heads: usize,
    key_dim: usize,
    value_dim: usize,
    /// Values lie within the keys.
    latent: bool,
}

const LENS: [usize; 2] = [70, 5];
/// Block tables, one after another.
const TABLES: [u32; 4] = [3, 0, 4, 1];
/// Query tokens: sequence, positions seen.
const QUERIES: [(usize, usize); 3] = [(0, 69), (0, 70), (1, 5)];

impl Past {
    fn value_row(&self) -> usize {
        if self.latent { self.key_dim } else { self.value_dim }
    }

    /// [sequence][position, kv head, width]
    fn rows(&self, width: usize, seed: u64) -> [Vec<f32>; 2] {
        LENS.map(|len| {
            let mut rows = numbers(len * self.kv_heads * width, seed + len as u64);
            if self.kv == KvType::F16 {
                rows.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
            }
            rows
        })
    }

    /// Slots of all tokens, positions of the queries, block tables, tiles; where the last three begin, and the tiles.
    fn step(&self) -> (Vec<u32>, [u32; 2], u32) {
        let slot = |first: usize, i: usize| TABLES[first + i / 32] * 32 + i as u32 % 32;
        let mut step: Vec<u32> =
            (0..LENS[0]).map(|i| slot(0, i)).chain((0..LENS[1]).map(|i| slot(3, i))).collect();
        let positions = step.len() as u32;
        step.extend([68, 69, 4]);
        let tables = step.len() as u32;
        step.extend(TABLES);
        let tiles = step.len() as u32;
        let group = self.heads / self.kv_heads;
        for (token, n_tokens, table) in [(0u32, 2, tables), (2, 1, tables + 3)] {
            for row in (0..n_tokens * group).step_by(8) {
                step.extend([token, row as u32, (n_tokens * group - row).min(8) as u32, table]);
            }
        }
        let n_tiles = (step.len() as u32 - tiles) / 4;
        (step, [positions, tiles], n_tiles)
    }

    /// What the twin computes for a head of a query.
    fn want(
        &self,
        q: &[f32],
        keys: &[Vec<f32>; 2],
        values: &[Vec<f32>; 2],
        query: usize,
        head: usize,
    ) -> Vec<f32> {
        let (seq, seen) = QUERIES[query];
        let kv_head = head / (self.heads / self.kv_heads);
        let of = |x: &[Vec<f32>; 2], width: usize, take: usize| -> Vec<f32> {
            (0..seen).flat_map(|i| x[seq][(i * self.kv_heads + kv_head) * width..][..take].to_vec()).collect()
        };
        let (k, v) = (of(keys, self.key_dim, self.key_dim), of(values, self.value_row(), self.value_dim));
        let at = (query * self.heads + head) * self.key_dim;
        let mut want = vec![0.0; self.value_dim];
        reference::attention(&mut want, &q[at..at + self.key_dim], &k, &v, SCALE);
        want
    }

    /// In splits of so many positions.
    fn agrees(&self, split: usize) {
        let &Self { kv, heads, kv_heads, key_dim, value_dim, latent } = self;
        let (keys, value_row) = (self.rows(key_dim, 20), self.value_row());
        let values = if latent { keys.clone() } else { self.rows(value_row, 40) };
        let q = numbers(3 * heads * key_dim, 16);
        let n_splits = LENS[0].div_ceil(split);
        let mut card = Card::new();
        let (step, [positions, tiles], n_tiles) = self.step();
        let step = card.words(&step);
        let cache = |card: &mut Card, rows: &[Vec<f32>; 2], width: usize| {
            let cache = card.buffer(5 * kv_heads * width * 32);
            let from = Rows::new(card.floats(&rows.concat()), kv_heads * width);
            gpu::kv_write(&mut card.recording, kv, (kv_heads, width), (step, 0), (from, cache));
            // As many tokens as are written, not as are asked.
            card.recording.stages.last_mut().unwrap().grid[1] = gpu::Extent::Is(75);
            cache
        };
        let k_cache = cache(&mut card, &keys, key_dim);
        let v_cache = if latent { k_cache } else { cache(&mut card, &values, value_row) };
        let (q_at, out) = (card.floats(&q), card.buffer(3 * heads * value_dim));
        let parts = card.buffer(n_splits * 3 * heads * (value_dim + 4));
        let scale = SCALE;
        let job = gpu::Attention {
            heads,
            kv_heads,
            key_dim,
            value_dim,
            value_row,
            scale,
            kv,
            step,
            tiles,
            positions,
        };
        gpu::attention(&mut card.recording, job, q_at, (k_cache, v_cache), (out, parts));
        let (splits, split) = (n_splits as u32, split as u32);
        let counts = Counts { tokens: 3, tiles: n_tiles, splits, split, ..Counts::default() };
        let got = card.run(counts, &[], out, 3 * heads * value_dim);
        for (i, got) in got.chunks_exact(value_dim).enumerate() {
            let want = self.want(&q, &keys, &values, i / heads, i % heads);
            agree(&format!("token {} head {} split {split}", i / heads, i % heads), got, &want, 2.0);
        }
    }
}

const SCALE: f32 = 0.3;

fn attention_agrees(
    kv: KvType,
    (heads, kv_heads): (usize, usize),
    (key_dim, value_dim): (usize, usize),
    latent: bool,
) {
    let past = Past { kv, heads, kv_heads, key_dim, value_dim, latent };
    past.agrees(96);
    past.agrees(32);
}

#[test]
fn attention_over_grouped_heads() {
    attention_agrees(KvType::F32, (6, 2), (20, 12), false);
    attention_agrees(KvType::F16, (9, 3), (64, 64), false);
    attention_agrees(KvType::F32, (2, 2), (256, 256), false);
}

#[test]
fn attention_over_latent_rows() {
    attention_agrees(KvType::F32, (16, 1), (576, 512), true);
    attention_agrees(KvType::F16, (3, 1), (36, 28), true);
}

#[test]
fn kv_write_lies_as_its_twin_says() {
    let (heads, width) = (3, 8);
    let x = numbers(2 * heads * width, 50);
    let mut card = Card::new();
    let (at, step) = (card.floats(&x), card.words(&[33, 5]));
    let len = 2 * heads * width * 32;
    let cache = card.floats(&vec![0.0; len]);
    gpu::kv_write(
        &mut card.recording,
        KvType::F32,
        (heads, width),
        (step, 0),
        (Rows::new(at, heads * width), cache),
    );
    let got = card.run(Counts { tokens: 2, ..Counts::default() }, &[], cache, len);
    let mut want = vec![0.0; len];
    for (x, slot) in x.chunks(heads * width).zip([33, 5]) {
        reference::kv_write(&mut want, x, slot);
    }
    assert_eq!(got, want);
}

#[test]
fn attention_combine_joins_parts() {
    let width = 20;
    let values = numbers(3 * width, 51);
    let maxima = [0.5f32, -100.0, 3.0];
    let sums = [2.0f32, 1.0, 1.5];
    let mut laid = Vec::new();
    for s in 0..3 {
        laid.extend_from_slice(&values[s * width..(s + 1) * width]);
        laid.extend([maxima[s], sums[s], 0.0, 0.0]);
    }
    let mut card = Card::new();
    let (parts, out) = (card.floats(&laid), card.buffer(width));
    card.recording.push(gpu::Stage {
        shader: shaders::Shader::AttentionCombine,
        words: vec![gpu::Word::Tokens, gpu::Word::Splits, gpu::Word::Is(1), gpu::Word::Is(5)],
        bindings: vec![parts, out],
        grid: [gpu::Extent::Is(1), gpu::Extent::HeadsIfSplit(1), gpu::Extent::Is(1)],
        weight_bytes: 0,
    });
    let got = card.run(Counts { tokens: 1, splits: 3, ..Counts::default() }, &[], out, width);
    let of = |s: usize| (maxima[s], sums[s], &values[s * width..(s + 1) * width]);
    let mut want = vec![0.0; width];
    reference::attention_combine(&mut want, &[of(0), of(1), of(2)]);
    agree("combined", &got, &want, 1.0);
}
