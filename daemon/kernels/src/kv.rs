//! The paged KV cache's layout: blocks of 32 tokens, one table of blocks a sequence.
//!
//! ```text
//! one layer, keys or values: | block 0 | block 1 | ...
//! a block:                   [n_kv_heads][BLOCK_TOKENS][key_dim or value_dim], f32 or f16
//! position p of a sequence:  block block_table[p / 32], row p % 32 of every head
//! ```
//!
//! Multi-head latent attention has one row a token for all heads, [c (rank) | k_rope (rope_dim)], and no values: they
//! are the beginning of the row.

use half::f16;

use crate::attention::AttentionSeq;
use crate::level::{Isa, Kernel};
use crate::simd::Simd;

/// Tokens in a block of the KV cache.
pub const BLOCK_TOKENS: usize = 32;

/// Keys or values of one layer, all blocks.
#[derive(Clone, Copy, Debug)]
pub enum KvElements<'a> {
    /// For [`Precision::F32`](crate::Precision::F32).
    F32(&'a [f32]),
    /// For [`Precision::Fast`](crate::Precision::Fast).
    F16(&'a [f16]),
}

/// Keys or values of one layer, to write.
#[derive(Debug)]
pub enum KvElementsMut<'a> {
    /// For [`Precision::F32`](crate::Precision::F32).
    F32(&'a mut [f32]),
    /// For [`Precision::Fast`](crate::Precision::Fast).
    F16(&'a mut [f16]),
}

/// One layer's part of the cache.
#[derive(Clone, Copy, Debug)]
pub struct KvLayer<'a> {
    /// Keys.
    pub k: KvElements<'a>,
    /// Values; `None` where they are the first `value_dim` of each key's row (latent attention).
    pub v: Option<KvElements<'a>>,
}

/// One layer's part of the cache, to write.
#[derive(Debug)]
pub struct KvLayerMut<'a> {
    /// Keys.
    pub k: KvElementsMut<'a>,
    /// Values; `None` where they are the first `value_dim` of each key's row (latent attention).
    pub v: Option<KvElementsMut<'a>>,
}

/// Rows of one layer's keys or values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvRows {
    pub(crate) n_kv_heads: usize,
    /// Values in a row: key_dim or value_dim.
    pub(crate) width: usize,
}

impl KvRows {
    /// Index of the first value of (`pos`, `kv_head`) in a layer's elements.
    pub(crate) fn offset(self, block_table: &[u32], pos: usize, kv_head: usize) -> usize {
        let block = block_table[pos / BLOCK_TOKENS] as usize;
        ((block * self.n_kv_heads + kv_head) * BLOCK_TOKENS + pos % BLOCK_TOKENS) * self.width
    }

    /// The rows of `n` positions from `start` on, all of one block.
    pub(crate) fn block<'a, E>(
        self,
        elements: &'a [E],
        block_table: &[u32],
        start: usize,
        kv_head: usize,
        n: usize,
    ) -> &'a [E] {
        let at = self.offset(block_table, start, kv_head);
        &elements[at..at + n * self.width]
    }
}

/// Stores rows [n_tokens, n_kv_heads, width] of all sequences at their positions.
pub(crate) fn write(
    isa: Isa,
    kv: KvElementsMut<'_>,
    rows: &[f32],
    seqs: &[AttentionSeq<'_>],
    layout: KvRows,
) {
    let mut rows = rows.chunks_exact(layout.width);
    let places = seqs.iter().flat_map(|seq| {
        (seq.first_pos..seq.first_pos + seq.n_tokens).flat_map(move |pos| {
            (0..layout.n_kv_heads).map(move |head| layout.offset(seq.block_table, pos, head))
        })
    });
    match kv {
        KvElementsMut::F32(elements) => {
            for (at, row) in places.zip(&mut rows) {
                elements[at..at + layout.width].copy_from_slice(row);
            }
        }
        KvElementsMut::F16(elements) => {
            for (at, row) in places.zip(&mut rows) {
                isa.run(ToF16 { from: row, to: &mut elements[at..at + layout.width] });
            }
        }
    }
}

/// Rounds to half floats.
struct ToF16<'a> {
    from: &'a [f32],
    to: &'a mut [f16],
}

impl Kernel for ToF16<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(unsafe_code, reason = "vector loads and stores over chunks of exact length")]
    fn run<S: Simd>(self, s: S) {
        let (from, from_tail) = self.from.split_at(self.from.len() - self.from.len() % S::LANES);
        let (to, to_tail) = self.to.split_at_mut(from.len());
        for (a, b) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
            // SAFETY: both chunks hold LANES values.
            unsafe { s.store_f16(b.as_mut_ptr(), s.load(a.as_ptr())) };
        }
        for (a, b) in from_tail.iter().zip(to_tail) {
            *b = f16::from_f32(*a);
        }
    }
}
