//! What a system version is put into and started by: the box's partition table, and boot files, which lie in a folder that
//! others may write to. The first byte says which. Whatever is in them, it is an error or an answer within bounds.
#![no_main]

use std::io::{self, Seek, SeekFrom, Write};

use libfuzzer_sys::fuzz_target;
use update::system::{Disk, RootHash, boot_facts};

const SECTOR: usize = 512;
/// Of the drive: the input is its beginning and, as long, its end.
const SECTORS: usize = 1984;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind {
        b'b' => boot_file(bytes),
        b'd' => drive(bytes),
        _ => {}
    }
});

fn boot_file(bytes: &[u8]) {
    let read = |buffer: &mut [u8], at: u64| -> io::Result<()> {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let from = bytes.get(at..).and_then(|from| from.get(..buffer.len()));
        buffer.copy_from_slice(from.expect("sizes are checked before anything is read"));
        Ok(())
    };
    if let Ok(facts) = boot_facts(&read, bytes.len() as u64) {
        assert!(facts.version.to_string().len() < 50);
        assert_eq!(RootHash::from_hex(&facts.root_hash.to_string()), Some(facts.root_hash));
    }
}

/// As it is, and with right checksums, so that what these guard is reached.
fn drive(bytes: &[u8]) {
    if bytes.len() < 4 * SECTOR || bytes.len() > SECTORS * SECTOR {
        return;
    }
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    let mut disk = vec![0; SECTORS * SECTOR];
    disk[..head.len()].copy_from_slice(head);
    let at = disk.len() - tail.len();
    disk[at..].copy_from_slice(tail);
    open(&disk);
    sum(&mut disk, SECTOR);
    sum(&mut disk, (SECTORS - 1) * SECTOR);
    open(&disk);
}

fn open(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0))).expect("room for it");
    let Ok(disk) = Disk::open(file.path()) else { return };
    // Of the seed's version.
    let hash = RootHash::from_hex(HASH).expect("64 digits");
    if let Ok(slots) = disk.slots(&hash) {
        assert!(slots.running.holds(&hash) && !slots.idle.holds(&hash));
    }
}

const HASH: &str = "b10da48cea4c09676b8e0efcd806941465060736032bb898420d0863dca72538";

fn sum(disk: &mut [u8], header: usize) {
    let number =
        |at: usize| u32::from_le_bytes(disk[header + at..][..4].try_into().expect("4 bytes")) as usize;
    let (start, len) = (number(72).saturating_mul(SECTOR), number(80).saturating_mul(number(84)));
    let bytes = number(12).clamp(92, SECTOR);
    if let Some(entries) = disk.get(start..).and_then(|entries| entries.get(..len)) {
        let crc = crc32fast::hash(entries);
        disk[header + 88..][..4].copy_from_slice(&crc.to_le_bytes());
    }
    disk[header + 16..][..4].fill(0);
    let crc = crc32fast::hash(&disk[header..header + bytes]);
    disk[header + 16..][..4].copy_from_slice(&crc.to_le_bytes());
}
