//! A bundle read from end to end: every blob it carries, and where it carries all, every file's hash.

use crate::coding::Decoder;
use crate::hash::Hasher;
use crate::{Bundle, Error};

/// What was found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: usize,
    /// Their stored bytes.
    pub bytes: u64,
    /// Blobs it leaves to the version before.
    pub left_out: usize,
    /// Chunks whose plain bytes need a file that isn't in the bundle.
    pub patches: usize,
}

/// Reads and checks everything a bundle carries; `progress` is told bytes done and in all.
///
/// # Errors
/// The first blob or file that is not what the manifest says.
pub fn verify(bundle: &Bundle, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, Error> {
    let (blobs, bytes, left_out) = bundle.contents();
    let total = bundle.manifest.bytes();
    let (mut decoder, mut buffer, mut done, mut patches) = (Decoder::default(), Vec::new(), 0, 0);
    bundle.forget_cached();
    for entry in &bundle.manifest.files {
        let mut hasher = Some(Hasher::default());
        for chunk in &entry.chunks {
            let stored = bundle.read(chunk, &mut buffer)?;
            patches += usize::from(stored.is_some() && chunk.is_patch());
            match stored.filter(|_| !chunk.is_patch()) {
                Some(stored) => {
                    let plain = decoder.decode(chunk, stored, None).ok_or_else(|| bundle.corrupt(chunk))?;
                    hasher.iter_mut().for_each(|hasher| hasher.update(plain));
                }
                None => hasher = None,
            }
            done += u64::from(chunk.bytes);
            progress(done, total);
        }
        if hasher.is_some_and(|hasher| hasher.finish() != entry.sha256) {
            let (path, file) = (bundle.path().to_owned(), entry.path.clone());
            return Err(Error::Corrupt { path, file, offset: 0 });
        }
    }
    Ok(Verified { blobs, bytes, left_out, patches })
}
