//! System versions: written into the idle slot, chosen, gone back from, settled; and what is refused.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use support::drive::{Rig, SECTOR, SECTORS, System, efi};
use support::named;
use update::system::{
    Disk, Problem, RootHash, StagedSystem, Standing, Written, boot_facts, look, rollback, stay, write,
};
use update::{Action, Error, KeyLists, Monitor, Role, SecretKey, Step};

fn quiet() -> Monitor {
    Monitor::of(Action::Install, "wels", "Wels", 1, |_| {})
}

fn systems() -> [System; 3] {
    [System::new("0.1.0", 1), System::new("0.2.0", 2), System::new("0.3.0", 3)]
}

fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> Problem {
    match result {
        Err(Error::System { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_is_written_beside_the_one_that_runs_and_starts_next() {
    let all = systems();
    let rig = Rig::new(all[1].clone(), Some(&all[0]));
    let staged = rig.open(&rig.stage(&all[2], 3)).unwrap();
    let monitor = quiet();
    assert_eq!(write(&staged, &rig.place(), &monitor).unwrap(), Written::Now);
    assert_eq!(rig.names(), ["wels_0.2.0.efi", "wels_0.3.0+3.efi"]);
    assert_eq!(rig.boot(&all).version, "0.3.0");
    assert_eq!(monitor.snapshot().step, Step::Switch);
    let seen = look(&rig.esp, &rig.running.hash()).unwrap();
    assert_eq!(seen.waits().unwrap().root_hash, all[2].hash());
    assert_eq!((seen.running.standing, seen.fell_back()), (Standing::Good, None));
    // Once more does nothing.
    let before = fs::read(&rig.disk).unwrap();
    assert_eq!(write(&staged, &rig.place(), &quiet()).unwrap(), Written::Before);
    assert!(fs::read(&rig.disk).unwrap() == before);
}

#[test]
fn a_version_with_the_root_of_the_one_before_is_another_all_the_same() {
    let all = systems();
    let rig = Rig::new(all[1].clone(), Some(&all[0]));
    // Only its boot file differs: another kernel, say.
    let same = System::new("0.3.0", 1);
    let staged = rig.open(&rig.stage(&same, 3)).unwrap();
    assert_eq!(write(&staged, &rig.place(), &quiet()).unwrap(), Written::Now);
    assert_eq!(rig.names(), ["wels_0.2.0.efi", "wels_0.3.0+3.efi"], "the one before gave way");
}

#[test]
fn other_peoples_tools_read_the_table_afterwards() {
    let all = systems();
    let rig = Rig::new(all[0].clone(), None);
    let staged = rig.open(&rig.stage(&all[1], 2)).unwrap();
    write(&staged, &rig.place(), &quiet()).unwrap();
    for damaged in [None, Some(1), Some(SECTORS - 1)] {
        let mut disk = fs::read(&rig.disk).unwrap();
        if let Some(sector) = damaged {
            disk[sector * SECTOR + 40] ^= 1;
        }
        let path = rig.shop.path("looked-at.img");
        fs::write(&path, &disk).unwrap();
        let listed = Command::new("partx").args(["--show", "--output", "NAME,UUID"]).arg(&path).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        let hash = &all[1].root_hash;
        let id = |at: usize| {
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hash[at..][range].to_owned());
            parts.join("-")
        };
        for (label, id) in [("wels-root-b", id(0)), ("wels-root-b-verity", id(32))] {
            let found = listed.lines().any(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                words == [label, &id]
            });
            assert!(found, "{damaged:?}: {listed}");
        }
    }
}

#[test]
fn a_version_that_is_not_the_newest_starts_next_too() {
    let all = systems();
    let rig = Rig::new(all[2].clone(), None);
    let staged = rig.open(&rig.stage(&all[0], 1)).unwrap();
    write(&staged, &rig.place(), &quiet()).unwrap();
    assert_eq!(rig.names(), ["wels_0.1.0+3.efi", "wels_0.3.0+0-1.efi"]);
    assert_eq!(rig.boot(&all).version, "0.1.0");
    // It fails: the loader comes back by itself.
    let linux = rig.esp.join("EFI/Linux");
    fs::rename(linux.join("wels_0.1.0+3.efi"), linux.join("wels_0.1.0+0-3.efi")).unwrap();
    assert_eq!(rig.boot(&all).version, "0.3.0");
    let seen = look(&rig.esp, &rig.running.hash()).unwrap();
    assert_eq!(seen.fell_back().unwrap().root_hash, all[0].hash());
}

#[test]
fn an_administrator_goes_back_and_forth_and_may_stay() {
    let all = systems();
    let rig = Rig::new(all[1].clone(), Some(&all[0]));
    let (old, new) = (all[0].hash(), all[1].hash());
    assert_eq!(rollback(&rig.esp, &new).unwrap().to_string(), "0.1.0");
    assert_eq!(rig.names(), ["wels_0.1.0+3.efi", "wels_0.2.0+0-1.efi"]);
    assert_eq!(rig.boot(&all).version, "0.1.0");
    stay(&rig.esp, &new).unwrap();
    assert_eq!(rig.names(), ["wels_0.1.0+3.efi", "wels_0.2.0.efi"]);
    assert_eq!(rig.boot(&all).version, "0.2.0");
    rollback(&rig.esp, &new).unwrap();
    // Started, and blessed.
    let linux = rig.esp.join("EFI/Linux");
    fs::rename(linux.join("wels_0.1.0+3.efi"), linux.join("wels_0.1.0.efi")).unwrap();
    rollback(&rig.esp, &old).unwrap();
    assert_eq!(rig.names(), ["wels_0.1.0.efi", "wels_0.2.0+3.efi"]);
    assert_eq!(rig.boot(&all).version, "0.2.0");
    stay(&rig.esp, &old).unwrap();
    assert_eq!(rig.boot(&all).version, "0.1.0");
    let alone = Rig::new(all[0].clone(), None);
    assert!(matches!(problem(rollback(&alone.esp, &old)), Problem::NoOther));
}

#[test]
fn what_was_not_signed_is_not_written() {
    let all = systems();
    let rig = Rig::new(all[0].clone(), None);
    let folder = rig.stage(&all[1], 2);
    let before = (fs::read(&rig.disk).unwrap(), rig.names());
    let root = folder.join("root.img");
    let signed = fs::read(&root).unwrap();
    let mut changed = signed.clone();
    changed[200_000] ^= 1;
    fs::write(&root, &changed).unwrap();
    let staged = rig.open(&folder).unwrap();
    let monitor = quiet();
    assert!(matches!(problem(write(&staged, &rig.place(), &monitor)), Problem::Changed { file: "root.img" }));
    assert_eq!(monitor.snapshot().error.unwrap().code, "damaged");
    assert!((fs::read(&rig.disk).unwrap(), rig.names()) == before, "nothing was given up for it");
    fs::write(&root, &signed).unwrap();
    // Changed between the check and the write. An observer that takes its time is told of every block.
    let staged = rig.open(&folder).unwrap();
    let bytes: u64 = all[1].files[..3].iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let monitor = Monitor::of(Action::Install, "wels", "Wels", 2, move |progress| {
        if progress.bytes_done == bytes {
            fs::write(&root, &changed).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(110));
    });
    assert!(matches!(problem(write(&staged, &rig.place(), &monitor)), Problem::Changed { file: "root.img" }));
    assert_eq!(rig.boot(&all).version, "0.1.0");
    for name in ["system.json", "bundle.json", "bundle.sig", "bundle.keys"] {
        let folder = rig.stage(&all[2], 3);
        let path = folder.join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen('3', "4", 1)).unwrap();
        rig.open(&folder).expect_err(name);
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn strangers_links_models_and_contradictions_are_refused() {
    let all = systems();
    let mut theirs = Rig::new(all[0].clone(), None);
    theirs.shop.root = SecretKey::from_secret(Role::Root, "Their root", [8; 32]).unwrap();
    theirs.shop.release = SecretKey::from_secret(Role::Release, "Stranger", [9; 32]).unwrap();
    theirs.shop.lists = KeyLists::default();
    theirs.shop.lists.push(&theirs.shop.root, None, vec![named(&theirs.shop.release)]).unwrap();
    let rig = Rig::new(all[0].clone(), None);
    let folder = rig.stage(&all[1], 2);
    let refused = StagedSystem::open(&theirs.stage(&all[1], 2), &rig.shop.trust());
    assert!(matches!(refused, Err(Error::UnknownKey { .. })), "{refused:?}");
    fs::rename(folder.join("root.img"), rig.shop.path("elsewhere")).unwrap();
    symlink(rig.shop.path("elsewhere"), folder.join("root.img")).unwrap();
    rig.open(&folder).expect_err("a link");
    let model = support::ready(rig.shop.stage(&rig.shop.version(1, 2)).unwrap()).path;
    assert!(matches!(problem(rig.open(&model)), Problem::NotASystem { .. }));
    let swapped = |version: &'static str, facts: &System, boots: &System| {
        let mut system = facts.clone();
        system.version = version;
        system.files[2].1 = boots.file("boot.efi").to_vec();
        system
    };
    let other_hash = rig.stage(&swapped("0.2.0", &all[1], &all[2]), 4);
    assert!(matches!(problem(rig.open(&other_hash)), Problem::Disagree { .. }));
}

#[test]
fn what_does_not_fit_or_can_not_be_told_apart_is_refused_before_anything_is_given_up() {
    let all = systems();
    let rig = Rig::new(all[1].clone(), Some(&all[0]));
    let before = (fs::read(&rig.disk).unwrap(), rig.names());
    let mut large = all[2].clone();
    large.files[1].1 = support::noise(5, 40 * SECTOR + 1);
    let staged = rig.open(&rig.stage(&large, 3)).unwrap();
    assert!(matches!(
        problem(write(&staged, &rig.place(), &quiet())),
        Problem::TooLarge { file: "root-verity.img", room: 20_480, .. }
    ));
    let staged = rig.open(&rig.stage(&all[1], 4)).unwrap();
    assert!(matches!(problem(write(&staged, &rig.place(), &quiet())), Problem::Runs { .. }));
    let twin = System::new("0.2.0", 8);
    let staged = rig.open(&rig.stage(&twin, 5)).unwrap();
    assert!(matches!(problem(write(&staged, &rig.place(), &quiet())), Problem::SameVersion { .. }));
    let staged = rig.open(&rig.stage(&all[2], 6)).unwrap();
    let stranger = update::system::Place { running: all[2].hash(), ..rig.place() };
    let twin_staged = rig.open(&rig.stage(&twin, 7)).unwrap();
    assert!(matches!(problem(write(&twin_staged, &stranger, &quiet())), Problem::Running { n: 0 }));
    assert!((fs::read(&rig.disk).unwrap(), rig.names()) == before);
    // On trial itself: the version before is what it would fall back to.
    let linux = rig.esp.join("EFI/Linux");
    fs::rename(linux.join("wels_0.2.0.efi"), linux.join("wels_0.2.0+2-1.efi")).unwrap();
    assert!(matches!(problem(write(&staged, &rig.place(), &quiet())), Problem::OnTrial));
    fs::remove_file(linux.join("wels_0.2.0+2-1.efi")).unwrap();
    assert!(matches!(problem(write(&staged, &rig.place(), &quiet())), Problem::NoBootFile));
    let both = Rig::new(all[0].clone(), Some(&all[0]));
    let staged = both.open(&both.stage(&all[2], 3)).unwrap();
    assert!(matches!(problem(write(&staged, &both.place(), &quiet())), Problem::Running { n: 2 }));
}

#[test]
fn a_stop_leaves_a_box_that_starts_and_can_be_written_again() {
    let all = systems();
    let rig = Rig::new(all[1].clone(), Some(&all[0]));
    let staged = rig.open(&rig.stage(&all[2], 3)).unwrap();
    let monitor = quiet();
    monitor.cancel();
    assert!(matches!(write(&staged, &rig.place(), &monitor), Err(Error::Cancelled)));
    assert_eq!(rig.boot(&all).version, "0.2.0");
    write(&staged, &rig.place(), &quiet()).unwrap();
    assert_eq!(rig.boot(&all).version, "0.3.0");
}

#[test]
fn a_table_is_repaired_from_its_other_copy_and_two_broken_ones_are_refused() {
    let all = systems();
    for damaged in [1, 2, SECTORS - 1, SECTORS - 33] {
        let rig = Rig::new(all[0].clone(), None);
        let mut disk = fs::read(&rig.disk).unwrap();
        disk[damaged * SECTOR + 20] ^= 1;
        fs::write(&rig.disk, &disk).unwrap();
        let staged = rig.open(&rig.stage(&all[1], 2)).unwrap();
        write(&staged, &rig.place(), &quiet()).unwrap();
        let disk = fs::read(&rig.disk).unwrap();
        assert!(disk[2 * SECTOR..34 * SECTOR] == disk[(SECTORS - 33) * SECTOR..(SECTORS - 1) * SECTOR]);
        for gone in [1, SECTORS - 1] {
            let mut disk = disk.clone();
            disk[gone * SECTOR] = 0;
            fs::write(&rig.disk, &disk).unwrap();
            assert_eq!(rig.boot(&all).version, "0.2.0", "each copy alone leads there");
        }
    }
    let rig = Rig::new(all[0].clone(), None);
    let mut disk = fs::read(&rig.disk).unwrap();
    [SECTOR, (SECTORS - 1) * SECTOR].iter().for_each(|at| disk[*at] = 0);
    fs::write(&rig.disk, &disk).unwrap();
    assert!(matches!(problem(Disk::open(&rig.disk)), Problem::Table(_)));
}

#[test]
fn a_boot_file_is_read_defensively() {
    let good = systems()[0].file("boot.efi").to_vec();
    let read = |bytes: &[u8]| {
        let read_at = |buffer: &mut [u8], at: u64| {
            buffer.copy_from_slice(&bytes[at as usize..][..buffer.len()]);
            Ok(())
        };
        boot_facts(&read_at, bytes.len() as u64)
    };
    assert_eq!(read(&good).unwrap().root_hash, systems()[0].hash());
    // Cut anywhere in its headers and its text, it is an error, not a panic.
    for cut in 0..3 * SECTOR {
        let _ = read(&good[..cut]);
    }
    assert!(read(&good[..SECTOR]).is_err());
    for i in 0..0x200 {
        for bit in [1, 0x80] {
            let mut bytes = good.clone();
            bytes[i] ^= bit;
            let _ = read(&bytes);
        }
    }
    let (release, hash) = (b"IMAGE_VERSION=1.0\n".to_vec(), "ab".repeat(32));
    let with = |cmdline: &str, n: usize| {
        let mut sections = vec![(b".osrel\0\0", release.clone())];
        (0..n).for_each(|_| sections.push((b".cmdline", cmdline.as_bytes().to_vec())));
        read(&efi(&sections))
    };
    assert!(with(&format!("roothash={hash}"), 1).is_ok());
    assert!(with(&format!("roothash={hash}"), 0).is_err());
    assert!(with(&format!("roothash={hash}"), 2).is_err(), "which one counts nobody knows");
    assert!(with(&format!("roothash={hash} roothash={hash}"), 1).is_err());
    assert!(with("roothash=ab", 1).is_err());
    assert!(with(&format!("usrhash={hash}"), 1).is_err());
    assert_eq!(RootHash::from_cmdline(&format!("quiet roothash={hash} ro\n")).unwrap().to_string(), hash);
}
