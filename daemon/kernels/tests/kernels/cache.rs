//! One layer's KV cache, and sequences whose blocks lie scattered in it.

use half::f16;
use kernels::{AttentionSeq, BLOCK_TOKENS, KvElements, KvElementsMut, KvLayer, KvLayerMut, Precision};

use crate::inputs::Rng;

/// Keys, or values, of all blocks.
enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Elements {
    /// Noise: what was never written must not matter.
    fn new(precision: Precision, n: usize, rng: &mut Rng) -> Self {
        match precision {
            Precision::F32 => Self::F32(rng.floats(n)),
            Precision::Fast => Self::F16(rng.floats(n).into_iter().map(f16::from_f32).collect()),
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

/// A layer's cache; without values it is a latent layer's.
pub(crate) struct Cache {
    k: Elements,
    v: Option<Elements>,
}

impl Cache {
    /// Room for `n_blocks` blocks of rows of `key` and `value` numbers, over all KV heads.
    pub(crate) fn new(
        precision: Precision,
        n_blocks: usize,
        key: usize,
        value: Option<usize>,
        rng: &mut Rng,
    ) -> Self {
        let mut elements = |width| Elements::new(precision, n_blocks * BLOCK_TOKENS * width, rng);
        Self { k: elements(key), v: value.map(elements) }
    }

    pub(crate) fn layer(&self) -> KvLayer<'_> {
        KvLayer { k: self.k.view(), v: self.v.as_ref().map(Elements::view) }
    }

    pub(crate) fn layer_mut(&mut self) -> KvLayerMut<'_> {
        KvLayerMut { k: self.k.view_mut(), v: self.v.as_mut().map(Elements::view_mut) }
    }
}

/// What a cache of this precision keeps of numbers.
pub(crate) fn stored(precision: Precision, mut values: Vec<f32>) -> Vec<f32> {
    if precision == Precision::Fast {
        values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
    }
    values
}

/// Sequences and their places in the cache.
pub(crate) struct Sequences {
    /// (past, new tokens) a sequence.
    pub(crate) lens: Vec<(usize, usize)>,
    tables: Vec<Vec<u32>>,
    pub(crate) n_blocks: usize,
}

impl Sequences {
    pub(crate) fn new(lens: &[(usize, usize)], rng: &mut Rng) -> Self {
        let blocks = |(past, new): &(usize, usize)| (past + new).div_ceil(BLOCK_TOKENS);
        let n_blocks: usize = lens.iter().map(blocks).sum::<usize>() + 2;
        let mut free: Vec<u32> = (0..n_blocks as u32).collect();
        free.sort_by_cached_key(|_| rng.next());
        let tables = lens.iter().map(|seq| free.split_off(free.len() - blocks(seq))).collect();
        Self { lens: lens.to_vec(), tables, n_blocks }
    }

    /// New tokens of all sequences.
    pub(crate) fn n_new(&self) -> usize {
        self.lens.iter().map(|(_, new)| new).sum()
    }

    /// The step that writes all the past.
    pub(crate) fn past(&self) -> Vec<AttentionSeq<'_>> {
        self.seqs(|past, _| (past, 0))
    }

    /// The step of the new tokens.
    pub(crate) fn new_tokens(&self) -> Vec<AttentionSeq<'_>> {
        self.seqs(|past, new| (new, past))
    }

    fn seqs(&self, step: impl Fn(usize, usize) -> (usize, usize)) -> Vec<AttentionSeq<'_>> {
        let seq = |(&(past, new), block_table): (&(usize, usize), _)| {
            let (n_tokens, first_pos) = step(past, new);
            AttentionSeq { n_tokens, first_pos, block_table }
        };
        self.lens.iter().zip(&self.tables).map(|(lens, table)| seq((lens, table.as_slice()))).collect()
    }
}

/// The rows of a step, [n_tokens, width], of all rows [past + new, width] of every sequence.
pub(crate) fn rows_of(all: &[Vec<f32>], seqs: &[AttentionSeq<'_>], width: usize) -> Vec<f32> {
    let of_seq = |(rows, seq): (&Vec<f32>, &AttentionSeq<'_>)| {
        rows[seq.first_pos * width..][..seq.n_tokens * width].to_vec()
    };
    all.iter().zip(seqs).flat_map(of_seq).collect()
}
