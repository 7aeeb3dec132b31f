//! Power cuts: a real installer and a real store on a real file system, on a disk that records every write and every
//! flush. A cut leaves all that was flushed, and of what was written since, any part: each is built, repaired as at a boot,
//! and looked at.
//!
//! ```text
//! log    w w F w w w F w w │ w …        cut at │: everything up to the last F, and 4 KiB pieces of the two writes after it
//!                  durable ┘            by chance
//! ```
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rand_chacha::rand_core::RngCore;
use store::Store;
use support::fuse::{DiskFile, Mounted, Op, ext4};
use support::{Shop, holds, monitor, options, pack, random, ready};
use update::{Installed, Installer, Kind, Staged, verify_installed};

const SEED: u64 = 0x5eed_0007;
const CUTS: usize = 220;
const DISK_BYTES: u64 = 24 << 20;
/// What a drive writes whole or not at all.
const SECTOR: usize = 4096;
const CHUNKS: usize = 24;
/// From the last checks to the switch and the store's last line.
const END_OPS: usize = 40;

/// What was promised at which length of the log.
#[derive(Default)]
struct Promises {
    /// Lines of the store.
    rows: Vec<usize>,
    /// Version 2 serves.
    switched: usize,
}

struct Recording {
    before: Vec<u8>,
    log: Vec<Op>,
    promises: Promises,
}

/// Installs version 2 over version 1 while the store writes, on a disk that records it.
fn record(shop: &Shop, runtime: &tokio::runtime::Runtime) -> Recording {
    let image = shop.path("disk.img");
    ext4(&image, DISK_BYTES);
    let disk = DiskFile::mount(&shop.path("fuse"), fs::read(&image).unwrap());
    let root = shop.path("root");
    let [one, two] = [1, 2].map(|version| shop.version(version, CHUNKS));
    {
        let _mounted = Mounted::new(&disk.path(), &root);
        install(shop, &root, &one);
        drop(Store::open(&root.join("wels.db")).unwrap());
    }
    // From here on: mounting itself writes.
    let before = disk.disk().record();
    let _mounted = Mounted::new(&disk.path(), &root);
    let mut promises = Promises::default();
    let store = Store::open(&root.join("wels.db")).unwrap();
    let at = || disk.disk().log.len();
    let say = |promises: &mut Promises| {
        let line = serde_json::json!({ "n": promises.rows.len() });
        runtime.block_on(store.audit(None, "line", line)).unwrap();
        promises.rows.push(at());
    };
    say(&mut promises);
    let bundle = shop.open(&two).unwrap();
    // Stopped after every few chunks, as by a pulled stick, so that resuming is recorded too.
    let staged = loop {
        say(&mut promises);
        let monitor = std::sync::Arc::new(monitor(&bundle));
        let mut installer = Installer::open(&root.join("models")).unwrap();
        if promises.rows.len() == 4 {
            break installer.stage(&bundle, &options(), &monitor).unwrap();
        }
        let stick = DiskFile::mount(&shop.path("stick"), fs::read(&two).unwrap());
        let pulled = shop.open(&stick.path()).unwrap();
        stick.disk().reads_left = Some(5 * (promises.rows.len() - 1));
        let error = installer.stage(&pulled, &options(), &monitor).expect_err("pulled");
        assert_eq!(error.code(), "carrier_gone", "{error}");
    };
    say(&mut promises);
    let mut installer = Installer::open(&root.join("models")).unwrap();
    installer.commit(&ready(staged), &monitor(&bundle)).unwrap();
    promises.switched = at();
    say(&mut promises);
    drop(store);
    let log = disk.disk().log.clone();
    Recording { before, log, promises }
}

fn install(shop: &Shop, root: &Path, image: &Path) {
    let bundle = shop.open(image).unwrap();
    let mut installer = Installer::open(&root.join("models")).unwrap();
    let trial = match installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap() {
        Staged::Ready(trial) => trial,
        Staged::Nothing => return,
    };
    installer.commit(&trial, &monitor(&bundle)).unwrap();
}

/// The disk after a power cut at `cut`.
fn cut(recording: &Recording, cut: usize, random: &mut impl RngCore) -> Vec<u8> {
    let log = &recording.log[..cut];
    let flushed = log.iter().rposition(|op| matches!(op, Op::Flush)).map_or(0, |at| at + 1);
    let mut disk = recording.before.clone();
    // Some cuts lose all that could be lost, some nothing, most a part.
    let luck = [0, 64, 128, 192, 256][random.next_u32() as usize % 5];
    for (i, op) in log.iter().enumerate() {
        let Op::Write { offset, bytes } = op else { continue };
        for (n, piece) in bytes.chunks(SECTOR).enumerate() {
            if i < flushed || random.next_u32() % 256 < luck {
                let at = *offset as usize + n * SECTOR;
                disk[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    }
    disk
}

/// Repairs what a boot repairs, mounts, and checks what must hold.
fn check(
    shop: &Shop,
    recording: &Recording,
    cut: usize,
    image: &Path,
    runtime: &tokio::runtime::Runtime,
) -> u64 {
    let checked = Command::new("e2fsck").args(["-p"]).arg(image).output().unwrap();
    // 1: repaired.
    assert!(
        checked.status.code().is_some_and(|code| code <= 1),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    let root = shop.path("after");
    let _mounted = Mounted::new(image, &root);
    check_store(&root.join("wels.db"), recording, cut, runtime);
    let models = root.join("models");
    let installed = Installed::read(&models).unwrap();
    let serves = installed.line(Kind::Model).current.clone().unwrap();
    assert!([1, 2].contains(&serves.version));
    assert!(serves.version == 2 || cut < recording.promises.switched, "a promised switch is lost");
    assert!(holds(&serves.folder(&models), &pack(serves.version, CHUNKS)), "what serves is not whole");
    // Whatever has a version's name is whole.
    for (_, path) in Installer::open(&models).unwrap().versions().unwrap() {
        verify_installed(&path).unwrap();
    }
    let two = shop.path("bundle-1.img");
    let bundle = shop.open(&two).unwrap();
    let done = Installer::open(&models).unwrap().preview(&bundle, &options()).unwrap().done_bytes;
    install(shop, &root, &two);
    let serves = Installed::read(&models).unwrap().model.current.unwrap();
    assert_eq!(serves.version, 2);
    assert!(holds(&serves.folder(&models), &pack(2, CHUNKS)), "not whole after resuming");
    done
}

/// The store opens, passes its own check, and has every line it said it had.
fn check_store(path: &Path, recording: &Recording, cut: usize, runtime: &tokio::runtime::Runtime) {
    let store = Store::open(path).unwrap();
    let lines = runtime.block_on(store.audit_log(None, 1000)).unwrap();
    let lines = lines.iter().filter(|line| line.action == "line").count();
    let promised = recording.promises.rows.iter().filter(|at| **at <= cut).count();
    assert!(
        (promised..=recording.promises.rows.len()).contains(&lines),
        "{lines} lines, {promised} promised"
    );
    drop(store);
    store::check(path).unwrap();
}

#[test]
fn no_power_cut_leaves_half_a_model_or_loses_a_line() {
    let shop = Shop::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let recording = record(&shop, &runtime);
    let flushes = recording.log.iter().filter(|op| matches!(op, Op::Flush)).count();
    println!("{} writes, {flushes} flushes", recording.log.len() - flushes);
    assert!(flushes > 20, "the file system asked for durability");
    let mut random = random(SEED);
    let _ram = Mounted::tmpfs(&shop.path("ram"), 8 * DISK_BYTES);
    let (mut resumed, mut switched) = (0, 0);
    for i in 0..CUTS {
        // Every third near the end, where it is put to its place and switched.
        let end = recording.log.len() + 1;
        let range = if i % 3 == 0 { end - END_OPS..end } else { 0..end };
        let at = range.start + random.next_u64() as usize % range.len();
        let disk = cut(&recording, at, &mut random);
        // A file of its own each time: a loop device is let go a moment after its file system, and `mount` takes one that still
        // has the file, with what it remembers of it.
        let image = shop.path(&format!("ram/{i}.img"));
        fs::write(&image, &disk).unwrap();
        let checked = std::panic::AssertUnwindSafe(|| check(&shop, &recording, at, &image, &runtime));
        let done = std::panic::catch_unwind(checked);
        let done =
            done.unwrap_or_else(|_| panic!("seed {SEED:#x}, cut {i}, at {at} of {}", recording.log.len()));
        fs::remove_file(&image).unwrap();
        resumed += usize::from(done > 0);
        switched += usize::from(at >= recording.promises.switched);
    }
    println!("{CUTS} cuts: {resumed} copies resumed, {switched} after the switch");
    assert!(resumed > CUTS / 10, "too few cuts fell into the copy: {resumed}");
}
