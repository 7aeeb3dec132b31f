//! The age format, version 1, as far as a passphrase needs it: a file that any age opens.
//!
//! ```text
//! age-encryption.org/v1                                      the passphrase opens the file key:
//! -> scrypt SALT N                                           scrypt(passphrase, label + SALT, 2^N) seals it
//! KEY                                                        the file key, sealed
//! --- MAC                                                    HMAC of all above, by the file key
//! nonce, 16 bytes | chunk | chunk | … | last chunk           sealed by the file key and the nonce: stream.rs
//! ```
//!
//! SALT, KEY and MAC are base64 without padding. There is one right header for its values: reading is comparing.
//! Source: the specification at c2sp.org/age. Other recipients than a passphrase are not read. Why not the `age` crate: it
//! brings 87 crates for this one recipient, with another generation of those that hash and sign here; this takes 11.

mod stream;

use std::io::{BufRead, Read, Write};

use base64ct::{Base64Unpadded, Encoding};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

pub(crate) use self::stream::{Reader, Writer};
use crate::{Error, PASSPHRASE_BYTES_MAX, PASSPHRASE_CHARS_MIN};

/// 2^17 blocks of 1 KiB: 128 MiB and part of a second for each try (OWASP's recommendation of 2024).
pub(crate) const WORK: u8 = 17;
/// What reading may cost: what other programs of this format ask for by default, 256 MiB.
pub(crate) const WORK_MAX: u8 = 18;

const MAGIC: &str = "age-encryption.org/v1";
const RECIPIENT: &str = "-> scrypt ";
const END: &str = "---";
/// Longer than any line of a right header.
const LINE_BYTES_MAX: u64 = 80;
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const TAG_BYTES: usize = 16;

type FileKey = [u8; 16];
type Salt = [u8; 16];
type Mac256 = [u8; 32];

/// What is in a header.
struct Header {
    salt: Salt,
    work: u8,
    /// The file key with its tag.
    sealed: [u8; 32],
    mac: Mac256,
}

/// A writer of what `passphrase` opens, at a cost of 2^`work`.
pub(crate) fn encrypt<W: Write>(mut to: W, passphrase: &str, work: u8) -> Result<Writer<W>, Error> {
    let (file_key, salt, nonce): (FileKey, Salt, [u8; 16]) = (random()?, random()?, random()?);
    let mut sealed = file_key.to_vec();
    let cipher = ChaCha20Poly1305::new(&passphrase_key(passphrase, &salt, work).into());
    cipher.encrypt_in_place(&Nonce::default(), b"", &mut sealed).expect("16 bytes are not too many");
    let sealed = sealed.try_into().expect("a key and its tag");
    let text = header_text(&salt, work, &sealed);
    let mac: Mac256 = header_mac(&file_key, &text).finalize().into_bytes().into();
    let header = format!("{text} {}\n", Base64Unpadded::encode_string(&mac));
    to.write_all(header.as_bytes())
        .and_then(|()| to.write_all(&nonce))
        .map_err(|cause| Error::Write { cause })?;
    Ok(Writer::new(to, &derive(&file_key, Some(&nonce), b"payload")))
}

/// A reader of what `passphrase` opens. Reads the header first, and does no more work for it than [`WORK_MAX`].
pub(crate) fn decrypt<R: BufRead>(mut from: R, passphrase: &str) -> Result<Reader<R>, Error> {
    let header = Header::read(&mut from)?;
    if header.work > WORK_MAX {
        return Err(Error::TooMuchWork { found: header.work, max: WORK_MAX });
    }
    if passphrase.len() > PASSPHRASE_BYTES_MAX {
        return Err(Error::WrongPassphrase);
    }
    let mut opened = header.sealed.to_vec();
    let cipher = ChaCha20Poly1305::new(&passphrase_key(passphrase, &header.salt, header.work).into());
    cipher.decrypt_in_place(&Nonce::default(), b"", &mut opened).map_err(|_| Error::WrongPassphrase)?;
    let file_key: FileKey = opened.try_into().expect("what was sealed without its tag");
    let text = header_text(&header.salt, header.work, &header.sealed);
    header_mac(&file_key, &text).verify(&header.mac.into()).map_err(|_| Error::Damaged { at: 0 })?;
    let mut nonce = [0; 16];
    from.read_exact(&mut nonce).map_err(cut)?;
    Ok(Reader::new(from, &derive(&file_key, Some(&nonce), b"payload")))
}

/// Whether a new backup may be encrypted with it.
pub(crate) fn check_passphrase(passphrase: &str) -> Result<(), Error> {
    let enough = passphrase.chars().count() >= PASSPHRASE_CHARS_MIN;
    if enough && passphrase.len() <= PASSPHRASE_BYTES_MAX { Ok(()) } else { Err(Error::PassphraseLength) }
}

impl Header {
    fn read(from: &mut impl BufRead) -> Result<Self, Error> {
        let not = |what| Error::NoBackup { what };
        match line(from) {
            Ok(line) if line == MAGIC => {}
            Err(error @ Error::Read { .. }) => return Err(error),
            _ => return Err(not("it is not encrypted as backups are")),
        }
        let recipient = line(from)?;
        let recipient = recipient.strip_prefix(RECIPIENT);
        let recipient = recipient.ok_or(not("it is encrypted for a key, not with a passphrase"))?;
        let (sealed, mac) = (line(from)?, line(from)?);
        let parsed = || {
            let (salt, work) = recipient.split_once(' ')?;
            let (salt, work) = (decode(salt)?, work.parse().ok()?);
            let mac = mac.strip_prefix(END)?.strip_prefix(' ')?;
            Some(Self { salt, work, sealed: decode(&sealed)?, mac: decode(mac)? })
        };
        let header = parsed().filter(|header| {
            header_text(&header.salt, header.work, &header.sealed)
                == format!("{MAGIC}\n{RECIPIENT}{recipient}\n{sealed}\n{END}")
        });
        header.ok_or(Error::Damaged { at: 0 })
    }
}

/// A header up to where its MAC begins.
fn header_text(salt: &Salt, work: u8, sealed: &[u8; 32]) -> String {
    let (salt, sealed) = (Base64Unpadded::encode_string(salt), Base64Unpadded::encode_string(sealed));
    format!("{MAGIC}\n{RECIPIENT}{salt} {work}\n{sealed}\n{END}")
}

fn header_mac(file_key: &FileKey, text: &str) -> Hmac<Sha256> {
    let key = derive(file_key, None, b"header");
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).expect("any length of key will do");
    mac.update(text.as_bytes());
    mac
}

fn derive(file_key: &FileKey, salt: Option<&[u8]>, what_for: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(salt, file_key).expand(what_for, &mut key).expect("32 bytes are not too many");
    key
}

fn passphrase_key(passphrase: &str, salt: &Salt, work: u8) -> [u8; 32] {
    let params = scrypt::Params::new(work, 8, 1).expect("a number of steps within scrypt's limits");
    let mut key = [0; 32];
    scrypt::scrypt(passphrase.as_bytes(), &[SALT_LABEL, salt].concat(), &params, &mut key)
        .expect("32 bytes are within scrypt's limits");
    key
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(bytes)
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    Base64Unpadded::decode_vec(text).ok()?.try_into().ok()
}

/// A line of the header without its end.
fn line(from: &mut impl BufRead) -> Result<String, Error> {
    let mut bytes = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(cut)?;
    match bytes.pop() {
        Some(b'\n') => String::from_utf8(bytes).map_err(|_| Error::Damaged { at: 0 }),
        _ if bytes.len() as u64 + 1 == LINE_BYTES_MAX => Err(Error::Damaged { at: 0 }),
        _ => Err(Error::Truncated { at: 0 }),
    }
}

fn cut(cause: std::io::Error) -> Error {
    match cause.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Truncated { at: 0 },
        _ => Error::Read { cause },
    }
}

#[cfg(test)]
mod tests;
