//! Attention over the paged cache, against the reference over plain keys and values.

use crate::inputs::{Rng, cpus};
use half::f16;
use kernels::{
    AttentionSeq, AttentionShape, BLOCK_TOKENS, Cpu, KvElements, KvElementsMut, KvLayer, KvLayerMut,
    Precision,
};
use proptest::prelude::*;
use tensor::reference;

/// A layer's cache, filled with noise: what was never written must not matter.
enum Cache {
    F32([Vec<f32>; 2]),
    F16([Vec<f16>; 2]),
}

impl Cache {
    fn new(precision: Precision, n: usize, rng: &mut Rng) -> Self {
        match precision {
            Precision::F32 => Self::F32([rng.floats(n), rng.floats(n)]),
            Precision::Fast => {
                Self::F16([rng.floats(n), rng.floats(n)].map(|x| x.into_iter().map(f16::from_f32).collect()))
            }
        }
    }

    fn layer(&self) -> KvLayer<'_> {
        match self {
            Self::F32([k, v]) => KvLayer { k: KvElements::F32(k), v: KvElements::F32(v) },
            Self::F16([k, v]) => KvLayer { k: KvElements::F16(k), v: KvElements::F16(v) },
        }
    }

    fn layer_mut(&mut self) -> KvLayerMut<'_> {
        match self {
            Self::F32([k, v]) => KvLayerMut { k: KvElementsMut::F32(k), v: KvElementsMut::F32(v) },
            Self::F16([k, v]) => KvLayerMut { k: KvElementsMut::F16(k), v: KvElementsMut::F16(v) },
        }
    }
}

/// Sequences whose blocks lie scattered in the cache.
struct Case {
    shape: AttentionShape,
    /// (past, new tokens) a sequence.
    seqs: Vec<(usize, usize)>,
    tables: Vec<Vec<u32>>,
    n_blocks: usize,
    /// All keys and values ever written, [past + new, n_kv_heads, head_dim] a sequence.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    q: Vec<f32>,
}

impl Case {
    fn new(shape: AttentionShape, seqs: &[(usize, usize)], precision: Precision, rng: &mut Rng) -> Self {
        let width = shape.n_kv_heads * shape.head_dim;
        let stored = |x: f32| if precision == Precision::Fast { f16::from_f32(x).to_f32() } else { x };
        let mut rows = |n: usize| rng.floats(n * width).into_iter().map(stored).collect::<Vec<f32>>();
        let keys = seqs.iter().map(|(past, new)| rows(past + new)).collect();
        let values = seqs.iter().map(|(past, new)| rows(past + new)).collect();
        let blocks = |(past, new): &(usize, usize)| (past + new).div_ceil(BLOCK_TOKENS);
        let n_blocks: usize = seqs.iter().map(blocks).sum::<usize>() + 2;
        let mut free: Vec<u32> = (0..n_blocks as u32).collect();
        free.sort_by_cached_key(|_| rng.next());
        let tables = seqs.iter().map(|seq| free.split_off(free.len() - blocks(seq))).collect();
        let n_new: usize = seqs.iter().map(|(_, new)| new).sum();
        let q = rng.floats(n_new * shape.n_heads * shape.head_dim).into_iter().map(|x| 3.0 * x).collect();
        Self { shape, seqs: seqs.to_vec(), tables, n_blocks, keys, values, q }
    }

    fn want(&self) -> Vec<f32> {
        let AttentionShape { n_heads, n_kv_heads, head_dim, scale } = self.shape;
        let mut want = vec![0.0; self.q.len()];
        let mut rows = want.chunks_exact_mut(head_dim).zip(self.q.chunks_exact(head_dim));
        for (i, (past, new)) in self.seqs.iter().enumerate() {
            for token in 0..*new {
                for head in 0..n_heads {
                    let kv_head = head * n_kv_heads / n_heads;
                    let of_head = |all: &[f32]| -> Vec<f32> {
                        let rows = all.chunks_exact(head_dim).skip(kv_head).step_by(n_kv_heads);
                        rows.take(past + token + 1).flatten().copied().collect()
                    };
                    let (want, q) = rows.next().expect("a row for every head");
                    reference::attention(want, q, &of_head(&self.keys[i]), &of_head(&self.values[i]), scale);
                }
            }
        }
        want
    }

    /// Writes the past, then the new tokens of all sequences, then attends.
    fn got(&self, cpu: &mut Cpu, cache: &mut Cache) -> Vec<f32> {
        let width = self.shape.n_kv_heads * self.shape.head_dim;
        let steps = |new: bool| -> Vec<AttentionSeq<'_>> {
            let mut steps = Vec::new();
            for (&(past, n), block_table) in self.seqs.iter().zip(&self.tables) {
                let (n_tokens, first_pos) = if new { (n, past) } else { (past, 0) };
                steps.push(AttentionSeq { n_tokens, first_pos, block_table });
            }
            steps
        };
        for new in [false, true] {
            let seqs = steps(new);
            let rows = |all: &[Vec<f32>]| -> Vec<f32> {
                let part = |(rows, seq): (&Vec<f32>, &AttentionSeq<'_>)| {
                    rows[seq.first_pos * width..][..seq.n_tokens * width].to_vec()
                };
                all.iter().zip(&seqs).flat_map(part).collect()
            };
            cpu.kv_write(cache.layer_mut(), self.shape, &rows(&self.keys), &rows(&self.values), &seqs);
        }
        let mut out = vec![f32::NAN; self.q.len()];
        cpu.attention(&mut out, &self.q, &steps(true), self.shape, cache.layer());
        out
    }
}

fn check(
    shape: AttentionShape,
    seqs: &[(usize, usize)],
    precision: Precision,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = Rng(seed);
    let case = Case::new(shape, seqs, precision, &mut rng);
    let want = case.want();
    for cpu in &mut cpus(precision) {
        let n = case.n_blocks * shape.n_kv_heads * BLOCK_TOKENS * shape.head_dim;
        let mut cache = Cache::new(precision, n, &mut rng);
        let got = case.got(cpu, &mut cache);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            // Values are below 1, weights sum to 1; scores are below 3 head_dim scale, each off by head_dim u of it.
            let tolerance = 2e-6 + 3.0 * (shape.head_dim as f32).powi(2) * shape.scale / (1 << 24) as f32;
            prop_assert!(
                (got - want).abs() <= tolerance,
                "{seqs:?} {shape:?} {} x{}: value {i}: {got}, want {want}",
                cpu.level(),
                cpu.n_threads()
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn any_shape_and_any_batch_match(
        n_kv_heads in 1_usize..4,
        group in 1_usize..8,
        head_dim in prop::sample::select(&[2_usize, 8, 20, 32, 64, 80, 128][..]),
        seqs in prop::collection::vec((0_usize..100, 1_usize..50), 1..4),
        fast: bool,
        seed: u64,
    ) {
        let scale = (head_dim as f32).sqrt().recip();
        let shape = AttentionShape { n_heads: n_kv_heads * group, n_kv_heads, head_dim, scale };
        check(shape, &seqs, if fast { Precision::Fast } else { Precision::F32 }, seed)?;
    }

    #[test]
    fn decoding_matches(
        n_kv_heads in 1_usize..4,
        group in 1_usize..9,
        head_dim in prop::sample::select(&[16_usize, 32, 64, 96][..]),
        pasts in prop::collection::vec(0_usize..150, 1..6),
        seed: u64,
    ) {
        let scale = (head_dim as f32).sqrt().recip();
        let shape = AttentionShape { n_heads: n_kv_heads * group, n_kv_heads, head_dim, scale };
        let seqs: Vec<(usize, usize)> = pasts.into_iter().map(|past| (past, 1)).collect();
        check(shape, &seqs, Precision::Fast, seed)?;
    }
}

#[test]
fn long_prompts_cross_tiles_and_blocks() {
    let shape = AttentionShape { n_heads: 6, n_kv_heads: 2, head_dim: 64, scale: 0.125 };
    check(shape, &[(31, 70), (0, 33)], Precision::Fast, 1).expect("matches");
    check(shape, &[(31, 70), (0, 33)], Precision::F32, 1).expect("matches");
}

#[test]
fn huge_scores_neither_overflow_nor_lose_the_largest() {
    let shape = AttentionShape { n_heads: 1, n_kv_heads: 1, head_dim: 32, scale: 1e4 };
    for cpu in &mut cpus(Precision::F32) {
        let mut cache = Cache::new(Precision::F32, BLOCK_TOKENS * 32, &mut Rng(1));
        let seqs = [AttentionSeq { n_tokens: 2, first_pos: 0, block_table: &[0] }];
        let k: Vec<f32> = (0..64).map(|i| if i < 32 { 1.0 } else { -1.0 }).collect();
        let v: Vec<f32> = (0..64).map(|i| if i < 32 { 5.0 } else { 7.0 }).collect();
        cpu.kv_write(cache.layer_mut(), shape, &k, &v, &seqs);
        let mut out = [f32::NAN; 64];
        cpu.attention(&mut out, &[1.0; 64], &seqs, shape, cache.layer());
        assert_eq!(out, [5.0; 64]);
    }
}
