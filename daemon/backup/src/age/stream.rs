//! What follows a header: chunks of 64 KiB, each sealed with its number and whether it is the last.
//!
//! ```text
//! chunk    sealed 64 KiB (the last: 1 byte to 64 KiB) | tag, 16 bytes
//! nonce    number of the chunk, 11 bytes, the highest first | 1 for the last chunk, else 0
//! ```

use std::io::{BufRead, Read, Write};

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};

use super::TAG_BYTES;
use crate::Error;

pub(super) const CHUNK_BYTES: usize = 64 << 10;

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce.into()
}

/// Seals what is written to it.
pub(crate) struct Writer<W> {
    to: W,
    cipher: ChaCha20Poly1305,
    /// Of the chunk that is being filled.
    number: u64,
    chunk: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W, key: &[u8; 32]) -> Self {
        let chunk = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        Self { to, cipher: ChaCha20Poly1305::new(key.into()), number: 0, chunk }
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            // Only now it is known that it is not the last.
            if self.chunk.len() == CHUNK_BYTES {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the last chunk; without it nothing that was written is believed.
    pub(crate) fn finish(mut self) -> Result<W, Error> {
        self.seal(true)?;
        self.to.flush().map_err(|cause| Error::Write { cause })?;
        Ok(self.to)
    }

    fn seal(&mut self, is_last: bool) -> Result<(), Error> {
        let nonce = nonce(self.number, is_last);
        self.cipher.encrypt_in_place(&nonce, b"", &mut self.chunk).expect("64 KiB are not too many");
        self.to.write_all(&self.chunk).map_err(|cause| Error::Write { cause })?;
        self.chunk.clear();
        self.number += 1;
        Ok(())
    }
}

/// Opens what is read from it: bytes come out only of chunks that are as they were written.
pub(crate) struct Reader<R> {
    from: R,
    cipher: ChaCha20Poly1305,
    /// Of the next chunk.
    number: u64,
    chunk: Vec<u8>,
    /// Bytes of the chunk that were given out.
    given: usize,
    was_last: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(from: R, key: &[u8; 32]) -> Self {
        let cipher = ChaCha20Poly1305::new(key.into());
        Self { from, cipher, number: 0, chunk: Vec::new(), given: 0, was_last: false }
    }

    /// Fills `bytes`.
    pub(crate) fn read_exact(&mut self, mut bytes: &mut [u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let there = self.some()?;
            if there.is_empty() {
                return Err(Error::Contents { what: "it ends too early".into() });
            }
            let take = there.len().min(bytes.len());
            let (now, later) = bytes.split_at_mut(take);
            now.copy_from_slice(&there[..take]);
            bytes = later;
            self.given += take;
        }
        Ok(())
    }

    /// That all was read, to the last byte of the last chunk.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        if self.some()?.is_empty() {
            Ok(())
        } else {
            Err(Error::Contents { what: "more follows than it says".into() })
        }
    }

    /// What comes next; empty at the end.
    fn some(&mut self) -> Result<&[u8], Error> {
        if self.given == self.chunk.len() && !self.was_last {
            self.open()?;
        }
        Ok(&self.chunk[self.given..])
    }

    fn open(&mut self) -> Result<(), Error> {
        let read = |cause| Error::Read { cause };
        self.chunk.clear();
        self.given = 0;
        let sealed_bytes = (CHUNK_BYTES + TAG_BYTES) as u64;
        (&mut self.from).take(sealed_bytes).read_to_end(&mut self.chunk).map_err(read)?;
        let is_last = self.from.fill_buf().map_err(read)?.is_empty();
        let at = self.number * CHUNK_BYTES as u64;
        let opened = self.cipher.decrypt_in_place(&nonce(self.number, is_last), b"", &mut self.chunk);
        // An empty chunk ends an empty file, and no other.
        if opened.is_err() || (self.chunk.is_empty() && self.number > 0) {
            self.chunk.clear();
            return Err(if is_last { Error::Truncated { at } } else { Error::Damaged { at } });
        }
        self.was_last = is_last;
        self.number += 1;
        Ok(())
    }
}
