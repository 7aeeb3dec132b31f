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
pub(crate) fn signing_key(path: &Path, manifest: &[u8], signature: &[u8]) -> Result<PublicKey, Error> {
    let SignatureFile { key, signature } = signature_file(path, signature)?;
    let is_right = key.verifies(Purpose::Manifest, manifest, &signature);
    if is_right { Ok(key) } else { Err(Error::BadSignature { path: path.to_owned() }) }
}

/// Who has that key, if the box believes them.
pub(crate) fn believe(path: &Path, key: &PublicKey, trust: &Trust) -> Result<Signer, Error> {
    let unknown = || Error::UnknownKey { path: path.to_owned(), fingerprint: key.fingerprint() };
    trust.signer(key).ok_or_else(unknown)
}

/// Lists of keys as they lie beside a signature; blanks are none.
pub(crate) fn key_lists(keys: &[u8]) -> Result<KeyLists, Error> {
    if keys.iter().all(u8::is_ascii_whitespace) {
        return Ok(KeyLists::default());
    }
    KeyLists::parse(keys).map_err(Error::KeyLists)
}

/// The manifest of these bytes, if a key that `trust` knows signed it.
pub(crate) fn signed_manifest(
    path: &Path,
    manifest: &[u8],
    signature: &[u8],
    trust: &Trust,
) -> Result<Manifest, Error> {
    let signer = believe(path, &signing_key(path, manifest, signature)?, trust)?;
    let manifest =
        Manifest::parse(manifest).map_err(|problem| Error::Manifest { path: path.to_owned(), problem })?;
    trust.lets_sign(path, &signer, manifest.kind)?;
    Ok(manifest)
}
