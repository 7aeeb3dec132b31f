//! A stranger's stick: manifest, lists of keys, partition table and the stream's members. The first byte says what the rest
//! is. What is accepted must be written and read again unchanged, and its sizes must add up.
#![no_main]

use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use update::{Carrier, KeyLists, Manifest, PublicKey, Role, SecretKey, gpt};

fuzz_target!(|input: &[u8]| {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind {
        b'm' => manifest(bytes),
        b'k' => keys(bytes),
        b't' => table(bytes),
        b's' => stream(bytes),
        _ => {}
    }
});

fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    assert_eq!(Manifest::parse(&manifest.to_json()).expect("an accepted manifest"), manifest);
    let sum: u64 = manifest.chunks().map(|place| u64::from(place.chunk.bytes)).sum();
    assert_eq!(sum, manifest.bytes());
    for file in &manifest.files {
        assert!(
            !file.path.contains("..") && !file.path.starts_with('/') && file.path.matches('/').count() < 2
        );
    }
}

fn keys(bytes: &[u8]) {
    static ROOT: OnceLock<PublicKey> = OnceLock::new();
    let root = ROOT
        .get_or_init(|| SecretKey::from_secret(Role::Root, "root", [1; 32]).expect("a name").public_key());
    let Ok(lists) = KeyLists::parse(bytes) else { return };
    assert_eq!(KeyLists::parse(&lists.to_json()).expect("accepted lists"), lists);
    // Signatures can't be found by chance; what leads to them can be walked.
    let _ = lists.newest(root, 0);
}

/// Bytes as a device, as they are and with right checksums, so that what these guard is reached.
fn table(bytes: &[u8]) {
    find(bytes);
    let mut summed = bytes.to_vec();
    let Some(header) = bytes.get(512..1024) else { return };
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes")) as usize;
    let (start, len) = (number(72).saturating_mul(512), number(80).saturating_mul(number(84)));
    if let Some(entries) = bytes.get(start..).and_then(|entries| entries.get(..len)) {
        summed[512 + 88..][..4].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
    }
    summed[512 + 16..][..4].fill(0);
    let crc = crc32fast::hash(&summed[512..512 + number(12).clamp(92, 512)]);
    summed[512 + 16..][..4].copy_from_slice(&crc.to_le_bytes());
    find(&summed);
}

fn find(bytes: &[u8]) {
    let read = |buffer: &mut [u8], at: u64| -> io::Result<()> {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let from = bytes.get(at..).and_then(|from| from.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    if let Ok(range) = gpt::find(&read, bytes.len() as u64) {
        assert!(range.start < range.end && range.end <= bytes.len() as u64);
    }
}

/// Bytes as a stick: opened, its lists read, then as if somebody had signed it.
fn stream(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("room for it");
    let Ok(carrier) = Carrier::from_file(Path::new("stick"), file) else { return };
    let _ = (carrier.claimed_fingerprint(), carrier.key_lists());
    let Ok(bundle) = carrier.unchecked() else { return };
    assert!(bundle.stream_bytes() <= bytes.len() as u64);
    let _ = update::verify(&bundle, &mut |_, _| {});
}
