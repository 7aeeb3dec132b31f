//! The paged KV cache: fixed blocks of tokens, handed out to sequences by block table.
//!
//! ```text
//! sequence 0: block table [4, 0, 7]     layer i, keys:   | block 0 | block 1 | ... |
//! sequence 1: block table [2]                            block: [n_kv_heads][BLOCK_TOKENS][key_dim]
//! ```
//! Latent attention keeps one row a token, keys and values in one.

use half::f16;
use kernels::{BLOCK_TOKENS, KvElements, KvElementsMut, KvLayer, KvLayerMut, Precision};
use weights::Hyperparameters;

use crate::SeqId;

/// Values of one layer, keys or values.
#[derive(Debug)]
enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Elements {
    /// Zero pages from the system: memory is taken only as it is written.
    fn zeroed(precision: Precision, n: usize) -> Self {
        match precision {
            Precision::F32 => Self::F32(bytemuck::zeroed_vec(n)),
            Precision::Fast => Self::F16(bytemuck::zeroed_vec(n)),
        }
    }

    fn view(&self) -> KvElements<'_> {
        match self {
            Self::F32(values) => KvElements::F32(values),
            Self::F16(values) => KvElements::F16(values),
        }
    }

    fn view_mut(&mut self) -> KvElementsMut<'_> {
        match self {
            Self::F32(values) => KvElementsMut::F32(values),
            Self::F16(values) => KvElementsMut::F16(values),
        }
    }
}

/// A sequence's blocks, in order of position.
#[derive(Debug, Default)]
struct Sequence {
    open: bool,
    blocks: Vec<u32>,
    len: usize,
}

/// What a token takes in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers with a cache of their own.
    pub n_layers: usize,
    /// Key heads.
    pub n_kv_heads: usize,
    /// Values of a key.
    pub key_dim: usize,
    /// Values of a value; `None` where it is part of the key.
    pub value_dim: Option<usize>,
}

impl KvShape {
    /// The shape a model asks for, with so many draft layers behind its own.
    pub fn of(hyper: &Hyperparameters, n_draft_layers: usize) -> Self {
        let n_layers = hyper.n_layers + n_draft_layers;
        match &hyper.mla {
            Some(mla) => {
                let key_dim = mla.kv_lora_rank + mla.rope_dim;
                Self { n_layers, n_kv_heads: 1, key_dim, value_dim: None }
            }
            None => {
                let &Hyperparameters { n_kv_heads, head_dim, .. } = hyper;
                Self { n_layers, n_kv_heads, key_dim: head_dim, value_dim: Some(head_dim) }
            }
        }
    }

    /// Bytes a token takes over all layers.
    pub fn token_bytes(&self, precision: Precision) -> usize {
        let value_bytes = match precision {
            Precision::F32 => size_of::<f32>(),
            Precision::Fast => size_of::<f16>(),
        };
        value_bytes * self.n_layers * self.n_kv_heads * (self.key_dim + self.value_dim.unwrap_or(0))
    }
}

/// Keys and values of all layers and sequences.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(Elements, Option<Elements>)>,
    free: Vec<u32>,
    n_blocks: usize,
    sequences: Vec<Sequence>,
}

impl KvCache {
    /// A cache of at least `n_tokens` tokens (whole blocks). Pages are touched only when they are written.
    pub fn new(precision: Precision, shape: KvShape, n_tokens: usize) -> Self {
        let n_blocks = n_tokens.div_ceil(BLOCK_TOKENS);
        let elements =
            |width: usize| Elements::zeroed(precision, n_blocks * shape.n_kv_heads * BLOCK_TOKENS * width);
        let layers =
            (0..shape.n_layers).map(|_| (elements(shape.key_dim), shape.value_dim.map(elements))).collect();
        Self { layers, free: (0..n_blocks as u32).rev().collect(), n_blocks, sequences: Vec::new() }
    }

    /// Tokens the cache holds over all sequences.
    pub fn capacity(&self) -> usize {
        self.n_blocks * BLOCK_TOKENS
    }

    /// Tokens reserved by open sequences, in whole blocks.
    pub fn reserved(&self) -> usize {
        (self.n_blocks - self.free.len()) * BLOCK_TOKENS
    }

    /// Opens a sequence with room for `n_tokens`; `None` where too few blocks are free.
    pub fn open(&mut self, n_tokens: usize) -> Option<SeqId> {
        let n = n_tokens.div_ceil(BLOCK_TOKENS);
        if n > self.free.len() {
            return None;
        }
        let blocks = self.free.split_off(self.free.len() - n);
        let sequence = Sequence { open: true, blocks, len: 0 };
        match self.sequences.iter().position(|s| !s.open) {
            Some(idx) => {
                self.sequences[idx] = sequence;
                Some(SeqId(idx))
            }
            None => {
                self.sequences.push(sequence);
                Some(SeqId(self.sequences.len() - 1))
            }
        }
    }

    /// Grows or shrinks a sequence to room for `n_tokens`; false where too few blocks are free.
    pub fn resize(&mut self, seq: SeqId, n_tokens: usize) -> bool {
        let sequence = &mut self.sequences[seq.0];
        assert!(sequence.len <= n_tokens, "sequence {seq} holds {} tokens, not {n_tokens}", sequence.len);
        let n = n_tokens.div_ceil(BLOCK_TOKENS);
        let n_now = sequence.blocks.len();
        if n <= n_now {
            self.free.extend(sequence.blocks.drain(n..));
            return true;
        }
        let Some(first) = self.free.len().checked_sub(n - n_now) else { return false };
        sequence.blocks.extend(self.free.drain(first..));
        true
    }

    /// Returns a sequence's blocks to the pool.
    pub fn close(&mut self, seq: SeqId) {
        let sequence = std::mem::take(&mut self.sequences[seq.0]);
        assert!(sequence.open, "sequence {seq} is closed twice");
        self.free.extend(sequence.blocks);
    }

    /// Tokens written.
    pub fn len(&self, seq: SeqId) -> usize {
        self.sequences[seq.0].len
    }

    /// Tokens reserved for one sequence.
    pub fn room(&self, seq: SeqId) -> usize {
        self.sequences[seq.0].blocks.len() * BLOCK_TOKENS
    }

    /// The blocks of a sequence, in order of position.
    pub fn block_table(&self, seq: SeqId) -> &[u32] {
        &self.sequences[seq.0].blocks
    }

    /// Sets the length: forward after a step, backward for rejected drafts.
    pub fn set_len(&mut self, seq: SeqId, len: usize) {
        assert!(len <= self.room(seq), "sequence {seq}: {len} tokens do not fit its blocks");
        self.sequences[seq.0].len = len;
    }

    /// One layer's keys and values.
    pub fn layer(&self, layer: usize) -> KvLayer<'_> {
        let (k, v) = &self.layers[layer];
        KvLayer { k: k.view(), v: v.as_ref().map(Elements::view) }
    }

    /// One layer's keys and values, to write.
    pub fn layer_mut(&mut self, layer: usize) -> KvLayerMut<'_> {
        let (k, v) = &mut self.layers[layer];
        KvLayerMut { k: k.view_mut(), v: v.as_mut().map(Elements::view_mut) }
    }

    /// Bytes a token takes over all layers, measured.
    pub fn bytes_per_token(&self) -> usize {
        let bytes = |e: &Elements| match e {
            Elements::F32(values) => values.len() * 4,
            Elements::F16(values) => values.len() * 2,
        };
        self.layers.iter().map(|(k, v)| bytes(k) + v.as_ref().map_or(0, bytes)).sum::<usize>()
            / self.capacity().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_when_a_sequence_closes() {
        let shape = KvShape { n_layers: 2, n_kv_heads: 3, key_dim: 16, value_dim: Some(16) };
        let mut kv = KvCache::new(Precision::Fast, shape, 4 * BLOCK_TOKENS);
        let a = kv.open(BLOCK_TOKENS + 1).expect("two of four blocks");
        let b = kv.open(2 * BLOCK_TOKENS).expect("the other two");
        assert_ne!(a, b);
        assert_eq!(kv.open(1), None, "nothing is left");
        assert_eq!(kv.reserved(), kv.capacity());
        kv.close(a);
        let c = kv.open(1).expect("a's blocks are free again");
        assert_eq!(c, a, "the slot is reused");
        assert!(kv.block_table(b).iter().all(|block| !kv.block_table(c).contains(block)));
        assert!(!kv.resize(c, 4 * BLOCK_TOKENS), "b has two of them");
        assert!(kv.resize(c, 2 * BLOCK_TOKENS) && kv.resize(b, 1) && kv.resize(c, 3 * BLOCK_TOKENS));
        assert_eq!((kv.room(b), kv.room(c)), (BLOCK_TOKENS, 3 * BLOCK_TOKENS));
        assert_eq!(kv.bytes_per_token(), 2 * 2 * 3 * 16 * 2);
        assert_eq!(shape.token_bytes(Precision::Fast), kv.bytes_per_token());
    }

    #[test]
    fn a_token_of_r1_takes_70_272_bytes() {
        let shape = KvShape { n_layers: 61, n_kv_heads: 1, key_dim: 512 + 64, value_dim: None };
        let kv = KvCache::new(Precision::Fast, shape, 4 * BLOCK_TOKENS);
        assert_eq!(kv.bytes_per_token(), 70_272);
        assert_eq!(shape.token_bytes(Precision::Fast), 70_272);
    }
}
