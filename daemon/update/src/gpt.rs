//! A partition table with one partition, written and read by hand: a stranger's stick meets no other parser than this.
//!
//! ```text
//! sector   0           1        2 … 33    2048 …            n-33 … n-2   n-1
//!          MBR         header   entries   WELS-BUNDLE       entries      header
//!          (protects)  CRC      CRC       the tar stream    (again)      (again)
//! ```
//!
//! Sectors have 512 bytes, whatever the stick says. Of a table that is read only what leads to the one partition is
//! believed: sums and bounds are checked, and where the first copy is damaged the second is tried.
//!
//! Source: UEFI 2.10, chapter 5. By hand because it is all there is to it: a crate for any table would bring UUIDs,
//! editing and a larger surface to fuzz.

use std::io;
use std::ops::Range;

/// The partition's label: udev and people know a bundle by it.
pub const LABEL: &str = "WELS-BUNDLE";
/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Where the partition begins, and what its end is rounded to.
pub const ALIGN: u64 = 1 << 20;
/// Bytes of the table behind the partition.
const TAIL_BYTES: u64 = SECTOR + ENTRIES_BYTES;
const ENTRY_BYTES: u64 = 128;
const N_ENTRIES: u64 = 128;
const ENTRIES_BYTES: u64 = ENTRY_BYTES * N_ENTRIES;
/// What is read of a stranger's list of partitions.
const ENTRIES_BYTES_MAX: u64 = 256 << 10;
const HEADER_BYTES: usize = 92;
/// Bytes of the label in an entry: UTF-16.
const LABEL_BYTES: usize = 72;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// 9e7a5ac5-7c1e-4b1b-9a3c-2f6d8b574c53, as it lies on the disk. A type of its own: no system offers to format or mount it.
const TYPE: [u8; 16] =
    [0xc5, 0x5a, 0x7a, 0x9e, 0x1e, 0x7c, 0x1b, 0x4b, 0x9a, 0x3c, 0x2f, 0x6d, 0x8b, 0x57, 0x4c, 0x53];

/// Why a table leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No table, or none that can be believed.
    #[error("its partition table is damaged ({0})")]
    Damaged(&'static str),
    /// A table without a bundle's partition, or with several.
    #[error("it has {0} partitions labelled {LABEL}")]
    Partitions(usize),
    /// The stick can't be read.
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads exactly so many bytes at an offset.
pub type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// Bytes of a device that holds a partition of `bytes`.
pub(crate) fn device_bytes(bytes: u64) -> u64 {
    // A megabyte for each copy of the table.
    ALIGN + bytes.max(1).next_multiple_of(ALIGN) + ALIGN
}

/// The bytes of the partition on a device of `device_bytes`: all of it but the table.
pub(crate) fn partition(device_bytes: u64) -> Range<u64> {
    ALIGN..((device_bytes / SECTOR * SECTOR).saturating_sub(TAIL_BYTES) / ALIGN * ALIGN).max(ALIGN)
}

/// The first megabyte's beginning, and the last sectors with their offset, for a device of `device_bytes`. `seed` makes
/// the identifiers.
pub(crate) fn table(device_bytes: u64, seed: &[u8; 32]) -> (Vec<u8>, Vec<u8>, u64) {
    let sectors = device_bytes / SECTOR;
    let part = partition(device_bytes);
    let entries = entries(&part, seed);
    let tail_at = sectors * SECTOR - TAIL_BYTES;
    let header = |at: u64, other: u64, entries_at: u64| {
        header(&Header { at, other, entries_at, sectors, entries_crc: crc32fast::hash(&entries) }, seed)
    };
    let mut head = protective_mbr(sectors);
    head.extend(header(1, sectors - 1, 2));
    head.extend(&entries);
    let mut tail = entries.clone();
    tail.extend(header(sectors - 1, 1, tail_at / SECTOR));
    (head, tail, tail_at)
}

fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; SECTOR as usize];
    // One partition of type 0xee over everything: old tools see a full disk.
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

fn entries(part: &Range<u64>, seed: &[u8; 32]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(ENTRIES_BYTES as usize);
    entry.extend(TYPE);
    entry.extend(guid(&seed[16..]));
    entry.extend((part.start / SECTOR).to_le_bytes());
    entry.extend((part.end / SECTOR - 1).to_le_bytes());
    // Bit 60: read-only; bit 63: don't mount by yourself.
    entry.extend((1_u64 << 60 | 1 << 63).to_le_bytes());
    entry.extend(label_bytes(LABEL));
    entry.resize(ENTRIES_BYTES as usize, 0);
    entry
}

fn label_bytes(label: &str) -> Vec<u8> {
    let mut label: Vec<u8> = label.encode_utf16().flat_map(u16::to_le_bytes).collect();
    label.resize(LABEL_BYTES, 0);
    label
}

/// Random bytes as a GUID of version 4.
fn guid(random: &[u8]) -> [u8; 16] {
    let mut guid: [u8; 16] = random[..16].try_into().expect("16 bytes");
    guid[7] = guid[7] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    guid
}

/// What of a header is not the same everywhere, in sectors.
struct Header {
    at: u64,
    other: u64,
    entries_at: u64,
    sectors: u64,
    entries_crc: u32,
}

fn header(header: &Header, seed: &[u8; 32]) -> Vec<u8> {
    let table_sectors = ENTRIES_BYTES / SECTOR;
    let mut bytes = Vec::with_capacity(SECTOR as usize);
    bytes.extend(SIGNATURE);
    bytes.extend(REVISION.to_le_bytes());
    bytes.extend((HEADER_BYTES as u32).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(header.at.to_le_bytes());
    bytes.extend(header.other.to_le_bytes());
    bytes.extend((2 + table_sectors).to_le_bytes());
    bytes.extend((header.sectors - table_sectors - 2).to_le_bytes());
    bytes.extend(guid(seed));
    bytes.extend(header.entries_at.to_le_bytes());
    bytes.extend((N_ENTRIES as u32).to_le_bytes());
    bytes.extend((ENTRY_BYTES as u32).to_le_bytes());
    bytes.extend(header.entries_crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(SECTOR as usize, 0);
    bytes
}

/// Where the bundle's partition lies on a device of `device_bytes`, in bytes.
///
/// # Errors
/// [`Problem`]: no table, a damaged one, or not exactly one such partition.
pub fn find(read_at: &ReadAt<'_>, device_bytes: u64) -> Result<Range<u64>, Problem> {
    let sectors = device_bytes / SECTOR;
    if sectors < 2 + 2 * TAIL_BYTES / SECTOR {
        return Err(Problem::Damaged("too small for one"));
    }
    let first = find_by(read_at, sectors, 1);
    match first {
        Err(Problem::Damaged(_)) => find_by(read_at, sectors, sectors - 1).or(first),
        found => found,
    }
}

/// One of a table's two copies, its sums right.
pub(crate) struct Copy {
    pub(crate) header: [u8; SECTOR as usize],
    pub(crate) entries: Vec<u8>,
    pub(crate) entry_bytes: usize,
}

/// Reads the copy whose header lies in a sector.
pub(crate) fn read_copy(read_at: &ReadAt<'_>, sectors: u64, header_at: u64) -> Result<Copy, Problem> {
    let mut header = [0; SECTOR as usize];
    read_at(&mut header, header_at * SECTOR)?;
    let entry_bytes = check_header(&header, header_at)?;
    let (entries_at, n_entries) = (u64_at(&header, 72), u64::from(u32_at(&header, 80)));
    let bytes = entry_bytes * n_entries;
    let end = entries_at.checked_mul(SECTOR).and_then(|at| at.checked_add(bytes));
    if bytes == 0 || bytes > ENTRIES_BYTES_MAX || end.is_none_or(|end| end > sectors * SECTOR) {
        return Err(Problem::Damaged("its entries are out of bounds"));
    }
    let mut entries = vec![0; bytes as usize];
    read_at(&mut entries, entries_at * SECTOR)?;
    if crc32fast::hash(&entries) != u32_at(&header, 88) {
        return Err(Problem::Damaged("checksum of its entries"));
    }
    Ok(Copy { header, entries, entry_bytes: entry_bytes as usize })
}

/// Whether an entry is a partition of this label.
pub(crate) fn is_labelled(entry: &[u8], label: &str) -> bool {
    entry[..16] != [0; 16] && entry[56..56 + LABEL_BYTES] == label_bytes(label)[..]
}

fn find_by(read_at: &ReadAt<'_>, sectors: u64, header_at: u64) -> Result<Range<u64>, Problem> {
    let Copy { entries, entry_bytes, .. } = read_copy(read_at, sectors, header_at)?;
    let ours: Vec<_> = entries.chunks_exact(entry_bytes).filter(|entry| is_labelled(entry, LABEL)).collect();
    let [entry] = ours[..] else { return Err(Problem::Partitions(ours.len())) };
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    if first < 2 || last < first || last >= sectors {
        return Err(Problem::Damaged("the partition is out of bounds"));
    }
    Ok(first * SECTOR..(last + 1) * SECTOR)
}

/// Checks a header's sums and returns the size of its entries.
fn check_header(header: &[u8; SECTOR as usize], at: u64) -> Result<u64, Problem> {
    if &header[..8] != SIGNATURE || u32_at(header, 8) != REVISION {
        return Err(Problem::Damaged("no signature"));
    }
    let bytes = u32_at(header, 12) as usize;
    if !(HEADER_BYTES..=SECTOR as usize).contains(&bytes) {
        return Err(Problem::Damaged("size of its header"));
    }
    let mut summed = header[..bytes].to_vec();
    summed[16..20].fill(0);
    if crc32fast::hash(&summed) != u32_at(header, 16) {
        return Err(Problem::Damaged("checksum of its header"));
    }
    if u64_at(header, 24) != at {
        return Err(Problem::Damaged("its header lies elsewhere"));
    }
    match u64::from(u32_at(header, 84)) {
        bytes @ (128 | 256 | 512 | 1024) => Ok(bytes),
        _ => Err(Problem::Damaged("size of its entries")),
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
