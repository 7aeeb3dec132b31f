//! How a part of a record is stored: as it is, or split and coded.
//!
//! Trained weights are near normal: their exponents crowd on a few values, their signs and mantissas are noise. So the
//! exponents are set apart and Huffman-coded; all else stays as it is.
//!
//! ```text
//! BF16     | s | e e e e e e e e | m m m m m m m |     8 bits as they are, 8 that take some 2.6
//! FP8      | s | e e e e | m m m |                     4 bits as they are, 4 that take some 2.7
//!
//! part     | chunk | chunk | ...                       of CHUNK_VALUES values, the last of the rest
//! chunk    | u32 | signs and mantissas | kind | exponents |                   the u32 counts the bytes behind it
//! plane    BF16: a byte a value. FP8: a nibble a value, values of the chunk's first half in low nibbles, of its second
//!          in high ones. The halves are cut at the second stream's end.
//! kind 0   exponents as they are, a plane like the other
//! kind 1   | lengths of codes, a nibble a symbol | u32 x 3 | stream 0 | stream 1 | stream 2 | stream 3 | 8 zeros |
//!          the u32s are the first three streams' bytes; each stream has a quarter of the values, rounded up; the last
//!          has the rest
//! stream   codes one after another, from a byte's lowest bit up; canonical, of at most 11 bits, their bits reversed
//! ```
//!
//! All numbers are little-endian. Chunks are independent of each other. What is read is untrusted: sizes follow from the
//! tensor's shape, which the manifest's checks have tied to the file's size, and nothing else is allocated; wrong bytes
//! give a [`Fault`] or other values, which the record's hash tells.
//!
//! `cargo run --example codings -p weights` measures this coder and zstd on made-up and on real weights.
//!
//! Start reading at [`Coding`], then [`decode_part`](Decoder::decode_part).

mod huffman;
mod planes;
mod streams;

use serde::{Deserialize, Serialize};
use tensor::DType;

use planes::Float;
use streams::Streams;

/// Values of a chunk: what a code adapts to, and what an importing core holds three times.
const CHUNK_VALUES: usize = 256 << 10;
/// Bytes of a chunk's count.
const COUNT_BYTES: usize = 4;
/// Of the exponents.
const PLAIN: u8 = 0;
const HUFFMAN: u8 = 1;
/// What a chunk may take beyond its values: count, kind, and the halves' rounding.
const CHUNK_EXTRA: u64 = 16;

/// How a part is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// As it is.
    #[default]
    Raw,
    /// Exponents apart from signs and mantissas, and Huffman-coded; of BF16 and FP8 only.
    Split,
}

impl Coding {
    /// Whether tensors of `dtype` can be stored so.
    pub fn fits(self, dtype: DType) -> bool {
        self == Self::Raw || Float::of(dtype).is_some()
    }

    /// The fewest and the most bytes that `bytes` of `dtype` may take: what a manifest says must lie between.
    pub(super) fn bounds(self, dtype: DType, bytes: u64) -> (u64, u64) {
        match Float::of(dtype).filter(|_| self == Self::Split) {
            None => (bytes, bytes),
            Some(float) => {
                let chunks = bytes.div_ceil((CHUNK_VALUES * float.value_bytes()) as u64);
                (bytes / 2, bytes.saturating_add(chunks.saturating_mul(CHUNK_EXTRA)))
            }
        }
    }
}

/// What is wrong with a coded part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Of the chunk, from the start of the part's stored bytes.
    pub(crate) at: usize,
    /// The rule it breaks.
    pub(crate) what: &'static str,
}

/// Decodes parts; keeps its tables and buffers, some 60 KiB, between them.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    streams: Streams,
}

impl Decoder {
    /// Fills `out`, a part of values of `dtype`, from the beginning of `stored`; returns how many bytes of it the part
    /// took.
    ///
    /// # Panics
    /// The coding doesn't fit the type: the manifest's checks refuse that.
    pub(crate) fn decode_part(
        &mut self,
        coding: Coding,
        dtype: DType,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        if coding == Coding::Raw {
            let fault = Fault { at: 0, what: "the stored bytes end within it" };
            out.copy_from_slice(stored.get(..out.len()).ok_or(fault)?);
            return Ok(out.len());
        }
        let float = Float::of(dtype).expect("only parts of BF16 and FP8 are coded");
        let mut at = 0;
        for out in out.chunks_mut(CHUNK_VALUES * float.value_bytes()) {
            let fault = |what| Fault { at, what };
            let chunk = first_chunk(&stored[at..]).ok_or(fault("the stored bytes end within a chunk"))?;
            self.decode_chunk(float, chunk, out).map_err(fault)?;
            at += COUNT_BYTES + chunk.len();
        }
        Ok(at)
    }

    fn decode_chunk(&mut self, float: Float, chunk: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
        let short = "a chunk is too short for its values";
        let n = out.len() / float.value_bytes();
        let (plane, rest) = chunk.split_at_checked(float.plane_bytes(n)).ok_or(short)?;
        let (&kind, rest) = rest.split_first().ok_or(short)?;
        match kind {
            PLAIN => {
                let exponents = rest.get(..float.exponent_bytes(n)).ok_or(short)?;
                planes::join_plain(float, plane, exponents, out);
                Ok(())
            }
            HUFFMAN => self.streams.decode(float, plane, rest, out),
            _ => Err("a chunk is of an unknown kind"),
        }
    }
}

/// The first chunk, without its count.
fn first_chunk(stored: &[u8]) -> Option<&[u8]> {
    let (count, rest) = stored.split_first_chunk::<COUNT_BYTES>()?;
    rest.get(..u32::from_le_bytes(*count) as usize)
}

/// Encodes chunks; keeps its buffer between them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    exponents: Vec<u8>,
}

impl Encoder {
    /// Bytes of a chunk of `dtype` before coding; `None` for types that are not coded.
    pub(crate) fn chunk_bytes(dtype: DType) -> Option<usize> {
        Float::of(dtype).map(|float| CHUNK_VALUES * float.value_bytes())
    }

    /// Appends `values`, a chunk of `dtype`, to `out`.
    ///
    /// # Panics
    /// The type is not coded, or the chunk is too large: a programmer's error.
    pub(crate) fn encode_chunk(&mut self, dtype: DType, values: &[u8], out: &mut Vec<u8>) {
        let float = Float::of(dtype).expect("only parts of BF16 and FP8 are coded");
        let n = values.len() / float.value_bytes();
        assert!(n <= CHUNK_VALUES, "{n} values are no chunk");
        let start = out.len();
        out.extend([0; COUNT_BYTES]);
        planes::split(float, values, out, &mut self.exponents);
        let kind = out.len();
        out.push(HUFFMAN);
        let plain_bytes = float.exponent_bytes(n);
        let coded = huffman::encode(float.symbols(), &self.exponents, out);
        if coded.is_none_or(|bytes| bytes >= plain_bytes) {
            out.truncate(kind);
            out.push(PLAIN);
            planes::pack(float, &self.exponents, out);
        }
        let count = (out.len() - start - COUNT_BYTES) as u32;
        out[start..start + COUNT_BYTES].copy_from_slice(&count.to_le_bytes());
    }
}

/// Values of each stream but the last ones.
fn quarter(n: usize) -> usize {
    n.div_ceil(streams::STREAMS)
}

#[cfg(test)]
mod tests;
