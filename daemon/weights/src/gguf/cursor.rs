//! Bounds-checked little-endian reading.

use super::Problem;

/// Bytes a string may have.
const MAX_STRING_BYTES: u64 = 64 << 20;

/// A position in the header.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// Fails unless `need` more bytes are there.
    pub(crate) fn ensure(&self, need: u64, what: &'static str) -> Result<(), Problem> {
        if need <= self.left() {
            return Ok(());
        }
        Err(Problem::Truncated { what, at: self.at(), need, have: self.bytes.len() as u64 })
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: u64, what: &'static str) -> Result<&'a [u8], Problem> {
        self.ensure(n, what)?;
        let end = self.at + usize::try_from(n).expect("no more than the bytes left");
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Problem> {
        Ok(self.take(N as u64, what)?.try_into().expect("N bytes were taken"))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Problem> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Problem> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Problem> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Problem> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of at most `limit`.
    pub(crate) fn count(&mut self, limit: u64, what: &'static str) -> Result<u64, Problem> {
        let at = self.at();
        let got = self.u64(what)?;
        if got > limit {
            return Err(Problem::TooMany { what, at, got, limit });
        }
        Ok(got)
    }

    /// A string of at most [`MAX_STRING_BYTES`].
    pub(crate) fn string(&mut self, what: &'static str) -> Result<&'a str, Problem> {
        let n = self.count(MAX_STRING_BYTES, what)?;
        let at = self.at();
        let bytes = self.take(n, what)?;
        std::str::from_utf8(bytes).map_err(|_| Problem::Utf8 { what, at })
    }
}
