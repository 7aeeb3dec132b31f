//! What a boot file starts: of its sections only the command line and the release are read.
//!
//! ```text
//! [ MZ … 0x3c: offset ] … [ PE 0 0 | machine, sections: u16, …, size of optional header: u16, … | optional header ]
//! [ name: 8 bytes | size in memory: u32 | address | size in the file: u32 | offset in the file: u32 | … 40 bytes ] × sections
//!   .cmdline   "console=… roothash=HEX"
//!   .osrel     "ID=debian … IMAGE_VERSION=0.1.0"
//! ```
//!
//! Every offset and size is checked against the file and a limit before anything is read: the file may be a stranger's.
//!
//! Source: PE Format, Microsoft Learn; UAPI.5 Unified Kernel Image.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Problem, RootHash, SystemVersion};
use crate::gpt::{ReadAt, u32_at};
use crate::stream;

/// Where the offset of the PE header is read, and where that may lie.
const OFFSET_AT: u64 = 0x3c;
const HEADER_AT_MAX: u64 = 64 << 10;
/// Signature and COFF header.
const HEADER_BYTES: usize = 24;
const SECTION_BYTES: usize = 40;
/// As Windows has it.
const SECTIONS_MAX: usize = 96;
/// Of a section with text.
const TEXT_BYTES_MAX: u32 = 64 << 10;

/// What a boot file says of the system that it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFacts {
    /// The root hash on its command line.
    pub root_hash: RootHash,
    /// The version by which the boot loader sorts it.
    pub version: SystemVersion,
}

/// Reads a boot file of `bytes`.
///
/// # Errors
/// It is none, or it doesn't name exactly one root hash and one version.
pub fn boot_facts(read_at: &ReadAt<'_>, bytes: u64) -> Result<BootFacts, Problem> {
    let cmdline = text(read_at, bytes, b".cmdline")?;
    let wrong = |what| Problem::BootFile { what };
    let root_hash =
        RootHash::from_cmdline(&cmdline).ok_or(wrong("its command line has not one roothash="))?;
    let release = text(read_at, bytes, b".osrel\0\0")?;
    let mut versions = release.lines().filter_map(|line| line.strip_prefix("IMAGE_VERSION="));
    let version = versions.next().filter(|_| versions.next().is_none());
    let version = version.and_then(|version| version.trim().trim_matches(['"', '\'']).parse().ok());
    Ok(BootFacts { root_hash, version: version.ok_or(wrong("its release has not one IMAGE_VERSION="))? })
}

/// As [`boot_facts`], of an open file.
pub(super) fn read(file: &File) -> Result<BootFacts, Problem> {
    let bytes = stream::device_bytes(file).map_err(Problem::unreadable)?;
    boot_facts(&|buffer, at| file.read_exact_at(buffer, at), bytes)
}

/// The text of the one section of a name.
fn text(read_at: &ReadAt<'_>, bytes: u64, name: &[u8; 8]) -> Result<String, Problem> {
    let wrong = |what| Err(Problem::BootFile { what });
    let table = sections(read_at, bytes)?;
    let ours: Vec<_> = table.chunks_exact(SECTION_BYTES).filter(|section| section[..8] == name[..]).collect();
    let [section] = ours[..] else {
        return wrong("it has not one section for its command line and release each");
    };
    let (in_memory, in_file, at) = (u32_at(section, 8), u32_at(section, 16), u32_at(section, 20));
    let size = in_memory.min(in_file);
    if size > TEXT_BYTES_MAX || u64::from(at) + u64::from(size) > bytes {
        return wrong("a section is out of bounds");
    }
    let mut text = vec![0; size as usize];
    read_at(&mut text, u64::from(at)).map_err(Problem::unreadable)?;
    let text = String::from_utf8(text).or(wrong("a section is no text"))?;
    Ok(text.trim_end_matches('\0').to_owned())
}

/// The table of sections.
fn sections(read_at: &ReadAt<'_>, bytes: u64) -> Result<Vec<u8>, Problem> {
    let wrong = |what| Err(Problem::BootFile { what });
    let read = |buffer: &mut [u8], at: u64| {
        if at + buffer.len() as u64 > bytes {
            return Err(Problem::BootFile { what: "it is cut short" });
        }
        read_at(buffer, at).map_err(Problem::unreadable)
    };
    let mut magic = [0; 2];
    read(&mut magic, 0)?;
    let mut offset = [0; 4];
    read(&mut offset, OFFSET_AT)?;
    let header_at = u64::from(u32::from_le_bytes(offset));
    if magic != *b"MZ" || header_at > HEADER_AT_MAX {
        return wrong("it is no EFI program");
    }
    let mut header = [0; HEADER_BYTES];
    read(&mut header, header_at)?;
    if header[..4] != *b"PE\0\0" {
        return wrong("it is no EFI program");
    }
    let [n, optional] = [6, 20].map(|at| usize::from(u16::from_le_bytes([header[at], header[at + 1]])));
    if n > SECTIONS_MAX {
        return wrong("it has too many sections");
    }
    let mut table = vec![0; n * SECTION_BYTES];
    read(&mut table, header_at + (HEADER_BYTES + optional) as u64)?;
    Ok(table)
}
