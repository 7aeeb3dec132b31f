//! The decoder's inner loop: four streams at once, several symbols a look-up.
//!
//! The next 11 bits of a stream are an index into a table that holds the symbols whose codes lie wholly within them, some
//! 3.7 of a trained weight's exponents: one load, one store, two additions for all of them. A look-up waits for the one
//! before to say how many bits it took, so four streams are decoded in turn, each in rounds of 5 look-ups that 8 bytes
//! are enough for. Symbols go through blocks that stay in the first cache, where signs and mantissas join them.
//!
//! ```text
//! entry   | symbol 0 | symbol 1 | ... | symbol 5 | symbols | bits |      a byte each, the first the lowest
//! ```

use super::huffman::{LENGTH_MAX, PAD_BYTES, codes};
use super::planes::{self, Float};
use super::quarter;

/// Streams of a chunk.
pub(super) const STREAMS: usize = 4;
/// Look-ups in a round: 5 x 11 bits and 7 of the byte begun before are within 8 bytes.
const ROUND: usize = 5;
const ENTRIES: usize = 1 << LENGTH_MAX;
/// Symbols of an entry.
const SYMBOLS_MAX: usize = 6;
/// Symbols of a stream that are decoded before they are joined with signs and mantissas.
const BLOCK: usize = 2048;
/// What a round may put beyond: its symbols, and the two bytes of the last entry that are none.
const BEYOND: usize = ROUND * SYMBOLS_MAX + 2;

/// Table and blocks.
#[derive(Debug)]
pub(super) struct Streams {
    table: Box<[u64; ENTRIES]>,
    blocks: Box<[[u8; BLOCK + BEYOND]; STREAMS]>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { table: Box::new([0; ENTRIES]), blocks: Box::new([[0; BLOCK + BEYOND]; STREAMS]) }
    }
}

impl Streams {
    /// Fills `out`, a chunk's values, from the plane of their signs and mantissas and what is behind the chunk's kind.
    pub(super) fn decode(
        &mut self,
        float: Float,
        plane: &[u8],
        coded: &[u8],
        out: &mut [u8],
    ) -> Result<(), &'static str> {
        let short = "a chunk is too short for its streams";
        let (lengths, coded) = coded.split_at_checked(float.symbols() / 2).ok_or(short)?;
        let (sizes, coded) = coded.split_first_chunk::<{ 4 * (STREAMS - 1) }>().ok_or(short)?;
        self.set_code(lengths).ok_or("the lengths of a chunk's codes make no code")?;
        let mut bit = [0; STREAMS];
        for (i, size) in sizes.chunks_exact(4).enumerate() {
            let size = u32::from_le_bytes(size.try_into().expect("four bytes")) as usize;
            bit[i + 1] = bit[i] + 8 * size;
        }
        if bit[STREAMS - 1] / 8 + PAD_BYTES > coded.len() {
            return Err(short);
        }
        let n = out.len() / float.value_bytes();
        let quarter = quarter(n);
        let left =
            |stream: usize, done: usize| n.saturating_sub(stream * quarter).min(quarter).saturating_sub(done);
        // Symbols in each block already: what the last round of the block before put beyond it.
        let mut at = [0; STREAMS];
        for done in (0..quarter).step_by(BLOCK) {
            let want: [usize; STREAMS] = std::array::from_fn(|stream| left(stream, done).min(BLOCK));
            self.fill(coded, &mut bit, &mut at, want).ok_or("a stream ends before its symbols")?;
            for (stream, block) in self.blocks.iter_mut().enumerate() {
                let (first, n) = (stream * quarter + done, want[stream]);
                let width = float.value_bytes();
                if n > 0 {
                    planes::join(float, plane, &block[..n], first, &mut out[first * width..][..n * width]);
                }
                block.copy_within(n..at[stream], 0);
                at[stream] -= n;
            }
        }
        Ok(())
    }

    /// Decodes at least `want` symbols into each block; `bit` and `at` say where each stream and block stands.
    fn fill(
        &mut self,
        coded: &[u8],
        bit: &mut [usize; STREAMS],
        at: &mut [usize; STREAMS],
        want: [usize; STREAMS],
    ) -> Option<()> {
        let (table, [a, b, c, d]) = (&*self.table, &mut *self.blocks);
        while at[0] < want[0] && at[1] < want[1] && at[2] < want[2] && at[3] < want[3] {
            round(table, coded, &mut bit[0], a, &mut at[0])?;
            round(table, coded, &mut bit[1], b, &mut at[1])?;
            round(table, coded, &mut bit[2], c, &mut at[2])?;
            round(table, coded, &mut bit[3], d, &mut at[3])?;
        }
        for (stream, block) in self.blocks.iter_mut().enumerate() {
            while at[stream] < want[stream] {
                round(&self.table, coded, &mut bit[stream], block, &mut at[stream])?;
            }
        }
        Some(())
    }

    /// Makes the table of the codes with these lengths, two in a byte.
    fn set_code(&mut self, lengths: &[u8]) -> Option<()> {
        let lengths: Vec<u8> = lengths.iter().flat_map(|pair| [pair & 15, pair >> 4]).collect();
        let codes = codes(&lengths)?;
        // The symbol and length of the one code that some bits begin with.
        let mut first = [(0u8, 0u8); ENTRIES];
        for (symbol, code) in (0u8..=255).zip(&codes).filter(|(_, code)| code.length > 0) {
            let step = 1 << code.length;
            first[usize::from(code.bits)..].iter_mut().step_by(step).for_each(|f| *f = (symbol, code.length));
        }
        for (bits, entry) in self.table.iter_mut().enumerate() {
            let (mut symbols, mut n, mut used) = (0u64, 0, 0);
            while n < SYMBOLS_MAX {
                let (symbol, length) = first[bits >> used];
                if used + usize::from(length) > LENGTH_MAX {
                    break;
                }
                symbols |= u64::from(symbol) << (8 * n);
                used += usize::from(length);
                n += 1;
            }
            *entry = symbols | (n as u64) << 48 | (used as u64) << 56;
        }
        Some(())
    }
}

/// Up to five look-ups of one stream: a word of bits read, symbols put at `at`. `None` where the bytes end.
#[inline(always)]
fn round(
    table: &[u64; ENTRIES],
    coded: &[u8],
    bit: &mut usize,
    block: &mut [u8],
    at: &mut usize,
) -> Option<()> {
    let start = *bit / 8;
    let word = coded.get(start..start + 8)?;
    let mut word = u64::from_le_bytes(word.try_into().ok()?) >> (*bit % 8);
    let (mut used, mut end) = (0, *at);
    for _ in 0..ROUND {
        let entry = table[word as usize % ENTRIES];
        block.get_mut(end..end + 8)?.copy_from_slice(&entry.to_le_bytes());
        let length = (entry >> 56) as usize % 64;
        end += (entry >> 48) as usize % 256;
        used += length;
        word >>= length;
    }
    (*bit, *at) = (*bit + used, end);
    Some(())
}
