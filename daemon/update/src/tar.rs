//! Headers of tar members (ustar), so plain that there is one right header for each name and size: reading is comparing.
//!
//! ```text
//! name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1 | link 100 | "ustar\0" "00" | … 512
//! ```
//!
//! Any tar reads what is written here; what is read here are these members and no others: no links, no long names, no
//! devices, no owners.

/// Members begin and end at multiples of this.
pub(crate) const BLOCK: u64 = 512;
/// What ends a stream.
pub(crate) const END_BYTES: u64 = 2 * BLOCK;
/// Eleven octal digits.
const SIZE_MAX: u64 = (1 << 33) - 1;

/// The header of a plain file.
///
/// # Panics
/// A name or size that ustar can't hold: this code has none.
pub(crate) fn header(name: &str, bytes: u64) -> [u8; BLOCK as usize] {
    assert!(name.len() < 100 && bytes <= SIZE_MAX);
    let mut header = [0; BLOCK as usize];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000444\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{bytes:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The size of the member `name` that `header` begins; `None` if it is any other header.
pub(crate) fn size(header: &[u8; BLOCK as usize], name: &str) -> Option<u64> {
    let digits = std::str::from_utf8(&header[124..135]).ok()?;
    let bytes = u64::from_str_radix(digits, 8).ok().filter(|bytes| *bytes <= SIZE_MAX)?;
    (*header == self::header(name, bytes)).then_some(bytes)
}

/// Bytes of a member with its header and what fills its last block.
pub(crate) fn member_bytes(bytes: u64) -> u64 {
    BLOCK + bytes.next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_right_or_none() {
        let right = header("manifest.json", 12_345_678);
        assert_eq!(size(&right, "manifest.json"), Some(12_345_678));
        assert_eq!(size(&right, "manifest.sig"), None);
        for at in 0..right.len() {
            let mut wrong = right;
            wrong[at] ^= 1;
            assert_eq!(size(&wrong, "manifest.json"), None, "byte {at}");
        }
    }

    #[test]
    fn members_fill_their_blocks() {
        assert_eq!([0, 1, 512, 513].map(member_bytes), [512, 1024, 1024, 1536]);
    }
}
