//! A backup read: looked at, or set beside the state, ready for the next start.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde_json::json;

use crate::age::{self, Reader};
use crate::contents::DATABASE;
use crate::create::BLOCK_BYTES;
use crate::files::{self, Lock};
use crate::switch::Staged;
use crate::watch::{Step, Watch, tell};
use crate::{Error, Info, Part, tar};

/// Reads a backup to its end and says what it is: whoever gets an answer has a whole one.
///
/// # Errors
/// It is no backup, the passphrase is wrong, it is damaged or cut short.
pub fn info(from: impl Read, passphrase: &str, watch: &mut Watch<'_>) -> Result<Info, Error> {
    tell(watch, Step::Prepare, 0, 0)?;
    let mut from = age::decrypt(BufReader::new(from), passphrase)?;
    let info = Info::read(&mut from)?;
    let moved = &mut |done| tell(watch, Step::Check, done, info.bytes());
    read_parts(&mut from, &info, moved, &mut |_, _| Ok(()))?;
    Ok(info)
}

/// Sets a backup beside the state, checked and synced: [`crate::finish_restore`] puts it in its place when the daemon starts
/// next, and until then nothing is changed. Replaces one that was set there before.
///
/// # Errors
/// As [`info`]; the database in it is damaged, another's, or newer than this version; there is too little room.
pub fn restore(
    from: impl Read,
    passphrase: &str,
    state: &Path,
    watch: &mut Watch<'_>,
) -> Result<Info, Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(state);
    made.map_err(Error::io(state, "make"))?;
    let _lock = Lock::take(state)?;
    let staged = Staged::of(state);
    if staged.has_begun() {
        return Err(Error::Unfinished { path: state.to_owned() });
    }
    tell(watch, Step::Prepare, 0, 0)?;
    let mut from = age::decrypt(BufReader::new(from), passphrase)?;
    let info = Info::read(&mut from)?;
    if info.schema > store::SCHEMA_VERSION {
        let (found, known) = (info.schema, store::SCHEMA_VERSION);
        return Err(store::Error::SchemaTooNew { found, known }.into());
    }
    files::need_room(state, info.bytes())?;
    let done = stage(&mut from, &info, &staged, watch);
    if done.is_err() {
        // The first error is the one to tell; without its mark the rest is removed at the next start.
        let _ = staged.discard();
    }
    done.map(|()| info)
}

fn stage<R: BufRead>(
    from: &mut Reader<R>,
    info: &Info,
    staged: &Staged,
    watch: &mut Watch<'_>,
) -> Result<(), Error> {
    staged.begin()?;
    copy_parts(from, info, staged, watch)?;
    tell(watch, Step::Check, 0, 0)?;
    let database = staged.part(DATABASE);
    let origin = json!({ "made_at": info.made_ms, "version": info.version });
    if store::take_in(&database, &origin)? != info.schema {
        return Err(Error::Contents { what: "its database has another version than it says".into() });
    }
    for part in info.parts.iter().filter(|part| part.name != DATABASE) {
        let path = staged.part(&part.name);
        let bytes = fs::read(&path).map_err(Error::io(&path, "read"))?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
            .map_err(|cause| Error::Contents { what: format!("{}: {cause}", part.name) })?;
    }
    tell(watch, Step::Check, 0, 0)?;
    staged.mark_ready(info)
}

fn copy_parts<R: BufRead>(
    from: &mut Reader<R>,
    info: &Info,
    staged: &Staged,
    watch: &mut Watch<'_>,
) -> Result<(), Error> {
    let mut open = None;
    let moved = &mut |done| tell(watch, Step::Copy, done, info.bytes());
    read_parts(from, info, moved, &mut |part, bytes| {
        let path = staged.part(&part.name);
        let file = match &mut open {
            Some((name, file)) if *name == part.name => file,
            open => &mut open.insert((part.name.clone(), files::new_file(&path)?)).1,
        };
        file.write_all(bytes).map_err(Error::io(&path, "write"))
    })?;
    info.parts.iter().try_for_each(|part| files::sync(&staged.part(&part.name)))
}

/// Takes a block of a part.
type Take<'a> = dyn FnMut(&Part, &[u8]) -> Result<(), Error> + 'a;

/// Reads all that follows the header, to the end; `take` is given each part block by block, at least once.
fn read_parts<R: BufRead>(
    from: &mut Reader<R>,
    info: &Info,
    moved: &mut dyn FnMut(u64) -> Result<(), Error>,
    take: &mut Take<'_>,
) -> Result<(), Error> {
    let (mut block, mut done) = (vec![0; BLOCK_BYTES], 0);
    for part in &info.parts {
        if tar::read_size(from, &part.name)? != part.bytes {
            return Err(Error::Contents { what: format!("{} has another size than it says", part.name) });
        }
        let mut left = part.bytes;
        take(part, &[])?;
        while left > 0 {
            let block = &mut block[..left.min(BLOCK_BYTES as u64) as usize];
            from.read_exact(block)?;
            take(part, block)?;
            left -= block.len() as u64;
            done += block.len() as u64;
            moved(done)?;
        }
        tar::read_padding(from, part.bytes)?;
    }
    tar::read_end(from)
}

#[cfg(test)]
mod tests;
