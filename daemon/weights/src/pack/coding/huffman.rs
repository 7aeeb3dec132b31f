//! Static Huffman codes of bounded length.
//!
//! Lengths are found by package-merge (Larmore & Hirschberg 1990, "A fast algorithm for optimal length-limited Huffman
//! codes"), so no code of at most [`LENGTH_MAX`] bits takes less; beyond the entropy of the symbols it takes less than a
//! bit a symbol.

/// Bits of the longest code: a table of 2^11 entries of 8 bytes is half of a small core's first cache.
pub(super) const LENGTH_MAX: usize = 11;
/// Bytes of zeros behind the streams: whoever reads 8 bytes at a time may do so at the last bit.
pub(super) const PAD_BYTES: usize = 8;

/// A symbol's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    /// As they are written, the first the lowest.
    pub(super) bits: u16,
    /// Bits; 0 where the symbol does not occur.
    pub(super) length: u8,
}

/// Lengths of the codes of symbols that occur so often: 0 for those that don't; at least two symbols get one.
pub(super) fn lengths(counts: &[u32]) -> Vec<u8> {
    let mut leaves: Vec<(u64, Vec<u8>)> = (0..=255)
        .zip(counts)
        .filter(|(_, n)| **n > 0)
        .map(|(symbol, &n)| (u64::from(n), vec![symbol]))
        .collect();
    // A lone symbol needs a partner: every code is complete.
    let absent = (0..=255).zip(counts).filter(|(_, n)| **n == 0).map(|(symbol, _)| (1, vec![symbol]));
    leaves.extend(absent.take(2usize.saturating_sub(leaves.len())));
    leaves.sort();
    let mut row = leaves.clone();
    for _ in 1..LENGTH_MAX {
        let packages = row.chunks_exact(2).map(|pair| {
            let members = pair[0].1.iter().chain(&pair[1].1).copied().collect();
            (pair[0].0 + pair[1].0, members)
        });
        row = packages.chain(leaves.iter().cloned()).collect();
        row.sort_by_key(|(weight, _)| *weight);
    }
    let mut lengths = vec![0; counts.len()];
    for (_, members) in row.iter().take(2 * leaves.len() - 2) {
        members.iter().for_each(|&symbol| lengths[usize::from(symbol)] += 1);
    }
    lengths
}

/// The canonical codes of these lengths; `None` where they are too long or make no complete code.
pub(super) fn codes(lengths: &[u8]) -> Option<Vec<Code>> {
    let mut of_length = [0u32; LENGTH_MAX + 1];
    for &length in lengths {
        *of_length.get_mut(usize::from(length))? += 1;
    }
    of_length[0] = 0;
    let mut next = [0u32; LENGTH_MAX + 1];
    for length in 1..=LENGTH_MAX {
        next[length] = (next[length - 1] + of_length[length - 1]) << 1;
    }
    let space: u32 = of_length.iter().enumerate().map(|(length, n)| n << (LENGTH_MAX - length)).sum();
    if space != 1 << LENGTH_MAX {
        return None;
    }
    let mut code = |&length: &u8| {
        if length == 0 {
            return Code::default();
        }
        let code = next[usize::from(length)] as u16;
        next[usize::from(length)] += 1;
        Code { bits: code.reverse_bits() >> (16 - length), length }
    };
    Some(lengths.iter().map(&mut code).collect())
}

/// Appends lengths, sizes and streams of `exponents`, symbols below `n_symbols`; returns the bytes that took. `None`
/// where there is nothing to code.
pub(super) fn encode(n_symbols: usize, exponents: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut counts = [0u32; 256];
    exponents.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    let lengths = lengths(&counts[..n_symbols]);
    let mut table = [Code::default(); 256];
    table[..n_symbols].copy_from_slice(&codes(&lengths)?);
    let start = out.len();
    out.extend(lengths.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4));
    let sizes = out.len();
    out.extend([0; 12]);
    let quarter = super::quarter(exponents.len());
    let mut rest = exponents;
    for stream in 0..4 {
        let (symbols, behind) = rest.split_at(quarter.min(rest.len()));
        rest = behind;
        let begin = out.len();
        write(symbols, &table, out);
        if stream < 3 {
            let bytes = (out.len() - begin) as u32;
            out[sizes + 4 * stream..][..4].copy_from_slice(&bytes.to_le_bytes());
        }
    }
    out.extend([0; PAD_BYTES]);
    Some(out.len() - start)
}

/// Appends the codes of `symbols`, to the next whole byte.
fn write(symbols: &[u8], codes: &[Code; 256], out: &mut Vec<u8>) {
    // Room for the longest codes and a word beyond.
    let mut at = out.len();
    out.resize(at + symbols.len() * LENGTH_MAX / 8 + 16, 0);
    let (mut word, mut n_bits) = (0u64, 0u32);
    for symbols in symbols.chunks(4) {
        for &symbol in symbols {
            let code = codes[usize::from(symbol)];
            word |= u64::from(code.bits) << n_bits;
            n_bits += u32::from(code.length);
        }
        // At most 7 bits from before and 4 x 11 new ones.
        out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        let bytes = n_bits / 8;
        at += bytes as usize;
        word >>= 8 * bytes;
        n_bits %= 8;
    }
    out.truncate(at + usize::from(n_bits > 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(counts: &[u32], lengths: &[u8]) -> f64 {
        counts.iter().zip(lengths).map(|(&n, &length)| f64::from(n) * f64::from(length)).sum()
    }

    #[test]
    fn codes_are_within_a_bit_of_the_entropy_and_no_longer_than_the_limit() {
        // Fibonacci numbers make Huffman's codes longest: one a bit longer than the last.
        let fibonacci: Vec<u32> = (0..32).scan((1, 1), |s, _| (*s = (s.1, s.0 + s.1), Some(s.0)).1).collect();
        let halves: Vec<u32> = (0..16).map(|i| 1 << i).collect();
        let flat = vec![1; 256];
        for counts in [fibonacci, halves, flat, vec![7, 0, 0, 1], vec![0, 0, 3, 0], vec![0; 16]] {
            let lengths = lengths(&counts);
            assert!(codes(&lengths).is_some(), "{counts:?}: {lengths:?}");
            let total: f64 = counts.iter().map(|&n| f64::from(n)).sum();
            let entropy: f64 = counts
                .iter()
                .filter(|n| **n > 0)
                .map(|&n| f64::from(n) * (total / f64::from(n)).log2())
                .sum();
            let got = bits(&counts, &lengths);
            assert!(
                got >= entropy - 1e-6 && got <= entropy + total,
                "{counts:?}: {got} bits, entropy {entropy}"
            );
        }
    }

    #[test]
    fn lengths_are_huffmans_where_the_limit_is_far() {
        assert_eq!(lengths(&[45, 13, 12, 16, 9, 5]), [1, 3, 3, 3, 4, 4]);
    }

    #[test]
    fn incomplete_and_overfull_codes_are_refused() {
        for lengths in [&[1, 1, 1][..], &[1, 2], &[2, 2, 2], &[0, 0], &[1], &[12, 1], &[15; 16]] {
            assert_eq!(codes(lengths), None, "{lengths:?}");
        }
        assert_eq!(codes(&[0, 1, 2, 2]).map(|codes| codes[3]), Some(Code { bits: 3, length: 2 }));
    }
}
