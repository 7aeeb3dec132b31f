//! A manifest's signature as it lies beside it, on a stick and with what was installed: whose it is, and whether to believe it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::key_list::KeyLists;
use crate::keys::{PublicKey, Purpose, Signature};
use crate::trust::{Signer, Trust};
use crate::{Error, Manifest};

/// `manifest.sig`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignatureFile {
    pub(crate) key: PublicKey,
    pub(crate) signature: Signature,
}

/// Reads it.
pub(crate) fn signature_file(path: &Path, signature: &[u8]) -> Result<SignatureFile, Error> {
    if signature.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::Unsigned { path: path.to_owned() });
    }
    serde_json::from_slice(signature).map_err(|_| Error::BadSignature { path: path.to_owned() })
}

/// The key that a manifest was signed with, whosever it is.
fn signing_key(path: &Path, manifest: &[u8], signature: &[u8]) -> Result<PublicKey, Error> {
    let SignatureFile { key, signature } = signature_file(path, signature)?;
    let is_right = key.verifies(Purpose::Manifest, manifest, &signature);
    if is_right { Ok(key) } else { Err(Error::BadSignature { path: path.to_owned() }) }
}

/// Lists of keys as they lie beside a signature; blanks are none.
pub(crate) fn key_lists(keys: &[u8]) -> Result<KeyLists, Error> {
    if keys.iter().all(u8::is_ascii_whitespace) {
        return Ok(KeyLists::default());
    }
    KeyLists::parse(keys).map_err(Error::KeyLists)
}

/// The manifest of these bytes, if somebody signed it who may: a key that `trust` knows, or that a newer list in `keys` names.
/// What the list changes is in the returned trust.
pub(crate) fn check(
    path: &Path,
    manifest: &[u8],
    signature: &[u8],
    keys: &[u8],
    trust: &Trust,
) -> Result<(Manifest, Signer, Trust), Error> {
    let mut trust = trust.clone();
    let key = signing_key(path, manifest, signature)?;
    trust.learn(&key_lists(keys)?)?;
    let unknown = || Error::UnknownKey { path: path.to_owned(), fingerprint: key.fingerprint() };
    let signer = trust.signer(&key).ok_or_else(unknown)?;
    let manifest = parse(path, manifest)?;
    trust.lets_sign(path, &signer, manifest.kind)?;
    Ok((manifest, signer, trust))
}

/// The manifest of these bytes, whoever signed it.
pub(crate) fn parse(path: &Path, manifest: &[u8]) -> Result<Manifest, Error> {
    Manifest::parse(manifest).map_err(|problem| Error::Manifest { path: path.to_owned(), problem })
}
