//! Multi-token prediction: the layer behind the last, which guesses the token after the next.
//!
//! ```text
//! position i:   h'[i] = W_eh [RMSNorm(embedding(token[i + 1])) | RMSNorm(h[i])]       h: the model's output, normed
//!               h''   = layer(h')                                                     with a KV cache of its own
//!               logits of token i + 2 = head(RMSNorm(h''))
//! ```
//! The layer has to see every position once. A position's row can be computed when the token after it is known, so the
//! outputs of a step are *held* until the next step, or [`Draft::guess`], brings it.
//! Source: DeepSeek-V3, arXiv:2412.19437, section 2.2.

use std::collections::BTreeMap;

use kernels::Fit;
use weights::Weights;

use crate::batch::{Batch, rows_of};
use crate::deepseek::{Layer, Stages};
use crate::forward::{Chunk, SeqId};
use crate::kv::KvCache;
use crate::layers::{Ends, Projection, vector};
use crate::mla::LatentForm;
use crate::pass::Pass;
use crate::{Error, TokenId};

/// The draft layer and what it has seen.
#[derive(Debug)]
pub(crate) struct Draft {
    embedding: Option<Projection>,
    enorm: Vec<f32>,
    hnorm: Vec<f32>,
    eh_proj: Projection,
    layer: Layer,
    norm: Vec<f32>,
    head: Option<Projection>,
    /// Layer of the KV cache.
    kv_layer: usize,
    held: BTreeMap<SeqId, Held>,
    /// [n_tokens, 2 d_model]: embeddings and hidden states, normed.
    pairs: Vec<f32>,
    embedded: Vec<f32>,
    hidden: Vec<f32>,
    normed: Vec<f32>,
}

/// Positions of one sequence that the layer has not seen: those from `first` on.
#[derive(Debug, Default)]
struct Held {
    first: usize,
    tokens: Vec<TokenId>,
    /// The model's output, normed: [tokens.len(), d_model].
    hidden: Vec<f32>,
}

impl Draft {
    pub(crate) fn bind(weights: &Weights, form: LatentForm) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let (layer, d, vocab) = (hyper.n_layers, hyper.d_model, hyper.n_vocab);
        let name = |stage: &str| format!("blk.{layer}.nextn.{stage}");
        let norm = |stage: &str| vector(weights, &format!("{}.weight", name(stage)), d);
        Ok(Self {
            embedding: Projection::bind_optional(weights, &name("embed_tokens"), vocab, d)?,
            enorm: norm("enorm")?,
            hnorm: norm("hnorm")?,
            eh_proj: Projection::bind(weights, &name("eh_proj"), d, 2 * d)?,
            layer: Layer::bind(weights, layer, form)?,
            norm: norm("shared_head_norm")?,
            head: Projection::bind_optional(weights, &name("shared_head_head"), vocab, d)?,
            kv_layer: layer,
            held: BTreeMap::new(),
            pairs: Vec::new(),
            embedded: Vec::new(),
            hidden: Vec::new(),
            normed: Vec::new(),
        })
    }

    /// Holds the outputs `hidden` [n_tokens, d_model] of a step, normed already.
    pub(crate) fn hold(&mut self, batch: &Batch, chunks: &[Chunk<'_>], hidden: &[f32]) {
        let d = self.norm.len();
        for (chunk, rows) in chunks.iter().zip(batch.rows()) {
            let held = self.held.entry(chunk.seq).or_default();
            if held.tokens.is_empty() {
                held.first = batch.positions.get(rows.start).map_or(held.first, |&pos| pos as usize);
            }
            held.tokens.extend_from_slice(chunk.tokens);
            held.hidden.extend_from_slice(&hidden[rows.start * d..rows.end * d]);
        }
    }

    /// Forgets positions from `n_tokens` on: their tokens were not kept.
    ///
    /// The row of position `n_tokens - 1` may have been computed with a token that is gone; it stays, as the output it was
    /// made from is gone too. It makes guesses worse, never answers.
    pub(crate) fn truncate(&mut self, seq: SeqId, n_tokens: usize) {
        let d = self.norm.len();
        if let Some(held) = self.held.get_mut(&seq) {
            let n = n_tokens.saturating_sub(held.first).min(held.tokens.len());
            held.tokens.truncate(n);
            held.hidden.truncate(n * d);
        }
    }

    pub(crate) fn close(&mut self, seq: SeqId) {
        self.held.remove(&seq);
    }

    /// Takes all that is held of some sequences, each followed by the token chosen to come next, as a batch and its hidden
    /// states.
    pub(crate) fn take(&mut self, kv: &KvCache, next: &[(SeqId, TokenId)]) -> (Batch, Vec<f32>) {
        let (mut batch, mut hidden) = (Batch::default(), Vec::new());
        for &(seq, next) in next {
            let held = self.held.remove(&seq).unwrap_or_default();
            let following: Vec<TokenId> = held.tokens.iter().skip(1).copied().chain([next]).collect();
            batch.push(kv, seq, held.first, &following[..held.tokens.len()]);
            hidden.extend_from_slice(&held.hidden);
        }
        (batch, hidden)
    }

    /// What is held of the chunks' sequences is due: the chunks' first tokens follow it.
    pub(crate) fn due(&mut self, kv: &KvCache, chunks: &[Chunk<'_>]) -> Option<(Batch, Vec<f32>)> {
        let next = |chunk: &Chunk<'_>| {
            let held = self.held.get(&chunk.seq).is_some_and(|held| !held.tokens.is_empty());
            chunk.tokens.first().filter(|_| held).map(|&token| (chunk.seq, token))
        };
        let next: Vec<_> = chunks.iter().filter_map(next).collect();
        (!next.is_empty()).then(|| self.take(kv, &next))
    }

    /// Runs the layer over a batch of following tokens and the hidden states before them; [`outputs`](Self::outputs) has the
    /// results.
    pub(crate) fn forward(&mut self, pass: &mut Pass<'_>, stages: &mut Stages, ends: &Ends, hidden: &[f32]) {
        let (d, n, eps) = (self.norm.len(), pass.n_tokens(), pass.hyper().rms_eps);
        let embedding = self.embedding.as_ref().unwrap_or(&ends.embedding).matrix(pass.weights);
        for buffer in [&mut self.embedded, &mut self.hidden, &mut self.normed] {
            buffer.fit(n * d);
        }
        self.pairs.fit(2 * n * d);
        pass.cpu.embed(&mut self.hidden, &embedding, &pass.batch.ids);
        pass.cpu.rms_norm(&mut self.embedded, &self.hidden, &self.enorm, eps);
        pass.cpu.rms_norm(&mut self.normed, hidden, &self.hnorm, eps);
        for (i, pair) in self.pairs.chunks_exact_mut(2 * d).enumerate() {
            pair[..d].copy_from_slice(&self.embedded[i * d..(i + 1) * d]);
            pair[d..].copy_from_slice(&self.normed[i * d..(i + 1) * d]);
        }
        pass.cpu.linear(&self.pairs, n, &mut [self.eh_proj.job(pass.weights, &mut self.hidden)]);
        self.layer.forward(pass, self.kv_layer, &mut self.hidden, stages, None);
        pass.cpu.rms_norm(&mut self.normed, &self.hidden, &self.norm, eps);
    }

    /// Some rows of the last pass's output, normed: [rows.len(), d_model].
    pub(crate) fn outputs(&self, rows: &[usize]) -> Vec<f32> {
        rows_of(&self.normed, self.norm.len(), rows)
    }

    /// The layer's own head, or the model's.
    pub(crate) fn head<'h>(&'h self, ends: &'h Ends) -> &'h Projection {
        self.head.as_ref().unwrap_or(&ends.head)
    }
}
