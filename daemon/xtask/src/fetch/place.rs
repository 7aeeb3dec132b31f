//! Putting a file where it belongs: its bytes are checked before it has its name.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::sets::File;

/// Copies the first `file.bytes` bytes of `source` to `file.path` in `dir`; a file that differs is not left there.
///
/// # Errors
/// The source is shorter, its hash is another, or the disk refuses.
pub(super) fn checked(source: impl Read, dir: &Path, file: &File) -> Result<()> {
    let to = dir.join(&file.path);
    let folder = to.parent().expect("a file in the test-data folder has a parent");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let part = to.with_added_extension("part");
    let found =
        copy(source.take(file.bytes), &part).with_context(|| format!("cannot write {}", part.display()))?;
    if found != (file.bytes, file.sha256.to_owned()) {
        fs::remove_file(&part).context("cannot remove what was fetched")?;
        let (bytes, sha256) = found;
        bail!(
            "{} is not what was pinned: {bytes} bytes with SHA-256 {sha256}, want {} bytes with {}; \
             the package changed or the download is damaged: run the same command again, and if it happens again don't use it",
            file.path,
            file.bytes,
            file.sha256,
        );
    }
    fs::rename(&part, &to).with_context(|| format!("cannot write {}", to.display()))
}

/// Returns how many bytes were copied and their hash.
fn copy(mut source: impl Read, to: &Path) -> Result<(u64, String)> {
    let mut file = fs::File::create(to)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        file.write_all(&buffer[..n])?;
        bytes += n as u64;
    }
    Ok((bytes, hex(&hash.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abc() -> File {
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        File { path: "folder/abc".to_owned(), bytes: 3, sha256 }
    }

    #[test]
    fn keeps_the_first_bytes_of_a_longer_source() {
        let dir = tempfile::tempdir().unwrap();
        checked(&b"abcdef"[..], dir.path(), &abc()).unwrap();
        assert_eq!(fs::read(dir.path().join("folder/abc")).unwrap(), b"abc");
    }

    #[test]
    fn leaves_nothing_of_a_file_with_another_hash() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in [&b"abd"[..], b"ab", b""] {
            let error = checked(wrong, dir.path(), &abc()).unwrap_err().to_string();
            assert!(error.contains("folder/abc is not what was pinned"), "{error}");
            assert_eq!(fs::read_dir(dir.path().join("folder")).unwrap().count(), 0);
        }
    }
}
