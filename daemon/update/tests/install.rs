//! Installing: what a preview says, copies that stop and go on, tests that fail, the way back.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use support::{CHUNK_BYTES, Shop, holds, monitor, noise, options, pack, ready};
use update::manifest::{Chunk, Coding, Stored};
use update::{
    Action, CreateOptions, Error, Installed, Installer, Kind, Monitor, Options, Sha256, Staged, Step,
    Verdict, verify_installed,
};

#[test]
fn a_model_is_installed_tested_and_serves() {
    let shop = Shop::new();
    let bundle = shop.open(&shop.version(1, 9)).unwrap();
    let mut installer = shop.installer();
    let preview = installer.preview(&bundle, &options()).unwrap();
    assert_eq!((preview.verdict, preview.refusal), (Some(Verdict::Install), None));
    assert_eq!(preview.signer.unwrap().name, "Wels release");
    assert!(preview.stick_bytes > 9 * u64::from(CHUNK_BYTES) && preview.stick_bytes < preview.bytes);
    assert!(preview.seconds.unwrap() > 0.0 && preview.need_bytes >= preview.bytes);
    let monitor = monitor(&bundle);
    let trial = ready(installer.stage(&bundle, &options(), &monitor).unwrap());
    assert!(holds(&trial.path, &pack(1, 9)));
    assert_eq!(installer.current(Kind::Model), None, "not before its test");
    assert_eq!((monitor.snapshot().step, monitor.snapshot().stick_may_go), (Step::Test, true));
    installer.commit(&trial, &monitor).unwrap();
    assert_eq!(installer.current(Kind::Model), Some(trial.path.clone()));
    assert_eq!(Installed::read(&shop.models()).unwrap(), *installer.installed());
    verify_installed(&trial.path).unwrap();
    assert_eq!(fs::read_dir(shop.models().join(".staging")).unwrap().count(), 0);
}

#[test]
fn the_same_stick_again_does_nothing() {
    let shop = Shop::new();
    let image = shop.version(1, 3);
    shop.install(&image);
    let before = fs::metadata(shop.models().join("tiny/1/dense.bin")).unwrap().modified().unwrap();
    let bundle = shop.open(&image).unwrap();
    assert_eq!(shop.installer().preview(&bundle, &options()).unwrap().verdict, Some(Verdict::Serves));
    assert_eq!(shop.stage(&image).unwrap(), Staged::Nothing);
    assert_eq!(fs::metadata(shop.models().join("tiny/1/dense.bin")).unwrap().modified().unwrap(), before);
}

#[test]
fn older_versions_are_refused_unless_an_administrator_allows_them() {
    let shop = Shop::new();
    let (old, new) = (shop.version(1, 2), shop.version(2, 2));
    shop.install(&new);
    assert!(matches!(shop.stage(&old), Err(Error::Older { version: 1, newest: 2, .. })));
    let bundle = shop.open(&old).unwrap();
    let refusal = shop.installer().preview(&bundle, &options()).unwrap().refusal.unwrap();
    assert_eq!(refusal.code, "older");
    let allow = Options { allow_older: true, ..options() };
    ready(shop.installer().stage(&bundle, &allow, &monitor(&bundle)).unwrap());
}

#[test]
fn a_stick_is_no_way_back_to_the_version_before() {
    let shop = Shop::new();
    let old = shop.version(1, 2);
    shop.install(&old);
    shop.install(&shop.version(2, 2));
    assert!(shop.models().join("tiny/1").is_dir(), "kept for a rollback");
    assert!(matches!(shop.stage(&old), Err(Error::Older { version: 1, newest: 2, .. })));
}

#[test]
fn another_bundle_of_the_same_version_is_refused() {
    let shop = Shop::new();
    shop.install(&shop.version(1, 2));
    let other = shop.image(&shop.folder("other", &pack(77, 2)), &shop.options(1));
    assert!(matches!(shop.stage(&other), Err(Error::SameVersion { version: 1, .. })));
}

#[test]
fn a_copy_that_is_stopped_anywhere_goes_on_where_it_was() {
    let shop = Shop::new();
    let image = shop.version(1, 9);
    let bundle = shop.open(&image).unwrap();
    let mut installer = shop.installer();
    let mut tries = 0;
    let mut last = 0;
    let trial = loop {
        let monitor = Arc::new(monitor(&bundle));
        tries += 1;
        assert!(tries < 40, "it goes on");
        // Stops at the first chunk: whatever the preparation told doesn't count.
        monitor.cancel();
        match installer.stage(&bundle, &options(), &monitor) {
            Ok(staged) => break ready(staged),
            Err(Error::Cancelled) => {}
            Err(error) => panic!("{error}"),
        }
        let done = installer.preview(&bundle, &options()).unwrap().done_bytes;
        assert!(done >= last);
        last = done;
        if tries == 3 {
            // Cancelled before the copy begins: one that is not.
            break ready(installer.stage(&bundle, &options(), &support::monitor(&bundle)).unwrap());
        }
    };
    assert!(holds(&trial.path, &pack(1, 9)));
}

#[test]
fn a_damaged_chunk_stops_the_copy_and_a_good_stick_goes_on() {
    let shop = Shop::new();
    let image = shop.version(1, 9);
    let good = shop.path("good.img");
    fs::copy(&image, &good).unwrap();
    let bytes = fs::read(&image).unwrap();
    let needle = &pack(1, 9)[0].1[5 * CHUNK_BYTES as usize..][..64];
    let at = bytes.windows(64).position(|window| window == needle).unwrap();
    OpenOptions::new().write(true).open(&image).unwrap().write_all_at(&[!bytes[at]], at as u64).unwrap();
    match shop.stage(&image) {
        Err(Error::Corrupt { file, offset, .. }) => {
            assert_eq!((file.as_str(), offset), ("dense.bin", 5 * u64::from(CHUNK_BYTES)));
        }
        other => panic!("{other:?}"),
    }
    let bundle = shop.open(&good).unwrap();
    let preview = shop.installer().preview(&bundle, &options()).unwrap();
    // All before the damaged chunk: the stop was a checkpoint, too.
    assert_eq!(preview.done_bytes, pack(1, 9)[3].1.len() as u64 + 5 * u64::from(CHUNK_BYTES));
    assert!(holds(&ready(shop.stage(&good).unwrap()).path, &pack(1, 9)));
}

#[test]
fn a_journal_that_lies_costs_a_second_try_and_nothing_else() {
    let shop = Shop::new();
    let image = shop.version(1, 9);
    let bundle = shop.open(&image).unwrap();
    let damaged = shop.path("damaged.img");
    let bytes = fs::read(&image).unwrap();
    let needle = &pack(1, 9)[0].1[5 * CHUNK_BYTES as usize..][..64];
    let at = bytes.windows(64).position(|window| window == needle).unwrap();
    fs::copy(&image, &damaged).unwrap();
    OpenOptions::new().write(true).open(&damaged).unwrap().write_all_at(&[!bytes[at]], at as u64).unwrap();
    shop.stage(&damaged).expect_err("damaged");
    // The disk loses what it said it had.
    let staged = shop.models().join(".staging").join(bundle.id.to_string()).join("dense.bin");
    OpenOptions::new().write(true).open(&staged).unwrap().write_all_at(&[0xaa; 99], 70_000).unwrap();
    let failed = shop.stage(&image);
    assert!(matches!(failed, Err(Error::DiskDamaged { offset, .. }) if offset == u64::from(CHUNK_BYTES)));
    assert!(holds(&ready(shop.stage(&image).unwrap()).path, &pack(1, 9)));
}

#[test]
fn a_delta_takes_from_the_installed_version_what_it_does_not_carry() {
    let shop = Shop::new();
    let mut files = pack(1, 20);
    shop.install(&shop.image(&shop.folder("one", &files), &shop.options(1)));
    files[0].1[7 * CHUNK_BYTES as usize + 5] ^= 1;
    let two = shop.folder("two", &files);
    let delta = CreateOptions { previous: Some(shop.path("one")), ..shop.options(2) };
    let image = shop.image(&two, &delta);
    let bundle = shop.open(&image).unwrap();
    let preview = shop.installer().preview(&bundle, &options()).unwrap();
    assert!(
        preview.stick_bytes <= u64::from(CHUNK_BYTES) && preview.local_bytes > 18 * u64::from(CHUNK_BYTES)
    );
    let trial = ready(shop.stage(&image).unwrap());
    assert!(holds(&trial.path, &files));
    // On another box there is nothing to build on.
    let other = Installer::open(&shop.path("other")).unwrap();
    let preview = other.preview(&bundle, &options()).unwrap();
    assert_eq!(preview.refusal.unwrap().code, "missing_chunks");
}

#[test]
fn a_version_that_fails_its_test_leaves_the_old_one_and_the_reason() {
    let shop = Shop::new();
    let old = shop.install(&shop.version(1, 2));
    let image = shop.version(2, 2);
    let bundle = shop.open(&image).unwrap();
    let mut installer = shop.installer();
    let trial = ready(installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap());
    installer.abandon(&trial, "the test prompt got no answer").unwrap();
    assert!(!trial.path.exists());
    assert_eq!(installer.current(Kind::Model), Some(old));
    let preview = installer.preview(&bundle, &options()).unwrap();
    assert_eq!(preview.failed_before.as_deref(), Some("the test prompt got no answer"));
    assert_eq!(preview.verdict, Some(Verdict::Install), "an administrator may try again");
}

#[test]
fn the_previous_version_stays_and_older_ones_go() {
    let shop = Shop::new();
    let [one, two, three] = [1, 2, 3].map(|version| shop.install(&shop.version(version, 2)));
    assert!(!one.exists() && two.exists() && three.exists());
    let mut installer = shop.installer();
    assert_eq!(installer.rollback(Kind::Model).unwrap(), two);
    assert_eq!(installer.current(Kind::Model), Some(two.clone()));
    assert_eq!(installer.rollback(Kind::Model).unwrap(), three, "and forth");
    assert!(matches!(installer.rollback(Kind::System), Err(Error::NoPrevious { .. })));
    assert!(matches!(installer.remove("tiny", 3), Err(Error::InUse { .. })));
    assert!(matches!(installer.remove("tiny", 9), Err(Error::NotInstalled { .. })));
    installer.remove("tiny", 2).unwrap();
    assert!(!two.exists());
    assert!(
        matches!(installer.rollback(Kind::Model), Err(Error::NoPrevious { .. })),
        "there is none any more"
    );
}

#[test]
fn models_of_two_names_replace_each_other_and_both_stay() {
    let shop = Shop::new();
    let tiny = shop.install(&shop.version(1, 2));
    let other = CreateOptions { name: "other".into(), ..shop.options(1) };
    let other = shop.install(&shop.image(&shop.folder("o", &pack(9, 2)), &other));
    let mut installer = shop.installer();
    assert_eq!(installer.current(Kind::Model), Some(other.clone()));
    assert_eq!(installer.rollback(Kind::Model).unwrap(), tiny);
    assert_eq!(installer.versions().unwrap().len(), 2);
}

/// A bundle of one file that claims to be 100 GB larger than the disk has room; `distinct` says whether its chunks are one
/// blob over and over, which the stick does carry, or each another, which it can't.
fn claims(shop: &Shop, distinct: bool) -> update::Manifest {
    let bundle = shop.open(&shop.version(1, 2)).unwrap();
    let free = shop.installer().preview(&bundle, &options()).unwrap().free_bytes;
    let plain = vec![0; 8 << 20];
    let stored = zstd::bulk::compress(&plain, 3).unwrap();
    let stored = Stored { coding: Coding::Zstd, bytes: stored.len() as u32, sha256: Sha256::of(&stored) };
    let n = (free + 100_000_000_000).div_ceil(plain.len() as u64);
    let sha256 = Sha256::of(&plain);
    let chunk = |i: u64| match distinct {
        true => Chunk { bytes: 8 << 20, sha256: Sha256::of(&i.to_le_bytes()), stored: None },
        false => Chunk { bytes: 8 << 20, sha256, stored: Some(stored) },
    };
    let mut manifest = bundle.manifest;
    manifest.version = 2;
    manifest.files.truncate(1);
    manifest.files[0].bytes = n * plain.len() as u64;
    manifest.files[0].chunks = (0..n).map(chunk).collect();
    manifest
}

#[test]
fn a_claim_larger_than_the_disk_is_refused_and_takes_no_room() {
    let shop = Shop::new();
    let stored = zstd::bulk::compress(&vec![0; 8 << 20], 3).unwrap();
    let claims = shop.forged(&claims(&shop, false), &[(Sha256::of(&vec![0; 8 << 20]), stored)]);
    assert!(matches!(shop.stage(&claims), Err(Error::NoSpace { .. })));
    assert_eq!(fs::read_dir(shop.models().join(".staging")).unwrap().count(), 0);
}

#[test]
fn a_claim_larger_than_the_stick_is_refused_when_it_is_opened() {
    let shop = Shop::new();
    let claims = claims(&shop, true);
    let blobs: Vec<_> = claims.files[0].chunks.iter().map(|chunk| (chunk.sha256, Vec::new())).collect();
    let claims = shop.forged(&claims, &blobs);
    match shop.open(&claims) {
        Err(Error::Truncated { want, got, .. }) => assert!(want > 100_000_000_000 && got < 1 << 30),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_installation_at_a_time() {
    let shop = Shop::new();
    let _first = shop.installer();
    assert!(matches!(Installer::open(&shop.models()), Err(Error::Busy { .. })));
}

#[test]
fn leftovers_of_removed_versions_go_when_the_folder_is_opened() {
    let shop = Shop::new();
    drop(shop.installer());
    let trash = shop.folder("models/.staging/trash-3-tiny", &[("dense.bin", noise(1, 9))]);
    drop(shop.installer());
    assert!(!trash.exists());
}

#[test]
fn page_and_console_see_one_progress() {
    let shop = Shop::new();
    let bundle = shop.open(&shop.version(1, 9)).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let monitor = Monitor::new(&bundle.manifest, {
        let seen = Arc::clone(&seen);
        move |progress| seen.lock().unwrap().push(progress.clone())
    });
    let mut installer = shop.installer();
    let trial = ready(installer.stage(&bundle, &options(), &monitor).unwrap());
    installer.commit(&trial, &monitor).unwrap();
    let seen = seen.lock().unwrap();
    let mut steps: Vec<_> = seen.iter().map(|progress| progress.step).collect();
    steps.dedup();
    assert_eq!(
        steps,
        [Step::Prepare, Step::Copy, Step::Check, Step::Settle, Step::Test, Step::Switch, Step::Done]
    );
    assert!(seen.iter().all(|progress| progress.stick_may_go == (progress.step > Step::Copy)));
    let json = serde_json::to_string(&seen[0]).unwrap();
    assert_eq!(serde_json::from_str::<update::Progress>(&json).unwrap(), seen[0]);
}

#[test]
fn an_error_is_in_the_progress_with_a_code() {
    let shop = Shop::new();
    shop.install(&shop.version(2, 2));
    let bundle = shop.open(&shop.version(1, 2)).unwrap();
    let monitor = monitor(&bundle);
    shop.installer().stage(&bundle, &options(), &monitor).expect_err("older");
    assert_eq!(monitor.snapshot().error.unwrap().code, "older");
}

#[test]
fn progress_says_what_it_is_of_and_how_long_it_takes() {
    let monitor = Monitor::of(Action::Backup, "wels-backup.age", "Backup", 0, |_| {});
    monitor.step(Step::Copy, 0, 100);
    monitor.add(10).unwrap();
    let json = serde_json::to_value(monitor.snapshot()).unwrap();
    assert_eq!((json["action"].as_str(), json["name"].as_str()), (Some("backup"), Some("wels-backup.age")));
    assert_eq!(json["seconds_left"], serde_json::Value::Null, "no rate yet");
    monitor.cancel();
    assert!(matches!(monitor.add(10), Err(Error::Cancelled)));
}

#[test]
fn a_monitor_follows_work_that_is_done_elsewhere_and_stops_it() {
    let monitor = Monitor::of(Action::Backup, "wels-backup.age", "Backup", 0, |_| {});
    let at = || {
        let progress = monitor.snapshot();
        (progress.step, progress.bytes_done, progress.bytes_total)
    };
    // Forward, into the next step, and a step that begins anew with more to do.
    for told in [(Step::Copy, 10, 100), (Step::Copy, 60, 100), (Step::Check, 5, 50), (Step::Check, 0, 70)] {
        let (step, done, total) = told;
        monitor.follow(step, done, total).unwrap();
        assert_eq!(at(), told);
    }
    monitor.cancel();
    assert_eq!(monitor.follow(Step::Check, 1, 70).unwrap_err().code(), "cancelled");
}
