//! Attention over the paged cache, against the reference over plain keys and values.

use kernels::{AttentionSeq, AttentionShape, Cpu, Precision};
use proptest::prelude::*;
use tensor::reference;

use crate::cache::{Cache, Sequences, rows_of, stored};
use crate::inputs::{Rng, cpus};

/// Keys, values and queries of some sequences.
struct Case {
    shape: AttentionShape,
    seqs: Sequences,
    /// All keys and values ever written, [past + new, n_kv_heads, key_dim or value_dim] a sequence.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    q: Vec<f32>,
}

impl Case {
    fn new(shape: AttentionShape, lens: &[(usize, usize)], precision: Precision, rng: &mut Rng) -> Self {
        let seqs = Sequences::new(lens, rng);
        let mut rows = |width: usize| -> Vec<Vec<f32>> {
            let of_seq = |(past, new): &(usize, usize)| {
                stored(precision, rng.floats((past + new) * shape.n_kv_heads * width))
            };
            lens.iter().map(of_seq).collect()
        };
        let (keys, values) = (rows(shape.key_dim), rows(shape.value_dim));
        let q = rng.floats(seqs.n_new() * shape.n_heads * shape.key_dim);
        Self { shape, seqs, keys, values, q: q.into_iter().map(|x| 3.0 * x).collect() }
    }

    fn want(&self) -> Vec<f32> {
        let AttentionShape { n_heads, n_kv_heads, key_dim, value_dim, scale } = self.shape;
        let mut want = vec![0.0; self.q.len() / key_dim * value_dim];
        let mut rows = want.chunks_exact_mut(value_dim).zip(self.q.chunks_exact(key_dim));
        for (i, (past, new)) in self.seqs.lens.iter().enumerate() {
            for token in 0..*new {
                for head in 0..n_heads {
                    let kv_head = head * n_kv_heads / n_heads;
                    let of_head = |all: &[f32], width| -> Vec<f32> {
                        let rows = all.chunks_exact(width).skip(kv_head).step_by(n_kv_heads);
                        rows.take(past + token + 1).flatten().copied().collect()
                    };
                    let (k, v) = (of_head(&self.keys[i], key_dim), of_head(&self.values[i], value_dim));
                    let (want, q) = rows.next().expect("a row for every head");
                    reference::attention(want, q, &k, &v, scale);
                }
            }
        }
        want
    }

    /// Writes the past, then the new tokens of all sequences, then attends.
    fn got(&self, cpu: &mut Cpu, cache: &mut Cache) -> Vec<f32> {
        let AttentionShape { n_kv_heads, key_dim, value_dim, .. } = self.shape;
        for seqs in [self.seqs.past(), self.seqs.new_tokens()] {
            let k = rows_of(&self.keys, &seqs, n_kv_heads * key_dim);
            let v = rows_of(&self.values, &seqs, n_kv_heads * value_dim);
            cpu.kv_write(cache.layer_mut(), self.shape, &k, Some(&v), &seqs);
        }
        let mut out = vec![f32::NAN; self.q.len() / key_dim * value_dim];
        cpu.attention(&mut out, &self.q, &self.seqs.new_tokens(), self.shape, cache.layer());
        out
    }
}

fn check(
    shape: AttentionShape,
    lens: &[(usize, usize)],
    precision: Precision,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = Rng(seed);
    let case = Case::new(shape, lens, precision, &mut rng);
    let want = case.want();
    let widths = [shape.key_dim, shape.value_dim].map(|width| width * shape.n_kv_heads);
    for cpu in &mut cpus(precision) {
        let mut cache = Cache::new(precision, case.seqs.n_blocks, widths[0], Some(widths[1]), &mut rng);
        let got = case.got(cpu, &mut cache);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            // Values are below 1, weights sum to 1; scores are below 3 key_dim scale, each off by key_dim u of it.
            let tolerance = 2e-6 + 3.0 * (shape.key_dim as f32).powi(2) * shape.scale / (1 << 24) as f32;
            prop_assert!(
                (got - want).abs() <= tolerance,
                "{lens:?} {shape:?} {} x{}: value {i}: {got}, want {want}",
                cpu.level(),
                cpu.n_threads()
            );
        }
    }
    Ok(())
}

/// `group` query heads for each of `n_kv_heads`.
fn shape(n_kv_heads: usize, group: usize, key_dim: usize, value_dim: usize) -> AttentionShape {
    let scale = (key_dim as f32).sqrt().recip();
    AttentionShape { n_heads: n_kv_heads * group, n_kv_heads, key_dim, value_dim, scale }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn any_shape_and_any_batch_match(
        n_kv_heads in 1_usize..4,
        group in 1_usize..8,
        key_dim in prop::sample::select(&[2_usize, 8, 20, 32, 64, 80, 128, 192][..]),
        value_dim in prop::sample::select(&[1_usize, 8, 20, 32, 64, 80, 128][..]),
        seqs in prop::collection::vec((0_usize..100, 1_usize..50), 1..4),
        fast: bool,
        seed: u64,
    ) {
        let shape = shape(n_kv_heads, group, key_dim, value_dim);
        check(shape, &seqs, if fast { Precision::Fast } else { Precision::F32 }, seed)?;
    }

    #[test]
    fn decoding_matches(
        n_kv_heads in 1_usize..4,
        group in 1_usize..9,
        key_dim in prop::sample::select(&[16_usize, 32, 64, 96][..]),
        value_dim in prop::sample::select(&[16_usize, 32, 64, 96][..]),
        pasts in prop::collection::vec(0_usize..150, 1..6),
        seed: u64,
    ) {
        let shape = shape(n_kv_heads, group, key_dim, value_dim);
        let seqs: Vec<(usize, usize)> = pasts.into_iter().map(|past| (past, 1)).collect();
        check(shape, &seqs, Precision::Fast, seed)?;
    }
}

#[test]
fn long_prompts_cross_tiles_and_blocks() {
    let shape = shape(2, 3, 64, 64);
    check(shape, &[(31, 70), (0, 33)], Precision::Fast, 1).expect("matches");
    check(shape, &[(31, 70), (0, 33)], Precision::F32, 1).expect("matches");
}

#[test]
fn huge_scores_neither_overflow_nor_lose_the_largest() {
    let shape = AttentionShape { scale: 1e4, ..shape(1, 1, 32, 32) };
    for cpu in &mut cpus(Precision::F32) {
        let mut cache = Cache::new(Precision::F32, 1, 32, Some(32), &mut Rng(1));
        let seqs = [AttentionSeq { n_tokens: 2, first_pos: 0, block_table: &[0] }];
        let k: Vec<f32> = (0..64).map(|i| if i < 32 { 1.0 } else { -1.0 }).collect();
        let v: Vec<f32> = (0..64).map(|i| if i < 32 { 5.0 } else { 7.0 }).collect();
        cpu.kv_write(cache.layer_mut(), shape, &k, Some(&v), &seqs);
        let mut out = [f32::NAN; 64];
        cpu.attention(&mut out, &[1.0; 64], &seqs, shape, cache.layer());
        assert_eq!(out, [5.0; 64]);
    }
}
