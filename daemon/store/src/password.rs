//! Passwords: argon2id, 19 MiB, two passes, one lane (OWASP's recommendation of 2024).
//!
//! Both functions take tens of milliseconds and 19 MiB: call them off the async threads, and few at a time.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Characters a new password must have.
pub const CHARS_MIN: usize = 8;

/// Bytes a password may have.
pub const BYTES_MAX: usize = 1024;

/// A well-formed hash that belongs to nobody.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn argon2id() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("constants within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The password's hash with a random salt, as a PHC string.
pub fn hash(password: &str) -> String {
    let hash: PasswordHash = argon2id().hash_password(password.as_bytes()).expect("the salt is well-formed");
    hash.to_string()
}

/// Whether `password` is the one that was hashed. `None`, an account that doesn't exist, takes as long and is false.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let Ok(parsed) = PasswordHash::new(hash.unwrap_or(NOBODY)) else { return false };
    argon2id().verify_password(password.as_bytes(), &parsed).is_ok() && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_alone_is_right() {
        let hashed = hash("鲇鱼 wels 8");
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify("鲇鱼 wels 8", Some(&hashed)));
        assert!(!verify("wels 8", Some(&hashed)));
        assert!(!verify("wels 8", None));
        assert!(PasswordHash::new(NOBODY).is_ok());
    }
}
