//! Ed25519 keys, their files and fingerprints, and signatures that are good for one purpose only.
//!
//! ```text
//! signed bytes = purpose | 0 | message           a signed list of keys can never pass for a signed manifest
//! ```

use std::fmt;

use ed25519_dalek::{Signature as DalekSignature, Signer, SigningKey, VerifyingKey};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::{self, Sha256, to_hex};

/// Characters of a key's name.
const NAME_CHARS_MAX: usize = 60;

/// What a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// By a release key.
    Manifest,
    /// By a root key.
    KeyList,
}

impl Purpose {
    fn message(self, bytes: &[u8]) -> Vec<u8> {
        let purpose: &[u8] = match self {
            Self::Manifest => b"wels bundle manifest, format 1",
            Self::KeyList => b"wels release keys, format 1",
        };
        [purpose, b"\0", bytes].concat()
    }
}

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The list of release keys; kept offline.
    Root,
    /// Manifests.
    Release,
}

/// The half of a key that everybody may know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes; `None` where they are none.
    pub fn from_bytes(bytes: [u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(&bytes).ok()?;
        // A weak key accepts signatures that nobody made.
        (!key.is_weak()).then_some(Self(bytes))
    }

    /// The key of 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_bytes(hash::from_hex(text)?)
    }

    /// What people compare: half of its hash, in groups of four digits.
    pub fn fingerprint(&self) -> String {
        let digits = to_hex(&Sha256::of(&self.0).0[..16]);
        let groups: Vec<_> =
            digits.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        groups.join(" ")
    }

    pub(crate) fn verifies(&self, purpose: Purpose, bytes: &[u8], signature: &Signature) -> bool {
        let key = VerifyingKey::from_bytes(&self.0).expect("checked when it was made");
        let signature = DalekSignature::from_bytes(&signature.0);
        key.verify_strict(&purpose.message(bytes), &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = hash::deserialize_hex(deserializer)?;
        Self::from_bytes(bytes).ok_or_else(|| D::Error::custom("these bytes are no Ed25519 key"))
    }
}

/// 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hash::deserialize_hex(deserializer).map(Self)
    }
}

/// A public key as a file: what is handed around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeyFile {
    /// What it may sign.
    pub role: Role,
    /// Whose it is, for people.
    pub name: String,
    /// The key.
    pub public_key: PublicKey,
}

impl PublicKeyFile {
    /// Reads a public key's file.
    ///
    /// # Errors
    /// Not such a file, or a name that can't be shown.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let file: Self = serde_json::from_slice(bytes)?;
        if is_key_name(&file.name) {
            Ok(file)
        } else {
            Err(serde_json::Error::custom("a name that can't be shown"))
        }
    }
}

/// A whole key. `Debug` and `Display` don't show its secret.
#[derive(Clone)]
pub struct SecretKey {
    /// What it may sign.
    pub role: Role,
    /// Whose it is, for people.
    pub name: String,
    key: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({:?} {:?}, {})", self.role, self.name, self.public_key())
    }
}

/// As it lies in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretKeyFile {
    role: Role,
    name: String,
    secret_key: String,
}

impl SecretKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// The system gives none; or the name can't be shown.
    pub fn generate(role: Role, name: &str) -> Result<Self, crate::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| crate::Error::NoRandomness)?;
        Self::from_secret(role, name, secret)
    }

    /// The key of a known secret: for tests that want the same key again.
    ///
    /// # Errors
    /// The name can't be shown.
    pub fn from_secret(role: Role, name: &str, secret: [u8; 32]) -> Result<Self, crate::Error> {
        if !is_key_name(name) {
            return Err(crate::Error::KeyName { name: name.chars().take(NAME_CHARS_MAX).collect() });
        }
        Ok(Self { role, name: name.to_owned(), key: SigningKey::from_bytes(&secret) })
    }

    /// Reads a secret key's file.
    ///
    /// # Errors
    /// Not such a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let file: SecretKeyFile = serde_json::from_slice(bytes)?;
        let secret = hash::from_hex(&file.secret_key);
        let secret =
            secret.ok_or_else(|| serde_json::Error::custom("secret_key must have 64 hexadecimal digits"))?;
        Self::from_secret(file.role, &file.name, secret).map_err(serde_json::Error::custom)
    }

    /// As it is written to a file that nobody else may read.
    pub fn to_json(&self) -> Vec<u8> {
        let secret_key = to_hex(&self.key.to_bytes());
        let file = SecretKeyFile { role: self.role, name: self.name.clone(), secret_key };
        serde_json::to_vec_pretty(&file).expect("plain data")
    }

    /// The half that everybody may know.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// That half as a file.
    pub fn public(&self) -> PublicKeyFile {
        PublicKeyFile { role: self.role, name: self.name.clone(), public_key: self.public_key() }
    }

    pub(crate) fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        Signature(self.key.sign(&purpose.message(bytes)).to_bytes())
    }
}

/// A key's name is shown to people who decide by it.
pub(crate) fn is_key_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '-' | '_' | '@' | '(' | ')');
    !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_secret(Role::Release, "bench", [7; 32]).unwrap()
    }

    #[test]
    fn a_signature_is_good_for_its_bytes_and_purpose_only() {
        let (key, public) = (key(), key().public_key());
        let signature = key.sign(Purpose::Manifest, b"bytes");
        assert!(public.verifies(Purpose::Manifest, b"bytes", &signature));
        assert!(!public.verifies(Purpose::Manifest, b"byteS", &signature));
        assert!(!public.verifies(Purpose::KeyList, b"bytes", &signature));
        let other = SecretKey::from_secret(Role::Release, "other", [8; 32]).unwrap();
        assert!(!other.public_key().verifies(Purpose::Manifest, b"bytes", &signature));
    }

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        // RFC 8032, 7.1, test 2: the key, and that a public key is what the document says.
        let secret =
            hash::from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = SecretKey::from_secret(Role::Root, "rfc", secret).unwrap();
        let want = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(key.public_key().to_string(), want);
        let signature = to_hex(&key.key.sign(&[0x72]).to_bytes());
        assert!(signature.starts_with("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"));
    }

    #[test]
    fn keys_survive_their_files_and_keep_their_secret() {
        let key = key();
        let again = SecretKey::parse(&key.to_json()).unwrap();
        assert_eq!(again.public(), key.public());
        assert!(!format!("{key:?}").contains("0707"));
        let public = serde_json::to_vec(&key.public()).unwrap();
        assert_eq!(PublicKeyFile::parse(&public).unwrap(), key.public());
    }

    #[test]
    fn weak_keys_are_none() {
        // The neutral element and a point of order 8: anything verifies.
        assert_eq!(PublicKey::from_hex(&format!("01{}", "00".repeat(31))), None);
        assert_eq!(
            PublicKey::from_hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
            None
        );
    }
}
