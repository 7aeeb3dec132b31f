//! Sticks that are pulled and disks that fill up, by the kernel's own errors.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use support::fuse::{DiskFile, Mounted};
use support::{CHUNK_BYTES, Shop, holds, monitor, noise, options, pack, ready};
use update::{Error, Installer};

#[test]
fn a_stick_pulled_at_any_chunk_goes_on_there() {
    let shop = Shop::new();
    let image = shop.version(1, 12);
    let stick = DiskFile::mount(&shop.path("stick"), fs::read(&image).unwrap());
    let models = shop.models();
    let mut last = None;
    let mut pulls = 0;
    // Opening reads members, too; every number of reads is tried until one is enough.
    let trial = loop {
        let bundle = shop.open(&stick.path()).unwrap();
        let mut installer = Installer::open(&models).unwrap();
        // One chunk a try: the next read is of a stick that is gone.
        stick.disk().reads_left = Some(1);
        let monitor = monitor(&bundle);
        let staged = installer.stage(&bundle, &options(), &monitor);
        stick.disk().reads_left = None;
        match staged {
            Ok(staged) => break ready(staged),
            Err(Error::Carrier { .. }) => pulls += 1,
            Err(error) => panic!("{error}"),
        }
        let progress = monitor.snapshot();
        assert_eq!((progress.error.unwrap().code.as_str(), progress.stick_may_go), ("carrier_gone", false));
        let done = installer.preview(&bundle, &options()).unwrap().done_bytes;
        assert!(last.is_none_or(|last| done > last), "pull {pulls}: each try brings a chunk");
        last = Some(done);
    };
    assert!(pulls >= 12, "{pulls}");
    assert!(holds(&trial.path, &pack(1, 12)));
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_copied() {
    let shop = Shop::new();
    let image = shop.version(1, 40);
    let _small = Mounted::tmpfs(&shop.models(), 2 << 20);
    match shop.stage(&image) {
        Err(Error::NoSpace { need, free, .. }) => assert!(need > free && free < 2 << 20),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disk_that_fills_up_meanwhile_keeps_what_is_there() {
    let shop = Shop::new();
    let image = shop.version(1, 40);
    let models = shop.models();
    let _disk = Mounted::tmpfs(&models, 4 << 20);
    let bundle = shop.open(&image).unwrap();
    let mut installer = Installer::open(&models).unwrap();
    // Somebody else takes the room once it was counted.
    let others = models.join("others");
    let monitor = update::Monitor::new(&bundle.manifest, {
        let others = others.clone();
        move |progress| {
            if progress.step == update::Step::Prepare && !others.exists() {
                let _ = fs::write(&others, noise(1, 3 << 20));
            }
        }
    });
    let failed = installer.stage(&bundle, &options(), &monitor);
    assert!(matches!(failed, Err(Error::DiskFull { .. })), "{failed:?}");
    assert_eq!(monitor.snapshot().error.unwrap().code, "disk_full");
    fs::remove_file(&others).unwrap();
    let trial = ready(installer.stage(&bundle, &options(), &support::monitor(&bundle)).unwrap());
    assert!(holds(&trial.path, &pack(1, 40)));
    assert!(trial.path.join("dense.bin").metadata().unwrap().len() > 40 * u64::from(CHUNK_BYTES));
}
