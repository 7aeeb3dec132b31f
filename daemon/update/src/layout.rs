//! Where the members of a bundle lie in its stream.
//!
//! ```text
//! manifest.json   the manifest, filled with blanks to what it may take at most
//! carried         a bit a chunk: set where the bundle carries it, for the first chunk of a blob only
//! manifest.sig    512 bytes: who signed, and the signature; blanks while nobody has
//! keys.json       64 KiB: lists of release keys, blanks behind
//! blobs/HASH      one a bit that is set, in order
//! …
//! ```
//!
//! A tar stream without surprises: the manifest's size is read, all else follows from what it and the bits say. So a blob's
//! place is known without reading what lies before it, and its header is compared when it is read. Signing writes over the
//! third and fourth member.

use std::collections::{HashMap, HashSet};

use crate::manifest::{Manifest, Place};
use crate::{Sha256, key_list, tar};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const CARRIED: &str = "carried";
pub(crate) const SIGNATURE: &str = "manifest.sig";
pub(crate) const KEYS: &str = "keys.json";
pub(crate) const SIGNATURE_BYTES: u64 = 512;
pub(crate) const KEYS_BYTES: u64 = key_list::KEY_LISTS_BYTES_MAX;

/// A blob's member.
pub(crate) fn blob_name(sha256: Sha256) -> String {
    format!("blobs/{sha256}")
}

/// Where the members before the blobs begin, with their headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) manifest_bytes: u64,
    pub(crate) carried_bytes: u64,
}

impl Layout {
    pub(crate) fn carried_at(&self) -> u64 {
        tar::member_bytes(self.manifest_bytes)
    }

    pub(crate) fn signature_at(&self) -> u64 {
        self.carried_at() + tar::member_bytes(self.carried_bytes)
    }

    pub(crate) fn keys_at(&self) -> u64 {
        self.signature_at() + tar::member_bytes(SIGNATURE_BYTES)
    }

    pub(crate) fn blobs_at(&self) -> u64 {
        self.keys_at() + tar::member_bytes(KEYS_BYTES)
    }
}

/// A bit for each chunk of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u8>);

impl Bits {
    pub(crate) fn bytes_for(n_chunks: usize) -> u64 {
        (n_chunks as u64).div_ceil(8).max(1)
    }

    pub(crate) fn new(n_chunks: usize) -> Self {
        Self(vec![0; Self::bytes_for(n_chunks) as usize])
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn set(&mut self, chunk: usize) {
        self.0[chunk / 8] |= 1 << (chunk % 8);
    }

    pub(crate) fn get(&self, chunk: usize) -> bool {
        self.0.get(chunk / 8).is_some_and(|byte| byte >> (chunk % 8) & 1 == 1)
    }
}

/// Where the blobs lie that a stream carries.
#[derive(Debug, Default)]
pub(crate) struct Index {
    places: HashMap<Sha256, u64>,
    /// Behind the last one.
    pub(crate) end: u64,
}

impl Index {
    pub(crate) fn new(layout: &Layout, manifest: &Manifest, carried: &Bits) -> Self {
        let mut index = Self { places: HashMap::new(), end: layout.blobs_at() };
        let mut seen = HashSet::new();
        for (i, Place { chunk, .. }) in manifest.chunks().enumerate() {
            if seen.insert(chunk.sha256) && carried.get(i) {
                index.places.insert(chunk.sha256, index.end);
                index.end += tar::member_bytes(u64::from(chunk.stored_bytes()));
            }
        }
        index
    }

    /// Where a blob's header begins; `None` where it isn't carried.
    pub(crate) fn place(&self, blob: Sha256) -> Option<u64> {
        self.places.get(&blob).copied()
    }
}
