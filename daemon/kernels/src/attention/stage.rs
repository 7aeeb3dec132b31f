//! The executor's stages of attention: what is stored, and both ways of attending to it.

use super::latent::{self, LatentAttention, LatentShape, LatentWeights};
use super::{Attention, AttentionSeq, AttentionShape, Out, Plan};
use crate::Cpu;
use crate::kv::{self, KvLayer, KvLayerMut};

/// Products of a query and a key below which attention is not worth a parallel region.
const SERIAL_SCORES: usize = 256;

impl Cpu {
    /// Stores keys [n_tokens, n_kv_heads, key_dim] and values [n_tokens, n_kv_heads, value_dim] of all sequences at
    /// their positions; a latent layer has no values.
    ///
    /// # Panics
    /// Lengths differ, values are given or missing, or a block table is too short: a programmer's error.
    pub fn kv_write(
        &mut self,
        kv: KvLayerMut<'_>,
        shape: AttentionShape,
        k: &[f32],
        v: Option<&[f32]>,
        seqs: &[AttentionSeq<'_>],
    ) {
        let n_rows = shape.n_kv_heads * seqs.iter().map(|seq| seq.n_tokens).sum::<usize>();
        assert_eq!(k.len(), n_rows * shape.key_dim, "k is [n_tokens, n_kv_heads, key_dim]");
        kv::write(self.isa, kv.k, k, seqs, shape.keys());
        match (kv.v, v) {
            (None, None) => {}
            (Some(kv), Some(v)) => {
                assert_eq!(v.len(), n_rows * shape.value_dim, "v is [n_tokens, n_kv_heads, value_dim]");
                kv::write(self.isa, kv, v, seqs, shape.values());
            }
            _ => panic!("values for a layer that has them"),
        }
    }

    /// Causal attention, grouped-query or latent. `q`: [n_tokens, n_heads, key_dim], `out`: [n_tokens, n_heads,
    /// value_dim], the sequences' rows one after another; every row sees its own position and those before, which
    /// [`kv_write`](Cpu::kv_write) has stored.
    ///
    /// Over a latent layer (no values) this is the absorbed form of multi-head latent attention: with
    /// q' = [W_uk^T q_nope | q_rope] and one KV head, `key_dim` = rank + rope_dim and `value_dim` = rank, every row gives
    /// sum_t softmax(scale q' . row[t]) c[t], to which the head's W_uv is applied afterwards.
    /// Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
    ///
    /// Rows over a latent layer are the same to the bit whichever tokens and sequences are computed beside them; with keys
    /// and values of their own they are as long as a sequence has at most [`EXACT_ROWS`](crate::EXACT_ROWS) tokens in the step.
    ///
    /// # Panics
    /// Lengths differ, or a block table is too short: a programmer's error.
    pub fn attention(
        &mut self,
        out: &mut [f32],
        q: &[f32],
        seqs: &[AttentionSeq<'_>],
        shape: AttentionShape,
        kv: KvLayer<'_>,
    ) {
        let n_rows = shape.n_heads * seqs.iter().map(|seq| seq.n_tokens).sum::<usize>();
        assert_eq!(q.len(), n_rows * shape.key_dim, "q is [n_tokens, n_heads, key_dim]");
        assert_eq!(out.len(), n_rows * shape.value_dim, "out is [n_tokens, n_heads, value_dim]");
        assert!(shape.n_heads.is_multiple_of(shape.n_kv_heads), "every KV head serves a whole group");
        assert!(kv.v.is_some() || shape.value_dim <= shape.key_dim, "values are a part of the keys");
        let plan = Plan::new(seqs, &shape, self.pool.n_threads());
        let scores: usize = seqs.iter().map(|seq| seq.n_tokens * (seq.first_pos + seq.n_tokens)).sum();
        let grain = if scores * shape.n_heads < SERIAL_SCORES { plan.n_tasks().max(1) } else { 1 };
        let (isa, out) = (self.isa, Out::new(out));
        self.pool.for_each_chunk_with(&mut self.scratch, plan.n_tasks(), grain, |scratch, range| {
            for idx in range {
                let scratch = &mut scratch.attention;
                isa.run(Attention { out, q, seqs, shape: &shape, kv, plan: &plan, idx, scratch });
            }
        });
    }

    /// Causal multi-head latent attention in its plain form, for many tokens at once: what
    /// [`attention`](Cpu::attention) computes of absorbed queries and W_uv afterwards, up to rounding. `q`:
    /// [n_tokens, n_heads, nope_dim + rope_dim], `out`: [n_tokens, n_heads, value_dim]; `kv`: a latent layer of rows
    /// [c (rank) | k_rope (rope_dim)]. Each head's keys and values are expanded from them on the way:
    ///
    /// ```text
    /// k[t] = [W_uk c[t] | k_rope[t]],  v[t] = W_uv c[t]
    /// ```
    /// Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.
    ///
    /// # Panics
    /// Lengths or shapes differ, the layer has values of its own, or a block table is too short: a programmer's error.
    pub fn latent_attention(
        &mut self,
        out: &mut [f32],
        q: &[f32],
        seqs: &[AttentionSeq<'_>],
        shape: &LatentShape,
        kv: KvLayer<'_>,
        weights: &LatentWeights<'_>,
    ) {
        let n_rows = shape.n_heads * seqs.iter().map(|seq| seq.n_tokens).sum::<usize>();
        assert_eq!(q.len(), n_rows * shape.key_dim(), "q is [n_tokens, n_heads, nope_dim + rope_dim]");
        assert_eq!(out.len(), n_rows * shape.value_dim, "out is [n_tokens, n_heads, value_dim]");
        assert!(weights.fit(shape), "weights of this shape");
        assert!(kv.v.is_none(), "a latent layer");
        let (isa, latents, out) = (self.isa, kv.k, Out::new(out));
        let plan = latent::plan(seqs, shape);
        self.pool.for_each_chunk_with(&mut self.scratch, plan.n_tasks(), 1, |scratch, range| {
            for idx in range {
                let scratch = &mut scratch.attention;
                isa.run(LatentAttention { out, q, seqs, shape, weights, latents, plan: &plan, idx, scratch });
            }
        });
    }
}
