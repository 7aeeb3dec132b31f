//! Which version the boot loader takes next: the way back to the other slot, and its undoing.
//!
//! The loader knows only names (`esp.rs`), so the choice is made by renaming: the wanted version gets three boots to prove
//! itself, and where another one would still come first, that is set aside (`+0-1`: no boots left). The order of the two
//! renamings, each synced, leaves a version with boots left at any moment; where the wanted version fails, the loader comes
//! back to the one that was set aside, since then none has boots left and it is the newest, or the only one that starts.

use std::path::Path;

use super::esp::{BootFile, Counter, Esp, Standing};
use super::{Problem, RootHash, SystemVersion};
use crate::Error;

/// The other version starts next; what runs is set aside if it would come before. Returns which version that is. Where a
/// newer version waits for its first start, that is the other one: to do without it, [`stay`].
///
/// # Errors
/// There is no other version; or the boot partition can't be written.
pub fn rollback(esp: &Path, running: &RootHash) -> Result<SystemVersion, Error> {
    let esp = Esp::new(esp);
    let (_, others) = esp.split(running)?;
    let hashes = others.iter().filter_map(|file| file.facts.as_ref()).map(|facts| facts.root_hash);
    let wanted = hashes.into_iter().next().ok_or_else(|| Problem::NoOther.at(esp.folder()))?;
    take_next(&esp, running, &wanted)
}

/// Undoes [`rollback`] before the restart: what runs starts next. Returns which version that is.
///
/// # Errors
/// The boot partition can't be written.
pub fn stay(esp: &Path, running: &RootHash) -> Result<SystemVersion, Error> {
    take_next(&Esp::new(esp), running, running)
}

/// Makes a version the loader's next. What runs has proved itself: it needs no counter.
pub(super) fn take_next(esp: &Esp, running: &RootHash, wanted: &RootHash) -> Result<SystemVersion, Error> {
    let files = esp.boot_files()?;
    let file =
        files.iter().find(|file| file.boots(wanted)).ok_or_else(|| Problem::NoOther.at(esp.folder()))?;
    let counter = if wanted == running { None } else { Some(Counter::FRESH) };
    let keeps_name = match file.standing() {
        Standing::Aside | Standing::Failed => false,
        // One that was well once is on trial again: should it fail, the loader comes back by itself.
        Standing::Good => wanted == running,
        Standing::Trial => true,
    };
    if !keeps_name {
        esp.name(&file.path, &file.version, counter)?;
    }
    let version = file.version.clone();
    for before in esp.boot_files()?.iter().take_while(|file| !file.boots(wanted)) {
        set_aside(esp, before)?;
    }
    match esp.boot_files()?.first() {
        Some(next) if next.boots(wanted) => Ok(version),
        next => {
            let takes = next.map_or_else(|| "none".to_owned(), |file| file.version.to_string());
            Err(Problem::Order { takes, wanted: version.to_string() }.at(esp.folder()))
        }
    }
}

fn set_aside(esp: &Esp, file: &BootFile) -> Result<(), Error> {
    match file.standing() {
        Standing::Good | Standing::Trial => esp.name(&file.path, &file.version, Some(Counter::ASIDE)),
        Standing::Failed | Standing::Aside => Ok(()),
    }
}
