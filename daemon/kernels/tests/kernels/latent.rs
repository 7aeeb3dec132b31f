//! Multi-head latent attention: the absorbed and the plain form against the reference's plain form.

use kernels::{
    AttentionSeq, AttentionShape, BLOCK_TOKENS, Cpu, HeadWeights, LatentShape, LatentWeights, Precision,
};
use proptest::prelude::*;
use tensor::{BlockScale, DType, Matrix, SCALE_BLOCK, reference};

use crate::cache::{Cache, Sequences, rows_of, stored};
use crate::inputs::{Rng, cpus};

/// A tensor's bytes, and its FP8 scales.
struct Tensor {
    dtype: DType,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
    scales: Vec<u8>,
}

impl Tensor {
    fn new(dtype: DType, rows: usize, cols: usize, rng: &mut Rng) -> Self {
        if dtype != DType::F8E4M3 {
            return Self { dtype, rows, cols, bytes: rng.weights(dtype, rows * cols), scales: Vec::new() };
        }
        // Exponents near 1: the largest of the format would drown the others.
        let bytes = (0..rows * cols).map(|_| rng.next() as u8 & 0x8f | 0x30).collect();
        let n_scales = rows.div_ceil(SCALE_BLOCK) * cols.div_ceil(SCALE_BLOCK);
        let scales = rng.floats(n_scales).iter().flat_map(|scale| scale.to_le_bytes()).collect();
        Self { dtype, rows, cols, bytes, scales }
    }

    fn matrix(&self) -> Matrix<'_> {
        let matrix = Matrix::new(self.dtype, self.rows, self.cols, &self.bytes).expect("whole blocks");
        if self.scales.is_empty() {
            return matrix;
        }
        let [rows, cols] = [self.rows, self.cols].map(|n| n.div_ceil(SCALE_BLOCK));
        matrix.with_scale(BlockScale { rows, cols, data: &self.scales }).expect("a scale a block")
    }
}

/// The values of a matrix, [rows, cols].
fn decoded(matrix: &Matrix<'_>) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    for (row, out) in values.chunks_exact_mut(matrix.cols()).enumerate() {
        matrix.decode_row(row, out);
    }
    values
}

/// A head's W_uk and W_uv as plain matrices of f32.
struct Head {
    w_uk: Tensor,
    w_uv: Tensor,
}

impl Head {
    fn new(weights: &LatentWeights<'_>, h: usize) -> Self {
        Self { w_uk: as_meant(&weights.k_b, h), w_uv: as_meant(&weights.v_b, h) }
    }
}

fn as_meant(weights: &HeadWeights<'_>, h: usize) -> Tensor {
    let [rows, cols] = weights.shape();
    let stored = decoded(&weights.head(h));
    let at =
        |r: usize, c: usize| if weights.transposed { stored[c * rows + r] } else { stored[r * cols + c] };
    let bytes = (0..rows * cols).flat_map(|i| at(i / cols, i % cols).to_le_bytes()).collect();
    Tensor { dtype: DType::F32, rows, cols, bytes, scales: Vec::new() }
}

/// Latents, queries and weights of some sequences.
struct Case {
    shape: LatentShape,
    seqs: Sequences,
    /// All rows [c | k_rope] ever written, a sequence each.
    latents: Vec<Vec<f32>>,
    q: Vec<f32>,
    precision: Precision,
    /// attn_kv_b, or attn_k_b (transposed) and attn_v_b.
    tensors: Vec<Tensor>,
}

impl Case {
    fn new(
        shape: LatentShape,
        lens: &[(usize, usize)],
        precision: Precision,
        (dtype, split): (DType, bool),
        rng: &mut Rng,
    ) -> Self {
        let LatentShape { n_heads, rank, nope_dim, value_dim, .. } = shape;
        let seqs = Sequences::new(lens, rng);
        let of_seq = |(past, new): &(usize, usize)| (past + new) * shape.row_dim();
        let latents = lens.iter().map(|seq| stored(precision, rng.floats(of_seq(seq)))).collect();
        let q = rng.floats(seqs.n_new() * n_heads * shape.key_dim());
        let tensors = if split {
            vec![
                Tensor::new(dtype, n_heads * rank, nope_dim, rng),
                Tensor::new(dtype, n_heads * value_dim, rank, rng),
            ]
        } else {
            vec![Tensor::new(dtype, n_heads * (nope_dim + value_dim), rank, rng)]
        };
        Self { shape, seqs, latents, q, precision, tensors }
    }

    fn weights(&self) -> LatentWeights<'_> {
        let LatentShape { rank, nope_dim, value_dim, .. } = self.shape;
        let part = |weight, rows_a_head, first, rows, transposed| HeadWeights {
            weight,
            rows_a_head,
            first,
            rows,
            transposed,
        };
        match &self.tensors[..] {
            [kv] => LatentWeights {
                k_b: part(kv.matrix(), nope_dim + value_dim, 0, nope_dim, false),
                v_b: part(kv.matrix(), nope_dim + value_dim, nope_dim, value_dim, false),
            },
            [k, v] => LatentWeights {
                k_b: part(k.matrix(), rank, 0, rank, true),
                v_b: part(v.matrix(), value_dim, 0, value_dim, false),
            },
            _ => panic!("joint or split"),
        }
    }

    fn heads(&self) -> Vec<Head> {
        (0..self.shape.n_heads).map(|h| Head::new(&self.weights(), h)).collect()
    }

    /// The cache's rows that every new token sees, in order.
    fn seen(&self) -> impl Iterator<Item = &[f32]> {
        let width = self.shape.row_dim();
        self.seqs.lens.iter().zip(&self.latents).flat_map(move |(&(past, new), rows)| {
            (0..new).map(move |token| &rows[..(past + token + 1) * width])
        })
    }

    /// What is wanted, and how far rounding may lead from it, of every value.
    fn want(&self) -> Vec<(f32, f32)> {
        let (heads, key_dim) = (self.heads(), self.shape.key_dim());
        let mut queries = self.q.chunks_exact(key_dim);
        let mut want = Vec::new();
        for latents in self.seen() {
            for Head { w_uk, w_uv } in &heads {
                let q = queries.next().expect("a query a row");
                let mut out = vec![0.0; self.shape.value_dim];
                let (k, v) = (w_uk.matrix(), w_uv.matrix());
                reference::latent_attention(&mut out, q, latents, &k, &v, self.shape.scale);
                let tolerance = self.tolerance(q, latents, &k, &v);
                want.extend(out.into_iter().map(|value| (value, tolerance)));
            }
        }
        want
    }

    /// With u = 2^-24, a score is off by at most n u A, A being the score of all operands' absolute values and n the
    /// terms of its sums; that moves the mean of the values by twice as much of the largest value V, to which the sums
    /// over ranks and tokens add n u V (Higham 2002, section 3.1).
    fn tolerance(&self, q: &[f32], latents: &[f32], w_uk: &Matrix<'_>, w_uv: &Matrix<'_>) -> f32 {
        let LatentShape { rank, rope_dim, nope_dim, scale, .. } = self.shape;
        let size = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| (w * x).abs()).sum::<f32>();
        let (k, v) = (decoded(w_uk), decoded(w_uv));
        let (mut score, mut value) = (0.0_f32, 0.0_f32);
        for row in latents.chunks_exact(rank + rope_dim) {
            let (c, k_rope) = row.split_at(rank);
            let of_key = k.chunks_exact(rank).zip(q).map(|(w, q)| size(w, c) * q.abs()).sum::<f32>();
            score = score.max(scale * (of_key + size(&q[nope_dim..], k_rope)));
            value = v.chunks_exact(rank).map(|w| size(w, c)).fold(value, f32::max);
        }
        let n_tokens = latents.len() / (rank + rope_dim);
        let u = 1.0 / (1 << 24) as f32;
        let score_error = (rank + nope_dim + rope_dim + 16) as f32 * u * score;
        (2.0 * score_error + (rank + n_tokens + 64) as f32 * u) * value
    }

    fn absorbed_shape(&self) -> AttentionShape {
        let LatentShape { n_heads, rank, scale, .. } = self.shape;
        AttentionShape { n_heads, n_kv_heads: 1, key_dim: self.shape.row_dim(), value_dim: rank, scale }
    }

    /// A cache with all rows written: the past, then the new tokens.
    fn written(&self, cpu: &mut Cpu, rng: &mut Rng) -> Cache {
        let width = self.shape.row_dim();
        let mut cache = Cache::new(self.precision, self.seqs.n_blocks, width, None, rng);
        for seqs in [self.seqs.past(), self.seqs.new_tokens()] {
            let rows = rows_of(&self.latents, &seqs, width);
            cpu.kv_write(cache.layer_mut(), self.absorbed_shape(), &rows, None, &seqs);
        }
        cache
    }

    /// [W_uk^T q_nope | q_rope] of every row.
    fn absorbed_queries(&self) -> Vec<f32> {
        let (heads, LatentShape { rank, nope_dim, .. }) = (self.heads(), self.shape);
        let rows = self.q.chunks_exact(self.shape.key_dim()).zip(heads.iter().cycle());
        let absorbed = rows.map(|(q, head)| {
            let mut out = vec![0.0; rank];
            reference::mat_vec_transposed(&mut out, &head.w_uk.matrix(), &q[..nope_dim]);
            out.extend_from_slice(&q[nope_dim..]);
            out
        });
        absorbed.collect::<Vec<_>>().concat()
    }

    fn absorbed(&self, cpu: &mut Cpu, cache: &Cache) -> Vec<f32> {
        let LatentShape { n_heads, rank, value_dim, .. } = self.shape;
        let mut mixed = vec![f32::NAN; self.seqs.n_new() * n_heads * rank];
        let (q, seqs) = (self.absorbed_queries(), self.seqs.new_tokens());
        cpu.attention(&mut mixed, &q, &seqs, self.absorbed_shape(), cache.layer());
        let mut out = vec![f32::NAN; mixed.len() / rank * value_dim];
        let rows = out.chunks_exact_mut(value_dim).zip(mixed.chunks_exact(rank));
        let heads = self.heads();
        rows.zip(heads.iter().cycle())
            .for_each(|((out, mixed), head)| reference::mat_vec(out, &head.w_uv.matrix(), mixed));
        out
    }

    fn plain(&self, cpu: &mut Cpu, cache: &Cache) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.seqs.n_new() * self.shape.n_heads * self.shape.value_dim];
        let seqs = self.seqs.new_tokens();
        cpu.latent_attention(&mut out, &self.q, &seqs, &self.shape, cache.layer(), &self.weights());
        out
    }

    fn check(&self, rng: &mut Rng) -> Result<(), TestCaseError> {
        let want = self.want();
        for cpu in &mut cpus(self.precision) {
            let cache = self.written(cpu, rng);
            for (form, got) in [("absorbed", self.absorbed(cpu, &cache)), ("plain", self.plain(cpu, &cache))]
            {
                prop_assert_eq!(got.len(), want.len());
                for (i, (got, (want, tolerance))) in got.iter().zip(&want).enumerate() {
                    prop_assert!(
                        (got - want).abs() <= *tolerance,
                        "{form}, {} x{}: value {i}: {got}, want {want} within {tolerance}",
                        cpu.level(),
                        cpu.n_threads()
                    );
                }
            }
        }
        Ok(())
    }
}

fn shape(n_heads: usize, [rank, rope_dim, nope_dim, value_dim]: [usize; 4]) -> LatentShape {
    let scale = ((nope_dim + rope_dim) as f32).sqrt().recip();
    LatentShape { n_heads, rank, rope_dim, nope_dim, value_dim, scale }
}

/// Batches of (past, new tokens) a sequence.
fn batches() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0_usize..90, 1_usize..40), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn odd_shapes_match(
        n_heads in 1_usize..14,
        dims in prop::sample::select(&[[32, 16, 20, 24], [40, 8, 5, 7], [7, 2, 3, 1], [96, 32, 64, 32]][..]),
        lens in batches(),
        dtype in prop::sample::select(&[DType::F32, DType::F16, DType::F8E4M3][..]),
        split: bool,
        fast: bool,
        seed: u64,
    ) {
        let (mut rng, precision) = (Rng(seed), if fast { Precision::Fast } else { Precision::F32 });
        Case::new(shape(n_heads, dims), &lens, precision, (dtype, split), &mut rng).check(&mut rng)?;
    }

    #[test]
    fn quantised_weights_match(
        n_heads in 1_usize..5,
        dims in prop::sample::select(&[[32, 16, 32, 24], [160, 8, 96, 150]][..]),
        lens in batches(),
        dtype in prop::sample::select(&[DType::Q8_0, DType::F8E4M3][..]),
        split: bool,
        seed: u64,
    ) {
        let mut rng = Rng(seed);
        Case::new(shape(n_heads, dims), &lens, Precision::Fast, (dtype, split), &mut rng).check(&mut rng)?;
    }

    /// A draft is checked in a batch; it must find what decoding one token at a time does.
    #[test]
    fn absorbed_rows_are_the_same_alone_and_in_a_batch(
        n_heads in 1_usize..40,
        dims in prop::sample::select(&[[32, 16, 20, 24], [64, 32, 32, 32]][..]),
        past in 0_usize..80,
        new in 2_usize..9,
        fast: bool,
        seed: u64,
    ) {
        let (mut rng, precision) = (Rng(seed), if fast { Precision::Fast } else { Precision::F32 });
        let case = Case::new(shape(n_heads, dims), &[(past, new)], precision, (DType::F32, false), &mut rng);
        let (shape, q) = (case.absorbed_shape(), case.absorbed_queries());
        let (q_width, width) = (n_heads * shape.key_dim, n_heads * shape.value_dim);
        for cpu in &mut cpus(precision) {
            let cache = case.written(cpu, &mut rng);
            let mut batch = vec![f32::NAN; new * width];
            let seqs = case.seqs.new_tokens();
            cpu.attention(&mut batch, &q, &seqs, shape, cache.layer());
            for (i, (batch, q)) in batch.chunks_exact(width).zip(q.chunks_exact(q_width)).enumerate() {
                let mut alone = vec![f32::NAN; width];
                let seq = AttentionSeq { n_tokens: 1, first_pos: past + i, ..seqs[0] };
                cpu.attention(&mut alone, q, &[seq], shape, cache.layer());
                prop_assert_eq!(&alone, batch, "token {} at {} x{}", i, cpu.level(), cpu.n_threads());
            }
        }
    }
}

#[test]
fn long_prompts_cross_tiles_and_blocks() {
    let mut rng = Rng(3);
    let lens = [(BLOCK_TOKENS + 1, 530), (0, 3)];
    let case = Case::new(shape(2, [32, 8, 12, 20]), &lens, Precision::Fast, (DType::F32, true), &mut rng);
    case.check(&mut rng).expect("matches");
}
