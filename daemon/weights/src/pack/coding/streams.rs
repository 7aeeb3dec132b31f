//! The decoder's inner loop: four streams at once, several symbols a look-up.
//!
//! The next 11 bits of a stream are an index into a table that holds the symbols whose codes lie wholly within them, three
//! or four of a trained weight's exponents: one load, one store, two shifts and an addition for all of them. A look-up
//! waits for the one before to say how many bits it took, so four streams are decoded in turn, in rounds of 5 look-ups
//! that 8 bytes are enough for. Symbols go through blocks that stay in the first cache, where signs and mantissas join them.
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
/// Bytes that a round may write to: 5 entries of 6 symbols, the two bytes of the last entry that are none, and up to 32.
const WINDOW: usize = 40;
/// What a round may put beyond a block.
const BEYOND: usize = WINDOW;

/// Table and blocks.
#[derive(Debug)]
pub(super) struct Streams {
    table: Box<[u64; ENTRIES]>,
    /// What the table is made of.
    tables: Box<[u64; 2 * ENTRIES]>,
    blocks: Box<[[u8; BLOCK + BEYOND]; STREAMS]>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            table: Box::new([0; ENTRIES]),
            tables: Box::new([0; 2 * ENTRIES]),
            blocks: Box::new([[0; BLOCK + BEYOND]; STREAMS]),
        }
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
        while (0..STREAMS).all(|stream| at[stream] < want[stream]) {
            let [a, b, c, d] = &mut *self.blocks;
            rounds(&self.table, coded, bit, [a, b, c, d], at)?;
        }
        for (stream, block) in self.blocks.iter_mut().enumerate() {
            while at[stream] < want[stream] {
                let (mut its_bit, mut its_at) = ([bit[stream]], [at[stream]]);
                rounds(&self.table, coded, &mut its_bit, [block], &mut its_at)?;
                [bit[stream]] = its_bit;
                [at[stream]] = its_at;
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
        self.set_table(&first);
        Some(())
    }

    /// Fills the table, given the first code of every index. An entry is its first code before the entry of the bits behind
    /// that, so there are tables for fewer bits, too: that of `n` bits starts at 2^n.
    fn set_table(&mut self, first: &[(u8, u8); ENTRIES]) {
        self.tables[1] = 0;
        for n_bits in 1..=LENGTH_MAX {
            let (fewer, table) = self.tables.split_at_mut(1 << n_bits);
            for (bits, entry) in table[..1 << n_bits].iter_mut().enumerate() {
                let (symbol, length) = (first[bits].0, usize::from(first[bits].1));
                *entry = match n_bits.checked_sub(length).map(|left| fewer[(1 << left) + (bits >> length)]) {
                    None => 0,
                    Some(rest) if symbols(rest) == SYMBOLS_MAX => slow_entry(first, bits, n_bits),
                    Some(rest) => put_before(symbol, length, rest),
                };
            }
        }
        self.table.copy_from_slice(&self.tables[ENTRIES..]);
    }
}

/// Symbols of an entry.
fn symbols(entry: u64) -> usize {
    (entry >> 48) as usize % 256
}

/// The entry of one symbol more, which comes first; five at most were there.
fn put_before(symbol: u8, length: usize, rest: u64) -> u64 {
    let counts = rest >> 48 << 48;
    (rest - counts) << 8 | u64::from(symbol) | (counts + (1 << 48) + ((length as u64) << 56))
}

/// An entry, symbol by symbol: for codes so short that more of them are in the bits than an entry holds.
fn slow_entry(first: &[(u8, u8); ENTRIES], bits: usize, n_bits: usize) -> u64 {
    let (mut found, mut n, mut used) = (0u64, 0, 0);
    while n < SYMBOLS_MAX {
        let (symbol, length) = first[bits >> used];
        if used + usize::from(length) > n_bits {
            break;
        }
        found |= u64::from(symbol) << (8 * n);
        used += usize::from(length);
        n += 1;
    }
    found | (n as u64) << 48 | (used as u64) << 56
}

/// A round of each of `N` streams, look-up by look-up in turn: a word of bits is read, symbols are put at `at`. `None`
/// where the bytes end.
#[inline(always)]
fn rounds<const N: usize>(
    table: &[u64; ENTRIES],
    coded: &[u8],
    bit: &mut [usize; N],
    blocks: [&mut [u8; BLOCK + BEYOND]; N],
    at: &mut [usize; N],
) -> Option<()> {
    let mut words = [0; N];
    for (word, bit) in words.iter_mut().zip(&*bit) {
        let bytes = coded.get(bit / 8..bit / 8 + 8)?.first_chunk()?;
        *word = u64::from_le_bytes(*bytes) >> (bit % 8);
    }
    let mut streams = 0..N;
    let mut windows = blocks.map(|block| {
        let stream = streams.next().expect("as many blocks as streams");
        block.get_mut(at[stream]..).and_then(|block| block.first_chunk_mut::<WINDOW>())
    });
    // Symbols in the low byte, bits above.
    let mut taken = [0u64; N];
    for _ in 0..ROUND {
        for stream in 0..N {
            let entry = table[words[stream] as usize % ENTRIES];
            let window = windows[stream].as_mut()?;
            let start = taken[stream] as usize % 32;
            window[start..start + 8].copy_from_slice(&entry.to_le_bytes());
            taken[stream] += entry >> 48;
            words[stream] >>= (entry >> 56) % 64;
        }
    }
    for stream in 0..N {
        at[stream] += taken[stream] as usize % 256;
        bit[stream] += taken[stream] as usize >> 8;
    }
    Some(())
}
