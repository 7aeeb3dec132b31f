//! Secrets: made from the system's random numbers, shown once, kept as SHA-256.
//!
//! Session tokens and API keys carry 256 random bits, so a fast hash is enough; passwords are another matter
//! ([`crate::password`]).

use sha2::{Digest, Sha256};

/// Letters and digits that can't be mistaken for each other, read from a console across a room: no I, L, O, U, 0, 1.
const CODE_ALPHABET: &[u8; 30] = b"ABCDEFGHJKMNPQRSTVWXYZ23456789";

/// Length of such a code, without its dash: 30^8 is 39 bits, and guesses are throttled.
const CODE_LEN: usize = 8;

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

/// A new code for the box's console, `XXXX-XXXX`.
pub fn console_code() -> String {
    // Bytes at or above the largest multiple of the alphabet's length would favour its first letters.
    let fair = |byte: &u8| usize::from(*byte) < 256 / CODE_ALPHABET.len() * CODE_ALPHABET.len();
    let letters = std::iter::repeat_with(random::<32>).flatten().filter(fair);
    let mut code: String =
        letters.take(CODE_LEN).map(|byte| char::from(CODE_ALPHABET[usize::from(byte) % 30])).collect();
    code.insert(CODE_LEN / 2, '-');
    code
}

/// Whether `typed` is `code`, whatever its dash, spaces and case. How long that takes tells nothing: hashes are compared,
/// and whole.
pub fn is_console_code(typed: &str, code: &str) -> bool {
    let (typed, code) = (sha256(&code_letters(typed)), sha256(&code_letters(code)));
    typed.iter().zip(code).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// A code as typed, without dash, spaces and case.
pub(crate) fn code_letters(typed: &str) -> String {
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
    fn a_code_survives_careless_typing() {
        let code = console_code();
        assert_eq!(code.len(), 9);
        assert!(is_console_code(&format!(" {} ", code.to_lowercase().replace('-', " ")), &code));
        for wrong in ["", "-", &code[1..], &format!("{code}A"), &console_code()] {
            assert!(!is_console_code(wrong, &code), "{wrong} for {code}");
        }
        assert!(code_letters(&code).bytes().all(|byte| CODE_ALPHABET.contains(&byte)));
    }
}
