//! The system's own bundle: the folder that `wels bundle create --kind system` packs, for a box that runs an earlier version.
//!
//! ```text
//! system_VERSION/root.img          the root slot's bytes
//! system_VERSION/root-verity.img   its hashes
//! system_VERSION/boot.efi          kernel, initrd and command line, which names the root hash
//! system_VERSION/system.json       {"version":"0.1.0","roothash":"…"}
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Files;

/// What stands before the root hash on a command line.
const WORD: &[u8] = b"roothash=";
const HASH_DIGITS: usize = 64;

/// Makes it anew of the parts beside the image: links, so it takes no room.
///
/// # Errors
/// A part is missing, or the boot file names no root hash, or several.
pub(super) fn write(files: &Files) -> Result<()> {
    let folder = files.system();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let boot = folder.join("boot.efi");
    let parts = [("root.raw", "root.img"), ("root-verity.raw", "root-verity.img"), ("efi", "boot.efi")];
    for (kind, name) in parts {
        let (from, to) = (files.kind(kind), folder.join(name));
        fs::hard_link(&from, &to)
            .with_context(|| format!("cannot link {} to {}", from.display(), to.display()))?;
    }
    let roothash = read_roothash(&boot)?;
    let about = json!({ "version": files.version, "roothash": roothash });
    fs::write(folder.join("system.json"), about.to_string()).context("cannot write system.json")
}

fn read_roothash(boot: &Path) -> Result<String> {
    let bytes = fs::read(boot).with_context(|| format!("cannot read {}", boot.display()))?;
    roothash(&bytes).with_context(|| format!("{}", boot.display()))
}

/// The one hash that the file names. Kernel and initrd are compressed: the words stand in the command line only.
fn roothash(boot: &[u8]) -> Result<String> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let after = boot.windows(WORD.len()).enumerate().filter(|(_, word)| *word == WORD);
    let hashes = after.filter_map(|(at, _)| boot.get(at + WORD.len()..at + WORD.len() + HASH_DIGITS));
    let mut hashes: Vec<_> = hashes.filter(|hash| hash.iter().all(is_digit)).collect();
    hashes.dedup();
    match hashes[..] {
        [hash] => Ok(String::from_utf8_lossy(hash).into_owned()),
        _ => bail!("it names {} root hashes, not one: was the root built with Verity=?", hashes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_hash_is_read_off_the_command_line() {
        let hash = "0f".repeat(32);
        let file = |words: &str| format!("MZ\0\0{words}\0rest").into_bytes();
        assert_eq!(roothash(&file(&format!("console=tty0 roothash={hash} gpt"))).unwrap(), hash);
        for words in ["roothash=", "roothash=0f0f", &format!("roothash={}", "0g".repeat(32)), "quiet"] {
            assert!(roothash(&file(words)).is_err(), "{words}");
        }
        let two = format!("roothash={hash} roothash={}", "1e".repeat(32));
        assert!(roothash(&file(&two)).is_err());
    }
}
