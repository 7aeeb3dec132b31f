//! Sticks that are pulled and disks that fill up, by the kernel's own errors.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use support::fuse::{DiskFile, Loop, Mounted, ext4};
use support::{CHUNK_BYTES, Shop, holds, monitor, noise, options, pack, ready};
use update::{Error, Installer, WriteOptions, device, verify, write};

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

#[test]
fn a_device_that_is_no_stick_or_is_in_use_is_not_written_to() {
    let shop = Shop::new();
    let bundle = shop.open(&shop.version(1, 12)).unwrap();
    let file = shop.path("drive");
    ext4(&file, 16 << 20);
    let drive = Loop::new(&file);
    let refused = |error: Result<u64, Error>| match error {
        Err(Error::RefusedDevice { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let plain = WriteOptions::default();
    assert!(refused(write(&bundle, &drive.0, plain, &mut |_, _| {})).contains("not removable"));
    {
        let _mounted = Mounted::device(&drive.0, &shop.path("mounted"));
        let why = refused(write(&bundle, &drive.0, plain, &mut |_, _| {}));
        assert!(why.contains(shop.path("mounted").to_str().unwrap()), "{why}");
    }
    let force = WriteOptions { force: true };
    let bytes = write(&bundle, &drive.0, force, &mut |_, _| {}).unwrap();
    assert_eq!(bytes, device(&drive.0).unwrap().unwrap().bytes);
    let written = shop.open(&drive.0).unwrap();
    verify(&written, &mut |_, _| {}).unwrap();
    // The table's copy lies at the device's end, where it belongs.
    let image = fs::read(&file).unwrap();
    assert_eq!(&image[image.len() - 512..][..8], b"EFI PART");
    fs::File::options().write(true).open(&file).unwrap().set_len(2 << 20).unwrap();
    let small = Loop::new(&file);
    assert!(matches!(write(&bundle, &small.0, force, &mut |_, _| {}), Err(Error::NoSpace { .. })));
}
