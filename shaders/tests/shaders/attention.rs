//! Attention and its cache, and their twins.

use gpu::{Counts, Rows};
use shaders::KvType;
use tensor::reference;

use crate::card::{Card, agree, numbers};

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
        gpu::attention(
            &mut card.recording,
            job,
            Rows::new(q_at, heads * key_dim),
            (k_cache, v_cache),
            (out, parts),
        );
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
