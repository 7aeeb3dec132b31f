//! Members of a tar (ustar), so plain that there is one right header for each name and size: reading is comparing.
//!
//! ```text
//! name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1 | link 100 | "ustar\0" "00" | … 512
//! bytes, filled up with zeros to whole blocks of 512; behind the last member two blocks of zeros
//! ```

use std::io::{BufRead, Write};

use crate::Error;
use crate::age::{Reader, Writer};

const BLOCK: usize = 512;
/// Eleven octal digits.
pub(crate) const MEMBER_BYTES_MAX: u64 = (1 << 33) - 1;

/// Places and values of what is the same in every header: for its owner alone, no owner's name, no time.
const FIXED: [(usize, &[u8]); 7] = [
    (100, b"0000600\0"),
    (108, b"0000000\0"),
    (116, b"0000000\0"),
    (136, b"00000000000\0"),
    (148, b"        "),
    (156, b"0"),
    (257, b"ustar\x0000"),
];
const SIZE_AT: usize = 124;
const SUM_AT: usize = 148;

fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    assert!(name.len() < 100 && bytes <= MEMBER_BYTES_MAX);
    let mut header = [0; BLOCK];
    let size = format!("{bytes:011o}\0");
    for (at, text) in FIXED.into_iter().chain([(0, name.as_bytes()), (SIZE_AT, size.as_bytes())]) {
        header[at..at + text.len()].copy_from_slice(text);
    }
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[SUM_AT..SUM_AT + 8].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn padding(bytes: u64) -> usize {
    (bytes.next_multiple_of(BLOCK as u64) - bytes) as usize
}

/// Writes the header of a member whose bytes follow; then comes [`end_member`].
pub(crate) fn begin_member<W: Write>(to: &mut Writer<W>, name: &str, bytes: u64) -> Result<(), Error> {
    to.write(&header(name, bytes))
}

pub(crate) fn end_member<W: Write>(to: &mut Writer<W>, bytes: u64) -> Result<(), Error> {
    to.write(&[0; BLOCK][..padding(bytes)])
}

pub(crate) fn end<W: Write>(to: &mut Writer<W>) -> Result<(), Error> {
    to.write(&[0; 2 * BLOCK])
}

/// Reads the header of the member `name`, which says how large it is.
pub(crate) fn read_size<R: BufRead>(from: &mut Reader<R>, name: &str) -> Result<u64, Error> {
    let mut found = [0; BLOCK];
    from.read_exact(&mut found)?;
    let digits = std::str::from_utf8(&found[SIZE_AT..SIZE_AT + 11]).ok();
    let bytes = digits.and_then(|digits| u64::from_str_radix(digits, 8).ok());
    let right = bytes.filter(|&bytes| bytes <= MEMBER_BYTES_MAX && found == header(name, bytes));
    right.ok_or_else(|| Error::Contents { what: format!("{name} does not come where it should") })
}

/// Reads what fills a member's last block.
pub(crate) fn read_padding<R: BufRead>(from: &mut Reader<R>, bytes: u64) -> Result<(), Error> {
    read_zeros(from, padding(bytes))
}

/// Reads the end, behind which nothing comes.
pub(crate) fn read_end<R: BufRead>(from: &mut Reader<R>) -> Result<(), Error> {
    read_zeros(from, 2 * BLOCK)?;
    from.end()
}

fn read_zeros<R: BufRead>(from: &mut Reader<R>, count: usize) -> Result<(), Error> {
    let mut bytes = [0; 2 * BLOCK];
    from.read_exact(&mut bytes[..count])?;
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    Err(Error::Contents { what: "something lies between its parts".into() })
}
