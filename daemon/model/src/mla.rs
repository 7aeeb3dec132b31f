//! Multi-head latent attention: the KV cache holds one compressed row a token, shared by all heads.
//!
//! ```text
//! q[h]   = W_q x                      or W_qb RMSNorm(W_qa x);        [nope | rope], rope part rotated
//! c      = RMSNorm(first rank of W_kva x);  k_rope = the rest, rotated       the cache's row: [c | k_rope]
//! k[h]   = [W_uk[h] c | k_rope];      v[h] = W_uv[h] c
//! out[h] = softmax(scale q[h] . k[h]) v[h]
//! ```
//! Two forms of the last two lines: *plain* expands keys and values, *absorbed* moves W_uk to the query and W_uv to the
//! result, so that attention reads the rows as they are: q'[h] = W_uk[h]^T q_nope[h], out[h] = W_uv[h] (softmax(..) c).
//! Source: DeepSeek-V2, arXiv:2405.04434, section 2.1.

use std::ops::Range;

use kernels::{AttentionSeq, AttentionShape, Fit, HeadWeights, LatentShape, LatentWeights};
use tensor::reference::yarn_mscale;
use weights::{Hyperparameters, Mla, RopeScaling, TensorIndex, Weights};

use crate::Error;
use crate::layers::{Projection, check_shape, vector};
use crate::pass::Pass;

/// Which form of latent attention a sequence's chunk is computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatentForm {
    /// Whichever multiplies less.
    #[default]
    Auto,
    /// Over the compressed rows.
    Absorbed,
    /// Over expanded keys and values.
    Plain,
}

/// Attention of one layer.
#[derive(Debug)]
pub(crate) struct LatentAttention {
    q: Query,
    kv_a: Projection,
    kv_a_norm: Vec<f32>,
    k_b: PerHead,
    v_b: PerHead,
    o: Projection,
    shape: LatentShape,
    form: LatentForm,
}

/// From the residual stream to the queries.
#[derive(Debug)]
enum Query {
    Direct(Projection),
    LowRank { a: Projection, a_norm: Vec<f32>, b: Projection },
}

/// A matrix for every head within one tensor.
#[derive(Debug)]
struct PerHead {
    tensor: TensorIndex,
    rows_a_head: usize,
    first: usize,
    rows: usize,
    transposed: bool,
}

/// Activations, [n_tokens, width] each.
#[derive(Debug, Default)]
pub(crate) struct LatentBuffers {
    q_a: Vec<f32>,
    q_a_normed: Vec<f32>,
    q: Vec<f32>,
    kv_a: Vec<f32>,
    latent: Vec<f32>,
    /// Absorbed queries, then attended latents.
    q_latent: Vec<f32>,
    attended_latent: Vec<f32>,
    attended: Vec<f32>,
}

impl LatentAttention {
    pub(crate) fn bind(weights: &Weights, layer: usize, form: LatentForm) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let mla = hyper.mla.expect("checked with the hyperparameters");
        let (d, heads) = (hyper.d_model, hyper.n_heads);
        let bind =
            |stage: &str, rows, cols| Projection::bind(weights, &format!("blk.{layer}.{stage}"), rows, cols);
        let norm = |stage: &str, len| vector(weights, &format!("blk.{layer}.{stage}.weight"), len);
        let (k_b, v_b) = PerHead::bind(weights, layer, heads, &mla)?;
        let key_dim = mla.nope_dim + mla.rope_dim;
        Ok(Self {
            q: match mla.q_lora_rank {
                None => Query::Direct(bind("attn_q", heads * key_dim, d)?),
                Some(rank) => Query::LowRank {
                    a: bind("attn_q_a", rank, d)?,
                    a_norm: norm("attn_q_a_norm", rank)?,
                    b: bind("attn_q_b", heads * key_dim, rank)?,
                },
            },
            kv_a: bind("attn_kv_a_mqa", mla.kv_lora_rank + mla.rope_dim, d)?,
            kv_a_norm: norm("attn_kv_a_norm", mla.kv_lora_rank)?,
            k_b,
            v_b,
            o: bind("attn_output", d, heads * mla.v_dim)?,
            shape: LatentShape {
                n_heads: heads,
                rank: mla.kv_lora_rank,
                nope_dim: mla.nope_dim,
                rope_dim: mla.rope_dim,
                value_dim: mla.v_dim,
                scale: softmax_scale(hyper, key_dim),
            },
            form,
        })
    }

    /// out <- attention of x, both [n_tokens, d_model]; the batch's latent rows go to layer `kv_layer` of the cache.
    pub(crate) fn forward(
        &self,
        pass: &mut Pass<'_>,
        kv_layer: usize,
        x: &[f32],
        out: &mut [f32],
        a: &mut LatentBuffers,
    ) {
        let (weights, hyper, n) = (pass.weights, pass.hyper(), pass.n_tokens());
        let (seqs, positions, shape) = (pass.batch.seqs(), &pass.batch.positions, &self.shape);
        a.resize(shape, n);
        self.project(pass, x, a);
        let Pass { cpu, kv, rope, .. } = &mut *pass;
        cpu.rope(&mut a.q, shape.n_heads, (shape.key_dim(), shape.nope_dim), rope, positions);
        cpu.latent_rows(&mut a.latent, &a.kv_a, &self.kv_a_norm, hyper.rms_eps, rope, positions);
        cpu.kv_write(kv.layer_mut(kv_layer), self.absorbed_shape(), &a.latent, None, &seqs);
        for (form, seqs, heads) in self.by_form(&seqs) {
            match form {
                LatentForm::Plain => self.plain(pass, kv_layer, seqs, heads, a),
                _ => self.absorbed(pass, kv_layer, seqs, heads, a),
            }
        }
        pass.cpu.linear(&a.attended, n, &mut [self.o.job(weights, out)]);
    }

    /// q, kv_a <- x.
    fn project(&self, pass: &mut Pass<'_>, x: &[f32], a: &mut LatentBuffers) {
        let (weights, eps, n) = (pass.weights, pass.hyper().rms_eps, pass.n_tokens());
        let kv_a = self.kv_a.job(weights, &mut a.kv_a);
        match &self.q {
            Query::Direct(q) => pass.cpu.linear(x, n, &mut [q.job(weights, &mut a.q), kv_a]),
            Query::LowRank { a: q_a, a_norm, b } => {
                a.q_a.fit(n * a_norm.len());
                a.q_a_normed.fit(n * a_norm.len());
                pass.cpu.linear(x, n, &mut [q_a.job(weights, &mut a.q_a), kv_a]);
                pass.cpu.rms_norm(&mut a.q_a_normed, &a.q_a, a_norm, eps);
                pass.cpu.linear(&a.q_a_normed, n, &mut [b.job(weights, &mut a.q)]);
            }
        }
    }

    /// The `heads` of the tokens of `seqs`, counted over the batch, over the compressed past.
    fn absorbed(
        &self,
        pass: &mut Pass<'_>,
        kv_layer: usize,
        seqs: &[AttentionSeq<'_>],
        heads: Range<usize>,
        a: &mut LatentBuffers,
    ) {
        let (shape, n) = (&self.shape, heads.len());
        let (key_dim, width) = (shape.key_dim(), shape.rank + shape.rope_dim);
        let (k_b, v_b) = (self.k_b.weights(pass.weights), self.v_b.weights(pass.weights));
        let LatentBuffers { q, q_latent, attended_latent, attended, .. } = a;
        let q = &q[heads.start * key_dim..heads.end * key_dim];
        let attended = &mut attended[heads.start * shape.value_dim..heads.end * shape.value_dim];
        q_latent.fit(n * width);
        attended_latent.fit(n * shape.rank);
        let Pass { cpu, kv, .. } = &mut *pass;
        cpu.linear_heads((&mut *q_latent, width), (q, key_dim), shape.n_heads, &k_b, true);
        cpu.copy_tails((&mut *q_latent, width), (q, key_dim), shape.rope_dim);
        cpu.attention(attended_latent, q_latent, seqs, self.absorbed_shape(), kv.layer(kv_layer));
        cpu.linear_heads(
            (attended, shape.value_dim),
            (attended_latent, shape.rank),
            shape.n_heads,
            &v_b,
            false,
        );
    }

    /// The `heads` of the tokens of `seqs`, counted over the batch, over keys and values expanded from the compressed past.
    fn plain(
        &self,
        pass: &mut Pass<'_>,
        kv_layer: usize,
        seqs: &[AttentionSeq<'_>],
        heads: Range<usize>,
        a: &mut LatentBuffers,
    ) {
        let (shape, key_dim) = (&self.shape, self.shape.key_dim());
        let weights =
            LatentWeights { k_b: self.k_b.weights(pass.weights), v_b: self.v_b.weights(pass.weights) };
        let q = &a.q[heads.start * key_dim..heads.end * key_dim];
        let attended = &mut a.attended[heads.start * shape.value_dim..heads.end * shape.value_dim];
        pass.cpu.latent_attention(attended, q, seqs, shape, pass.kv.layer(kv_layer), &weights);
    }

    /// All heads share the cache's rows as keys; the first `rank` of each are the values.
    fn absorbed_shape(&self) -> AttentionShape {
        let &LatentShape { n_heads, rank, rope_dim, scale, .. } = &self.shape;
        AttentionShape { n_heads, n_kv_heads: 1, key_dim: rank + rope_dim, value_dim: rank, scale }
    }

    /// Runs of sequences of one form, with their tokens' heads, counted over the batch.
    fn by_form<'s, 'b>(
        &self,
        seqs: &'s [AttentionSeq<'b>],
    ) -> Vec<(LatentForm, &'s [AttentionSeq<'b>], Range<usize>)> {
        let form = |seq: &AttentionSeq<'_>| self.form_for(seq.n_tokens);
        let mut start = 0;
        let run = |seqs: &'s [AttentionSeq<'b>]| {
            let n_tokens: usize = seqs.iter().map(|seq| seq.n_tokens).sum();
            let heads = start..start + n_tokens * self.shape.n_heads;
            start = heads.end;
            (form(&seqs[0]), seqs, heads)
        };
        seqs.chunk_by(|a, b| form(a) == form(b)).map(run).collect()
    }

    /// A position costs a head `2 rank + rope` products with each token absorbed, `nope + rope + v` plain, and the plain
    /// form `rank (nope + v)` once to expand it: R1's breaks even at 170 tokens.
    fn form_for(&self, n_tokens: usize) -> LatentForm {
        let &LatentShape { rank, nope_dim, value_dim, .. } = &self.shape;
        let expanded = nope_dim + value_dim;
        match self.form {
            LatentForm::Auto if n_tokens * (2 * rank).saturating_sub(expanded) > rank * expanded => {
                LatentForm::Plain
            }
            LatentForm::Auto => LatentForm::Absorbed,
            form => form,
        }
    }
}

/// 1 / sqrt(key_dim), times the square of YaRN's factor where there is one.
pub(crate) fn softmax_scale(hyper: &Hyperparameters, key_dim: usize) -> f32 {
    let mscale = match hyper.rope.scaling {
        Some(RopeScaling::Yarn { factor, mscale_all_dim, .. }) => yarn_mscale(factor, mscale_all_dim),
        _ => 1.0,
    };
    mscale * mscale / (key_dim as f32).sqrt()
}

impl PerHead {
    /// W_uk and W_uv of every head: of the joint `attn_kv_b`, or of `attn_k_b` (stored transposed) and `attn_v_b`.
    fn bind(weights: &Weights, layer: usize, heads: usize, mla: &Mla) -> Result<(Self, Self), Error> {
        let &Mla { kv_lora_rank: rank, nope_dim, v_dim, .. } = mla;
        let name = |stage: &str| format!("blk.{layer}.{stage}.weight");
        let find = |name: &str, want: &[usize]| {
            let tensor = weights.index(name)?;
            check_shape(name, weights.at(tensor).shape, want)?;
            weights.at(tensor).stacked()?;
            Ok::<_, Error>(tensor)
        };
        if weights.tensor(&name("attn_k_b")).is_some() {
            let k = find(&name("attn_k_b"), &[heads, rank, nope_dim])?;
            let v = find(&name("attn_v_b"), &[heads, v_dim, rank])?;
            return Ok((Self::alone(k, rank, true), Self::alone(v, v_dim, false)));
        }
        let rows_a_head = nope_dim + v_dim;
        let tensor = find(&name("attn_kv_b"), &[heads * rows_a_head, rank])?;
        let k = Self { tensor, rows_a_head, first: 0, rows: nope_dim, transposed: false };
        Ok((k, Self { tensor, rows_a_head, first: nope_dim, rows: v_dim, transposed: false }))
    }

    fn alone(tensor: TensorIndex, rows: usize, transposed: bool) -> Self {
        Self { tensor, rows_a_head: rows, first: 0, rows, transposed }
    }

    fn weights<'w>(&self, weights: &'w Weights) -> HeadWeights<'w> {
        let weight = weights.at(self.tensor).stacked().expect("checked when the model was bound");
        let &Self { rows_a_head, first, rows, transposed, .. } = self;
        HeadWeights { weight, rows_a_head, first, rows, transposed }
    }
}

impl LatentBuffers {
    fn resize(&mut self, shape: &LatentShape, n: usize) {
        let &LatentShape { n_heads, rank, nope_dim, rope_dim, value_dim, .. } = shape;
        let heads = n * n_heads;
        self.q.fit(heads * (nope_dim + rope_dim));
        self.kv_a.fit(n * (rank + rope_dim));
        self.latent.fit(n * (rank + rope_dim));
        self.attended.fit(heads * value_dim);
    }
}
