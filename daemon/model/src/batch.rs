//! The tokens of one pass through the layers, sequence after sequence.

use std::ops::Range;

use kernels::AttentionSeq;

use crate::TokenId;
use crate::forward::{Chunk, LogitsOf, SeqId};
use crate::kv::KvCache;

/// Tokens of some sequences at their positions, and where each sequence's past lies.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// All tokens, one sequence's after another's.
    pub(crate) ids: Vec<TokenId>,
    /// Position of each in its sequence.
    pub(crate) positions: Vec<u32>,
    spans: Vec<Span>,
}

/// One sequence's share of a batch.
#[derive(Debug)]
struct Span {
    /// Rows of the batch.
    rows: Range<usize>,
    /// Position of the first.
    first_pos: usize,
    block_table: Vec<u32>,
}

impl Span {
    fn seq(&self) -> AttentionSeq<'_> {
        let &Self { ref rows, first_pos, ref block_table } = self;
        AttentionSeq { n_tokens: rows.len(), first_pos, block_table }
    }
}

impl Batch {
    /// The chunks of a step, each behind what its sequence holds.
    pub(crate) fn of_chunks(kv: &KvCache, chunks: &[Chunk<'_>]) -> Self {
        let mut batch = Self::default();
        for chunk in chunks {
            batch.push(kv, chunk.seq, kv.len(chunk.seq), chunk.tokens);
        }
        batch
    }

    /// Adds a sequence's tokens from position `first_pos` on.
    pub(crate) fn push(&mut self, kv: &KvCache, seq: SeqId, first_pos: usize, ids: &[TokenId]) {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.positions.extend((first_pos as u32..).take(ids.len()));
        let block_table = kv.block_table(seq).to_vec();
        self.spans.push(Span { rows: start..self.ids.len(), first_pos, block_table });
    }

    /// Tokens in all.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Rows of each sequence, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        self.spans.iter().map(|span| span.rows.clone())
    }

    /// What attention has to know of the sequences.
    pub(crate) fn seqs(&self) -> Vec<AttentionSeq<'_>> {
        self.spans.iter().map(Span::seq).collect()
    }

    /// Rows that logits are wanted for.
    pub(crate) fn wanted_rows(&self, chunks: &[Chunk<'_>]) -> Vec<usize> {
        let wanted = |(rows, chunk): (Range<usize>, &Chunk<'_>)| match chunk.logits {
            LogitsOf::None => rows.end..rows.end,
            LogitsOf::Last => rows.end - rows.len().min(1)..rows.end,
            LogitsOf::All | LogitsOf::Best => rows,
        };
        self.rows().zip(chunks).flat_map(wanted).collect()
    }
}

/// Some rows of `x` [.., width].
pub(crate) fn rows_of(x: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| &x[row * width..(row + 1) * width]).copied().collect()
}
