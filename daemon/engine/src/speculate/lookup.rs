//! Prompt lookup: what followed the last time these tokens came.
//!
//! Source: Saxena 2023, "Prompt Lookup Decoding"; Yang et al. 2023, arXiv:2304.04487.

use model::TokenId;

/// Tokens that have to match: the longest first. One token alone is no evidence.
const GRAMS: [usize; 2] = [3, 2];
/// Slots of a table, a token: so that few n-grams are lost to others.
const SLOTS_A_TOKEN: usize = 4;
/// Slots of a table at most: bounds the memory to 512 KiB a table, whatever the context.
const SLOTS_MAX: usize = 1 << 17;

/// Where in a sequence each n-gram was last seen.
///
/// A table maps the hash of an n-gram to the position after it; 0 is free. A newer n-gram takes the slot of an older,
/// of another one too where their hashes meet: that costs a guess, not the truth, as the tokens are compared.
#[derive(Debug)]
pub(super) struct Lookup {
    tables: [Vec<u32>; GRAMS.len()],
    /// N-grams that end before this position are in the tables.
    n_indexed: usize,
}

impl Lookup {
    /// For a sequence of up to `n_tokens` tokens.
    pub(super) fn new(n_tokens: usize) -> Self {
        let n_slots = (SLOTS_A_TOKEN * n_tokens).next_power_of_two().min(SLOTS_MAX);
        Self { tables: std::array::from_fn(|_| vec![0; n_slots]), n_indexed: 1 }
    }

    /// Takes in the n-grams of `tokens` that have been followed by a token since.
    pub(super) fn extend(&mut self, tokens: &[TokenId]) {
        for end in self.n_indexed..tokens.len() {
            for (table, n) in self.tables.iter_mut().zip(GRAMS) {
                if let Some(start) = end.checked_sub(n) {
                    let slot = slot(&tokens[start..end], table.len());
                    table[slot] = end as u32;
                }
            }
        }
        self.n_indexed = self.n_indexed.max(tokens.len());
    }

    /// What followed the last time the sequence had the tokens it ends with; endless, as it repeats itself at the end.
    pub(super) fn find<'a>(&self, tokens: &'a [TokenId]) -> Option<impl Iterator<Item = TokenId> + use<'a>> {
        let after = self.tables.iter().zip(GRAMS).find_map(|(table, n)| {
            let gram = &tokens[tokens.len().checked_sub(n)?..];
            let after = table[slot(gram, table.len())] as usize;
            (after > 0 && tokens[..after].ends_with(gram)).then_some(after)
        })?;
        Some(tokens[after..].iter().copied().cycle())
    }
}

/// Fowler, Noll and Vo's hash over whole tokens, folded to `n_slots` (a power of two) by its upper bits.
fn slot(gram: &[TokenId], n_slots: usize) -> usize {
    let hash = gram.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &id| {
        (hash ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (hash >> 40) as usize & (n_slots - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guesses(tokens: &[TokenId], n: usize) -> Option<Vec<TokenId>> {
        let mut lookup = Lookup::new(1000);
        lookup.extend(tokens);
        lookup.find(tokens).map(|found| found.take(n).collect())
    }

    #[test]
    fn the_longest_match_wins_then_the_latest() {
        assert_eq!(guesses(&[1, 2, 3, 7, 7, 2, 3, 8, 1, 2, 3], 2), Some(vec![7, 7]));
        assert_eq!(guesses(&[5, 2, 3, 7, 6, 2, 3, 8, 9, 2, 3], 2), Some(vec![8, 9]));
        assert_eq!(guesses(&[1, 2, 3, 4, 5], 2), None);
        assert_eq!(guesses(&[3], 2), None);
    }

    #[test]
    fn a_loop_goes_on() {
        assert_eq!(guesses(&[9, 4, 4, 4], 5), Some(vec![4; 5]));
        assert_eq!(guesses(&[1, 2, 3, 1, 2], 5), Some(vec![3, 1, 2, 3, 1]));
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(tokens in prop::collection::vec(0u32..4, 1..80), cut in 0usize..80) {
            let mut lookup = Lookup::new(SLOTS_MAX);
            lookup.extend(&tokens[..cut.min(tokens.len())]);
            lookup.extend(&tokens);
            let scan = GRAMS.iter().find_map(|&n| {
                let gram = &tokens[tokens.len().checked_sub(n)?..];
                (n..tokens.len()).rev().find(|&end| &tokens[end - n..end] == gram)
            });
            let want = scan.map(|end| tokens[end]);
            prop_assert_eq!(lookup.find(&tokens).and_then(|mut found| found.next()), want);
        }
    }
}
