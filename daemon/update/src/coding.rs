//! Chunks as they are stored: plain, one zstd frame, or one zstd frame that refers to a whole earlier file.
//!
//! ```text
//! patch    prefix: the base file, up to 1 GiB, in memory        frame: at most one chunk, 8 MiB
//!          [ ==================================== ]             [ refers to any place of the prefix ]
//! ```
//!
//! `zstd --patch-from` makes one frame of a whole file; a frame a chunk keeps what such a file can do, and lets a copy
//! resume at any chunk. Long-distance matching finds the places, however far the new file moved them. Memory is the base
//! file and its table while encoding, the base file and a chunk while decoding.

use zstd::zstd_safe::{CCtx, CParameter, DCtx};

use crate::Sha256;
use crate::manifest::{Chunk, Coding, Stored};

/// zstd's level for what is stored once and read many times.
const LEVEL: i32 = 9;
/// Of patches: matching the base is what counts, and is done by another table.
const PATCH_LEVEL: i32 = 3;
/// Compressed must be smaller by a 64th: else it isn't worth decoding.
const GAIN: usize = 64;

/// Encodes chunks.
pub(crate) struct Encoder<'a> {
    zstd: CCtx<'a>,
    buffer: Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new() -> Self {
        let mut zstd = CCtx::create();
        zstd.set_parameter(CParameter::CompressionLevel(LEVEL)).expect("a level of zstd's");
        Self { zstd, buffer: Vec::new() }
    }

    /// An encoder of patches.
    pub(crate) fn new_patch() -> Self {
        let mut encoder = Self::new();
        for parameter in [
            CParameter::CompressionLevel(PATCH_LEVEL),
            CParameter::EnableLongDistanceMatching(true),
            CParameter::WindowLog(WINDOW_LOG),
        ] {
            encoder.zstd.set_parameter(parameter).expect("a parameter of zstd's");
        }
        encoder
    }

    /// How `plain` is stored, and the bytes; `None` where that would save too little. With `base` it refers to that.
    pub(crate) fn encode(&mut self, plain: &[u8], base: Option<&'a [u8]>) -> Option<(Stored, &[u8])> {
        let coding = match base {
            Some(base) => {
                self.zstd.ref_prefix(base).expect("between frames");
                Coding::Patch
            }
            None => Coding::Zstd,
        };
        self.buffer.clear();
        self.buffer.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        let n = self.zstd.compress2(&mut self.buffer, plain).expect("room for the worst case");
        if n > plain.len() - plain.len() / GAIN - 1 {
            return None;
        }
        let stored = &self.buffer[..n];
        Some((Stored { coding, bytes: n as u32, sha256: Sha256::of(stored) }, stored))
    }
}

/// A window as large as the largest base and a chunk.
const WINDOW_LOG: u32 = 31;

/// Decodes chunks whose stored bytes are known to be the signed ones.
#[derive(Default)]
pub(crate) struct Decoder {
    plain: Vec<u8>,
}

impl Decoder {
    /// The chunk's plain bytes, of the right length and hash; `None` where they are not. `base` is what patches refer to.
    pub(crate) fn decode<'b>(
        &'b mut self,
        chunk: &Chunk,
        stored: &'b [u8],
        base: Option<&[u8]>,
    ) -> Option<&'b [u8]> {
        // As it is: what was hashed already is the chunk.
        let Some(Stored { coding, .. }) = chunk.stored else { return Some(stored) };
        let mut zstd = DCtx::create();
        if coding == Coding::Patch {
            zstd.ref_prefix(base?).ok()?;
        }
        // Limited by what the manifest says, which is limited itself.
        self.plain.clear();
        self.plain.reserve_exact(chunk.bytes as usize);
        zstd.decompress(&mut self.plain, stored).ok()?;
        let is_right = self.plain.len() == chunk.bytes as usize && Sha256::of(&self.plain) == chunk.sha256;
        is_right.then_some(&self.plain)
    }
}
