//! Secrets: made from the system's random numbers, shown once, kept as SHA-256.
//!
//! Session tokens and API keys carry 256 random bits, so a fast hash is enough; passwords are another matter
//! ([`crate::password`]).

use sha2::{Digest, Sha256};

/// Letters and digits that can't be mistaken for each other, read from a console across a room: no I, L, O, U, 0, 1.
const CLAIM_ALPHABET: &[u8; 30] = b"ABCDEFGHJKMNPQRSTVWXYZ23456789";

/// Length of a claim code, without its dash: 30^8 is 39 bits, and guesses are throttled.
const CLAIM_LEN: usize = 8;

/// SHA-256 of a secret, as stored.
pub(crate) type Hash = [u8; 32];

pub(crate) fn sha256(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
    bytes
}

/// 256 random bits as 64 hexadecimal digits.
pub fn token() -> String {
    random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 64 random bits, for seeds and identifiers that need not be secret.
pub fn random_u64() -> u64 {
    u64::from_le_bytes(random())
}

/// A new claim code, `XXXX-XXXX`.
pub(crate) fn claim_code() -> String {
    // Bytes at or above the largest multiple of the alphabet's length would favour its first letters.
    let fair = |byte: &u8| usize::from(*byte) < 256 / CLAIM_ALPHABET.len() * CLAIM_ALPHABET.len();
    let letters = std::iter::repeat_with(random::<32>).flatten().filter(fair);
    let mut code: String =
        letters.take(CLAIM_LEN).map(|byte| char::from(CLAIM_ALPHABET[usize::from(byte) % 30])).collect();
    code.insert(CLAIM_LEN / 2, '-');
    code
}

/// The code as typed, without dash, spaces and case.
pub(crate) fn claim_letters(typed: &str) -> String {
    typed.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_hold_256_bits() {
        assert_ne!(token(), token());
        assert_eq!(token().len(), 64);
    }

    #[test]
    fn a_claim_code_survives_careless_typing() {
        let code = claim_code();
        assert_eq!(code.len(), 9);
        assert_eq!(
            claim_letters(&format!(" {} ", code.to_lowercase().replace('-', " "))),
            claim_letters(&code)
        );
        assert!(claim_letters(&code).bytes().all(|byte| CLAIM_ALPHABET.contains(&byte)));
    }
}
