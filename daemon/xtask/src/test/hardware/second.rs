//! A second model for a stick: the first by another name, so that its answers say which one answers, and with a weight changed here
//! and there, so that no part of it is on the box already.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::Tool;
use crate::workspace::Workspace;
use crate::{console, fetch};

/// The GGUF field, as it lies in the file: a string, its length before it.
const FIELD: &[u8] = b"general.name\x08\0\0\0";
const LENGTH_BYTES: usize = 8;
/// A name of any length, cut to that of the first model's.
const NAME: &[u8] = b"second-model-that-a-stick-brought-to-the-box";

/// What the file says of itself lies in here.
const HEAD_BYTES: usize = 4 << 20;
/// Between two weights that are changed: of a chunk of a bundle there are several.
const CHANGE_EVERY: usize = 1 << 20;

/// The pack; made once.
pub(super) fn pack(workspace: &Workspace, wels: &Path, model: &str) -> Result<PathBuf> {
    let folder = workspace.target().join("image/second");
    let pack = folder.join("second.wels");
    if pack.join("pack.json").is_file() {
        return Ok(pack);
    }
    let first = fetch::model(workspace, model)?;
    let mut bytes = fs::read(&first).with_context(|| format!("cannot read {}", first.display()))?;
    rename(&mut bytes).with_context(|| format!("{}", first.display()))?;
    change(&mut bytes);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let gguf = folder.join("second.gguf");
    fs::write(&gguf, bytes).with_context(|| format!("cannot write {}", gguf.display()))?;
    console::step("import the second model", || {
        Tool::new(workspace, wels).arg("import").arg(&gguf).arg(&pack).run()
    })?;
    fs::remove_file(&gguf).with_context(|| format!("cannot remove {}", gguf.display()))?;
    Ok(pack)
}

/// Writes another name over the model's own.
fn rename(gguf: &mut [u8]) -> Result<()> {
    let at = gguf.windows(FIELD.len()).position(|bytes| bytes == FIELD).context("the model has no name")?;
    let at = at + FIELD.len();
    let length = gguf.get(at..at + LENGTH_BYTES).context("the file ends in the model's name")?;
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
    let Some(name) = usize::try_from(length).ok().filter(|length| *length <= NAME.len()) else {
        bail!("the model's name has {length} bytes, {} at most", NAME.len());
    };
    let at = at + LENGTH_BYTES;
    gguf.get_mut(at..at + name).context("the file ends in the model's name")?.copy_from_slice(&NAME[..name]);
    Ok(())
}

/// Turns the lowest bit of a byte in each stretch of the weights.
fn change(gguf: &mut [u8]) {
    gguf.iter_mut().skip(HEAD_BYTES).step_by(CHANGE_EVERY).for_each(|byte| *byte ^= 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_change_everywhere_but_in_front() {
        let mut gguf = vec![0; HEAD_BYTES + 2 * CHANGE_EVERY];
        change(&mut gguf);
        let changed: Vec<_> = (0..gguf.len()).filter(|at| gguf[*at] != 0).collect();
        assert_eq!(changed, [HEAD_BYTES, HEAD_BYTES + CHANGE_EVERY]);
    }

    #[test]
    fn a_name_is_written_over_another_of_its_length() {
        let file =
            |name: &[u8]| [b"GGUF..", FIELD, &(name.len() as u64).to_le_bytes()[..], name, b"rest"].concat();
        let mut gguf = file(b"Smol");
        rename(&mut gguf).unwrap();
        assert_eq!(gguf, file(b"seco"));
        assert!(rename(&mut b"GGUF without a name".to_vec()).is_err());
        assert!(rename(&mut file(&[b'x'; 100])).is_err());
    }
}
