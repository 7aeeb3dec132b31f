//! Power cuts while a system version is written, gone back from, and gone forth to: at every operation on drive and boot
//! partition, several times each with other luck. A cut leaves all that was synced, and of what was written since, any
//! sectors; of names given since, any, and of a renamed file both names, one, or none.
//!
//! After each, what firmware, loader and initrd would do finds a whole version, the old or the new one; and where it is the
//! old one, writing begins anew and succeeds (every fourth is tried).
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeMap;
use std::fs;

use rand_chacha::rand_core::RngCore;
use support::cord::{Cord, DISK, Op, State};
use support::drive::{Rig, SECTOR, SECTORS, System, boot, drive, read_esp, write_esp};
use support::random;
use update::system::{Place, RootHash, StagedSystem, rollback, stay, write};
use update::{Action, Error, Monitor};

const SEED: u64 = 0x5eed_0107;
/// Times that each cut is tried.
const LUCKS: u32 = 12;

fn quiet() -> Monitor {
    Monitor::of(Action::Install, "wels", "Wels", 1, |_| {})
}

/// A drive that runs `running`, and what happens on it.
fn record(
    rig: &Rig,
    disk: Vec<u8>,
    esp: &[(&str, &System)],
    act: impl FnOnce(&Place<'_>) -> Result<(), Error>,
) -> (State, Vec<Op>) {
    let mut state = State::default();
    state.files.insert(DISK, disk);
    for (file, (name, system)) in (DISK + 1..).zip(esp) {
        state.files.insert(file, system.file("boot.efi").to_vec());
        state.names.insert((*name).to_owned(), file);
    }
    let cord = Cord::mount(&rig.shop.path("cord"), state.clone());
    let disk = cord.folder.join("disk");
    act(&Place { disk: &disk, esp: &cord.folder, running: rig.running.hash() }).unwrap();
    let log = cord.state().log.clone();
    (state, log)
}

/// What is left after a power cut behind so many operations.
fn cut(before: &State, log: &[Op], random: &mut impl RngCore) -> State {
    let mut after = before.clone();
    let luck = [0, 100, 128, 200, 256][random.next_u32() as usize % 5];
    let mut is_lucky = || random.next_u32() % 256 < luck;
    for (i, op) in log.iter().enumerate() {
        let rest = &log[i..];
        match op {
            Op::Write { file, offset, bytes } => {
                let is_synced =
                    rest.iter().any(|op| matches!(op, Op::Sync { file: synced } if synced == file));
                after.files.entry(*file).or_default();
                for (n, piece) in bytes.chunks(SECTOR).enumerate() {
                    if is_synced || is_lucky() {
                        after.write(*file, offset + n * SECTOR, piece);
                    }
                }
            }
            Op::Name { file, .. } => {
                file.iter().for_each(|file| _ = after.files.entry(*file).or_default());
                if rest.iter().any(|op| matches!(op, Op::SyncNames)) || is_lucky() {
                    after.name(op);
                }
            }
            Op::Rename { from, to } => {
                let is_synced = rest.iter().any(|op| matches!(op, Op::SyncNames));
                let Some(file) = after.names.get(from).copied() else { continue };
                // Two entries of a folder that is no journal: each of them changes or doesn't.
                if is_synced || is_lucky() {
                    after.names.remove(from);
                }
                if is_synced || is_lucky() {
                    after.names.insert(to.clone(), file);
                }
            }
            Op::Sync { .. } | Op::SyncNames => {}
        }
    }
    after
}

/// Cuts everywhere; counts how often each version started.
fn cut_everywhere(
    before: &State,
    log: &[Op],
    systems: &[System],
    each: &mut dyn FnMut(State, &System),
) -> BTreeMap<&'static str, usize> {
    let mut random = random(SEED);
    let mut started = BTreeMap::new();
    for at in 0..=log.len() {
        for luck in 0..LUCKS {
            let after = cut(before, &log[..at], &mut random);
            let checked = std::panic::catch_unwind(|| boot(&after.files[&DISK], &after.esp(), systems));
            let system = checked.unwrap_or_else(|_| {
                panic!("seed {SEED:#x}, cut at {at} of {}, luck {luck}: {:?}", log.len(), after.names)
            });
            *started.entry(system.version).or_default() += 1;
            each(after, system);
        }
    }
    started
}

/// After a cut, on plain files: written once more, to its end.
fn write_again(rig: &Rig, staged: &StagedSystem, after: &State, running: RootHash, all: &[System]) {
    fs::write(&rig.disk, &after.files[&DISK]).unwrap();
    write_esp(&rig.esp, &after.esp());
    let place = Place { disk: &rig.disk, esp: &rig.esp, running };
    write(staged, &place, &quiet()).unwrap();
    let started = boot(&fs::read(&rig.disk).unwrap(), &read_esp(&rig.esp), all);
    assert_eq!(started.hash(), staged.facts.root_hash);
}

#[test]
fn no_power_cut_while_writing_leaves_a_box_that_does_not_start() {
    let all = [System::new("0.1.0", 1), System::new("0.2.0", 2), System::new("0.3.0", 3)];
    // What runs, what lies in the other slot and under which name, what is written, which copy of the table is damaged.
    let cases = [
        (1, 0, "wels_0.1.0.efi", 2, None),
        (1, 2, "wels_0.3.0+0-3.efi", 0, None),
        // A version that waits for its start gives way to a newer one.
        (0, 1, "wels_0.2.0+3.efi", 2, None),
        (1, 0, "wels_0.1.0.efi", 2, Some(1)),
        (1, 0, "wels_0.1.0.efi", 2, Some(SECTORS - 1)),
    ];
    for (i, (runs, lies, name, writes, damaged)) in cases.into_iter().enumerate() {
        let (running, other, new) = (&all[runs], &all[lies], &all[writes]);
        let rig = Rig::new(running.clone(), None);
        let staged = rig.open(&rig.stage(new, 3)).unwrap();
        let mut disk = drive(running, Some(other));
        damaged.iter().for_each(|sector| disk[sector * SECTOR + 40] ^= 1);
        let own_name = format!("wels_{}.efi", running.version);
        let esp = [(own_name.as_str(), running), (name, other)];
        let (before, log) = record(&rig, disk, &esp, |place| write(&staged, place, &quiet()).map(|_| ()));
        let mut n = 0;
        let started = cut_everywhere(&before, &log, &all, &mut |after, system| {
            n += 1;
            if n % 4 == 0 && system.hash() == running.hash() {
                write_again(&rig, &staged, &after, running.hash(), &all);
            }
        });
        println!("case {i}: {} operations, started {started:?}", log.len());
        assert!(log.len() > 15 && started.values().sum::<usize>() == (log.len() + 1) * LUCKS as usize);
        assert!(started[running.version] > 50 && started[new.version] >= LUCKS as usize, "{started:?}");
        assert_eq!(started.contains_key(other.version), i == 2, "{started:?}");
    }
}

#[test]
fn no_power_cut_while_choosing_leaves_a_box_that_does_not_start() {
    let all = [System::new("0.1.0", 1), System::new("0.2.0", 2)];
    let names = |[old, new]: [&'static str; 2]| [(old, &all[0]), (new, &all[1])];
    let cases = [
        (1, names(["wels_0.1.0.efi", "wels_0.2.0.efi"])),
        (1, names(["wels_0.1.0+0-3.efi", "wels_0.2.0+2-1.efi"])),
        (0, names(["wels_0.1.0.efi", "wels_0.2.0+0-1.efi"])),
        (0, names(["wels_0.1.0.efi", "wels_0.2.0+3.efi"])),
    ];
    for (runs, esp) in cases {
        let rig = Rig::new(all[runs].clone(), None);
        for is_rollback in [true, false] {
            let disk = drive(&all[0], Some(&all[1]));
            let (before, log) = record(&rig, disk, &esp, |place| match is_rollback {
                true => rollback(place.esp, &place.running).map(|_| ()),
                false => stay(place.esp, &place.running).map(|_| ()),
            });
            let wanted = all[if is_rollback { 1 - runs } else { runs }].version;
            let mut last = "";
            cut_everywhere(&before, &log, &all, &mut |_, system| last = system.version);
            assert_eq!(last, wanted);
        }
    }
}
