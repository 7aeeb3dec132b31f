//! Which tensors an architecture has, and their shapes: checked when a model is opened, so that a layer loop never meets
//! a surprise.

use std::path::Path;

use tensor::DType;

use crate::catalogue::{Catalogue, Entry};
use crate::{Architecture, Error, ExpertKey, ExpertPart, Gating, Hyperparameters, Mla, Moe};

/// Checks every tensor that the layer loop of `hyper`'s architecture reads, and that there is no other: one that is left
/// out would make answers wrong.
pub(crate) fn check(hyper: &Hyperparameters, catalogue: &Catalogue, path: &Path) -> Result<(), Error> {
    let mut check = Check { hyper, catalogue, path, read: vec![false; catalogue.entries().len()] };
    check.has("token_embd.weight", &[hyper.n_vocab, hyper.d_model])?;
    check.has("output_norm.weight", &[hyper.d_model])?;
    if !hyper.tied {
        check.has("output.weight", &[hyper.n_vocab, hyper.d_model])?;
    }
    (0..hyper.n_layers).try_for_each(|layer| check.layer(layer))?;
    (hyper.n_layers..hyper.n_layers + hyper.n_draft_layers).try_for_each(|layer| check.draft(layer))?;
    check.nothing_else()
}

/// Repackaged models leave the draft layers out and the description as it was: without any of their tensors there are
/// none. With some, all are asked for.
pub(crate) fn drop_absent_drafts(hyper: &mut Hyperparameters, catalogue: &Catalogue) {
    let is_draft = |entry: &Entry| block(&entry.name).is_some_and(|(layer, _)| layer >= hyper.n_layers);
    if !catalogue.entries().iter().any(is_draft) {
        hyper.n_draft_layers = 0;
    }
}

struct Check<'a> {
    hyper: &'a Hyperparameters,
    catalogue: &'a Catalogue,
    path: &'a Path,
    /// By catalogue index: the tensor is one the architecture asks for.
    read: Vec<bool>,
}

impl Check<'_> {
    fn layer(&mut self, i: usize) -> Result<(), Error> {
        let d = self.hyper.d_model;
        self.has(&format!("blk.{i}.attn_norm.weight"), &[d])?;
        self.has(&format!("blk.{i}.ffn_norm.weight"), &[d])?;
        let hyper = self.hyper;
        match &hyper.mla {
            Some(mla) => self.latent_attention(i, mla)?,
            None => self.attention(i)?,
        }
        match &hyper.moe {
            Some(moe) if i >= moe.n_dense_layers => self.experts(i, moe),
            _ => self.feed_forward(i, "", hyper.d_ff),
        }
    }

    /// A layer that predicts one token further (multi-token prediction): a layer like the last, the projection that
    /// joins embedding and hidden state, and norms. Embedding and head of its own are copies of the model's, which many
    /// files leave out.
    fn draft(&mut self, i: usize) -> Result<(), Error> {
        let (d, vocab) = (self.hyper.d_model, self.hyper.n_vocab);
        self.layer(i)?;
        self.has(&format!("blk.{i}.nextn.eh_proj.weight"), &[d, 2 * d])?;
        for norm in ["enorm", "hnorm", "shared_head_norm"] {
            self.has(&format!("blk.{i}.nextn.{norm}.weight"), &[d])?;
        }
        for copy in ["embed_tokens", "shared_head_head"] {
            let name = format!("blk.{i}.nextn.{copy}.weight");
            if self.catalogue.find(&name).is_some() {
                self.has(&name, &[vocab, d])?;
            }
        }
        Ok(())
    }

    /// Grouped-query attention; Qwen2 has a bias on Q, K and V.
    fn attention(&mut self, i: usize) -> Result<(), Error> {
        let (d, h) = (self.hyper.d_model, self.hyper);
        let (q, kv) = (h.n_heads * h.head_dim, h.n_kv_heads * h.head_dim);
        for (name, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
            self.has(&format!("blk.{i}.{name}.weight"), &[rows, d])?;
            if h.architecture == Architecture::Qwen2 {
                self.has(&format!("blk.{i}.{name}.bias"), &[rows])?;
            }
        }
        self.has(&format!("blk.{i}.attn_output.weight"), &[d, q])
    }

    /// Multi-head latent attention, with `kv_b` joint (Hugging Face, old GGUF) or split into `k_b` (transposed) and `v_b`.
    fn latent_attention(&mut self, i: usize, mla: &Mla) -> Result<(), Error> {
        let (d, heads) = (self.hyper.d_model, self.hyper.n_heads);
        let (key, rank) = (mla.nope_dim + mla.rope_dim, mla.kv_lora_rank);
        match mla.q_lora_rank {
            None => self.has(&format!("blk.{i}.attn_q.weight"), &[heads * key, d])?,
            Some(q_rank) => {
                self.has(&format!("blk.{i}.attn_q_a.weight"), &[q_rank, d])?;
                self.has(&format!("blk.{i}.attn_q_a_norm.weight"), &[q_rank])?;
                self.has(&format!("blk.{i}.attn_q_b.weight"), &[heads * key, q_rank])?;
            }
        }
        self.has(&format!("blk.{i}.attn_kv_a_mqa.weight"), &[rank + mla.rope_dim, d])?;
        self.has(&format!("blk.{i}.attn_kv_a_norm.weight"), &[rank])?;
        if self.catalogue.find(&format!("blk.{i}.attn_k_b.weight")).is_some() {
            self.has(&format!("blk.{i}.attn_k_b.weight"), &[heads, rank, mla.nope_dim])?;
            self.has(&format!("blk.{i}.attn_v_b.weight"), &[heads, mla.v_dim, rank])?;
        } else {
            self.has(&format!("blk.{i}.attn_kv_b.weight"), &[heads * (mla.nope_dim + mla.v_dim), rank])?;
        }
        self.has(&format!("blk.{i}.attn_output.weight"), &[d, heads * mla.v_dim])
    }

    fn experts(&mut self, i: usize, moe: &Moe) -> Result<(), Error> {
        let (d, width) = (self.hyper.d_model, moe.d_expert);
        self.has(&format!("blk.{i}.ffn_gate_inp.weight"), &[moe.n_experts, d])?;
        for expert in 0..moe.n_experts as u32 {
            let key = ExpertKey { layer: i as u32, expert };
            self.has(&key.tensor_name(ExpertPart::Gate), &[width, d])?;
            self.has(&key.tensor_name(ExpertPart::Up), &[width, d])?;
            self.has(&key.tensor_name(ExpertPart::Down), &[d, width])?;
        }
        if moe.gating == Gating::Sigmoid {
            self.has(&format!("blk.{i}.exp_probs_b.bias"), &[moe.n_experts])?;
        }
        if moe.n_shared > 0 {
            self.feed_forward(i, "_shexp", moe.n_shared * width)?;
        }
        Ok(())
    }

    fn feed_forward(&mut self, i: usize, suffix: &str, width: usize) -> Result<(), Error> {
        let d = self.hyper.d_model;
        self.has(&format!("blk.{i}.ffn_gate{suffix}.weight"), &[width, d])?;
        self.has(&format!("blk.{i}.ffn_up{suffix}.weight"), &[width, d])?;
        self.has(&format!("blk.{i}.ffn_down{suffix}.weight"), &[d, width])
    }

    fn has(&mut self, name: &str, want: &[usize]) -> Result<(), Error> {
        let path = || self.path.to_path_buf();
        let Some(index) = self.catalogue.find(name) else {
            return Err(Error::MissingTensor { path: path(), tensor: name.into() });
        };
        let entry = &self.catalogue.entries()[index];
        if entry.dtype == DType::I32 {
            let (tensor, dtype) = (entry.published.clone(), entry.dtype.name().into());
            return Err(Error::UnsupportedDtype { path: path(), tensor, dtype });
        }
        if entry.shape != want {
            let (tensor, got, want) = (entry.published.clone(), entry.shape.clone(), want.to_vec());
            return Err(Error::TensorShape { path: path(), tensor, got, want });
        }
        self.read[index] = true;
        Ok(())
    }

    /// Every tensor is either asked for or an optional companion of one that is.
    fn nothing_else(&self) -> Result<(), Error> {
        let unread = self.catalogue.entries().iter().zip(&self.read).filter(|(_, read)| !**read);
        match unread.map(|(entry, _)| entry).find(|entry| !self.is_optional(entry)) {
            Some(odd) => Err(Error::UnmappedTensor { path: self.path.into(), tensor: odd.published.clone() }),
            None => Ok(()),
        }
    }

    fn is_optional(&self, entry: &Entry) -> bool {
        let name = entry.name.as_str();
        let is_read = |name: &str| self.catalogue.find(name).is_some_and(|i| self.read[i]);
        if let Some(weight) = name.strip_suffix("_scale_inv") {
            return self.catalogue.get(weight).is_some_and(|weight| weight.scale.is_some());
        }
        match block(name) {
            // Files of the time when the joint matrix was being split have it both ways.
            Some((layer, "attn_kv_b.weight")) => is_read(&format!("blk.{layer}.attn_k_b.weight")),
            Some(_) => {
                let weight = name.strip_suffix(".bias").map(|stem| format!("{stem}.weight"));
                let weight =
                    weight.filter(|weight| is_read(weight)).and_then(|weight| self.catalogue.get(&weight));
                weight.is_some_and(|weight| entry.shape == weight.shape[..1])
            }
            None => name == "rope_freqs.weight" || (name == "output.weight" && self.hyper.tied),
        }
    }
}

/// Splits `blk.N.rest`.
fn block(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}
