//! Bundles that no honest tool makes: their manifests lie, and are signed by a key that the box believes all the same.
//!
//! Written from the description of the format, not with its code.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Maker;

/// The one blob, eight megabytes of it.
const BLOB_BYTES: usize = 8 << 20;
const BLOCK: usize = 512;
const SIGNATURE_BYTES: usize = 512;
const KEYS_BYTES: usize = 64 << 10;
/// A claim of a hundred gigabytes, made of one blob again and again.
const CLAIMED_CHUNKS: usize = 12_800;

/// What a manifest may lie about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A file is larger than its chunks together.
    Size,
    /// A file lies above the folder it belongs in.
    Path,
    /// A hundred gigabytes, all of them accounted for.
    Hundred,
    /// More blobs than the stick has bytes.
    Truncated,
}

/// Makes a FAT32 stick with such a bundle on it.
pub(crate) fn lie(maker: &Maker, what: Lie) -> Result<PathBuf> {
    let folder = maker.path(&format!("lie-{what:?}").to_ascii_lowercase());
    let bundle = folder.join("wels-bundle");
    fs::create_dir_all(&bundle)?;
    let blob: Vec<u8> = (0..BLOB_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    let blob_path = folder.join("blob");
    fs::write(&blob_path, &blob)?;
    let output = Command::new("sha256sum").arg(&blob_path).output().context("cannot start sha256sum")?;
    let sha256 = String::from_utf8_lossy(&output.stdout).chars().take(64).collect::<String>();
    let n_chunks = if what == Lie::Hundred { CLAIMED_CHUNKS } else { 1 };
    let mut carried = vec![0; n_chunks.div_ceil(8)];
    carried[0] = 1;
    let mut stream = Vec::new();
    let mut manifest = manifest(what, n_chunks, &sha256).to_string().into_bytes();
    // Where numbers end is nobody's business: blanks behind JSON are JSON.
    manifest.push(b' ');
    member(&mut stream, "manifest.json", &manifest);
    member(&mut stream, "carried", &carried);
    member(&mut stream, "manifest.sig", &[b' '; SIGNATURE_BYTES]);
    member(&mut stream, "keys.json", &[b' '; KEYS_BYTES]);
    member(&mut stream, &format!("blobs/{sha256}"), &blob);
    stream.extend([0; 2 * BLOCK]);
    if what == Lie::Truncated {
        stream.truncate(stream.len() - BLOB_BYTES / 2);
    }
    fs::write(bundle.join("bundle.tar.000"), &stream)?;
    maker.sign_anything(&folder)?;
    let image = folder.with_extension("fat");
    maker.fat_of(&bundle, &image)?;
    fs::remove_dir_all(&folder)?;
    Ok(image)
}

fn manifest(what: Lie, n_chunks: usize, sha256: &str) -> Value {
    let chunk = json!({ "bytes": BLOB_BYTES, "sha256": sha256 });
    let honest = n_chunks * BLOB_BYTES;
    let bytes = if what == Lie::Size { honest + 1 } else { honest };
    let path = if what == Lie::Path { "../../wels/wels.db" } else { "pack.json" };
    let file = json!({ "path": path, "bytes": bytes, "sha256": sha256, "chunks": vec![chunk; n_chunks] });
    json!({
        "format": 1, "kind": "model", "name": "liar", "title": "A liar", "version": 1, "created": "", "requires": {},
        "files": [file],
    })
}

/// A tar member: a header with but one way to write it, the bytes, zeros to the end of the block.
fn member(stream: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000444\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", bytes.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    stream.extend(header);
    stream.extend(bytes);
    stream.resize(stream.len().next_multiple_of(BLOCK), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_stream_is_what_tar_reads() {
        let mut stream = Vec::new();
        member(&mut stream, "manifest.json", &[b'x'; 700]);
        member(&mut stream, "carried", &[1]);
        stream.extend([0; 2 * BLOCK]);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &stream).unwrap();
        let output = Command::new("tar").arg("-tvf").arg(file.path()).output().unwrap();
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: Vec<_> = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert!(output.status.success() && found.len() == 2, "{list}");
        assert_eq!((found[0][2], found[0].last()), ("700", Some(&"manifest.json")));
        assert_eq!((found[1][2], found[1].last()), ("1", Some(&"carried")));
    }

    #[test]
    fn lies_are_lies_of_one_kind() {
        let bytes = |what, n| manifest(what, n, "00")["files"][0]["bytes"].as_u64().unwrap();
        assert_eq!(bytes(Lie::Hundred, CLAIMED_CHUNKS), 100 << 30);
        assert_eq!(bytes(Lie::Size, 1), BLOB_BYTES as u64 + 1);
        assert!(manifest(Lie::Path, 1, "00")["files"][0]["path"].as_str().unwrap().starts_with("../"));
    }
}
