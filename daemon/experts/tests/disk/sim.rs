//! The simulated drive: deterministic, and as faulty as it is told to be.

use std::path::PathBuf;

use experts::PAGE_BYTES;
use experts::disk::sim::{Fault, Odds, SimDisk, SimFile, SimRead};
use experts::disk::{Disk, Extent, ReadError};

use crate::support::{check, content, disks, drain, extent, folder, read, write};

const PAGE: u64 = PAGE_BYTES as u64;
const FILE_BYTES: usize = 40 * PAGE_BYTES;
/// Bytes of a record: the file holds 10.
const RECORD: usize = 4 * PAGE_BYTES;

fn sim(seed: u64) -> SimDisk {
    SimDisk::new(seed, vec![SimFile::Memory(content(1, FILE_BYTES))])
}

fn record(tag: u64) -> experts::disk::Read {
    let offset = tag % 10 * RECORD as u64;
    let bytes = content(1, FILE_BYTES);
    let parts = [0..RECORD / 2, RECORD / 2..RECORD];
    let check = check(&bytes[offset as usize..], &parts);
    read(tag, &[extent(0, offset, RECORD, FILE_BYTES)], Some(check))
}

/// Reads every record once, polling and waiting in turn.
fn run(seed: u64, odds: Odds) -> (Vec<SimRead>, usize) {
    let mut disk = sim(seed).with_odds(odds).with_depth(3);
    let control = disk.control();
    (0..10).for_each(|tag| disk.submit(record(tag)));
    let mut n_polls = 0;
    let mut n_ended = 0;
    while n_ended < 10 {
        n_polls += 1;
        n_ended += usize::from(disk.next(n_polls % 2 == 0).is_some());
    }
    (control.reads(), n_polls)
}

const ALL: Odds = Odds { delay: 0.5, split: 0.3, short: 0.2, eio: 0.2, flip: 0.2 };

#[test]
fn a_seed_decides_everything() {
    let runs: Vec<_> = (0..50).map(|seed| run(seed, ALL)).collect();
    for (seed, first) in runs.iter().enumerate() {
        assert_eq!(run(seed as u64, ALL), *first, "seed {seed}");
    }
    let orders: std::collections::BTreeSet<Vec<_>> =
        runs.iter().map(|(reads, _)| reads.iter().map(|read| read.tag).collect()).collect();
    assert!(orders.len() > 40, "{} orders of 50", orders.len());
    let errors: Vec<_> =
        runs.iter().flat_map(|(reads, _)| reads.iter().filter_map(|read| read.error.as_ref())).collect();
    for word in ["checksum", "bytes came from offset", "os error 5"] {
        assert!(errors.iter().any(|error| error.contains(word)), "no {word}");
    }
    assert!(errors.len() < 400, "not all of 500 reads fail");
}

#[test]
fn without_faults_every_read_brings_the_file() {
    let bytes = content(1, FILE_BYTES);
    let delay_and_split = Odds { delay: 0.5, split: 0.9, ..Odds::default() };
    for seed in 0..20 {
        for odds in [Odds::default(), delay_and_split] {
            let mut disk = sim(seed).with_odds(odds);
            (0..10).for_each(|tag| disk.submit(record(tag)));
            let ended = drain(&mut disk);
            assert_eq!(ended.len(), 10, "seed {seed}");
            for done in ended {
                done.result.expect("no harm");
                assert_eq!(done.slot[..], bytes[done.tag as usize * RECORD..][..RECORD], "seed {seed}");
            }
        }
    }
}

#[test]
fn a_fault_befalls_the_reads_that_touch_its_place() {
    let mut disk = sim(2);
    let control = disk.control();
    control.inject(0, 2 * RECORD as u64 + 5000, Fault::Short, 1);
    control.inject(0, 3 * RECORD as u64 + 1, Fault::Eio, 2);
    control.inject(0, 4 * RECORD as u64 + 77, Fault::Flip(0x80), u32::MAX);
    control.inject(0, 5 * RECORD as u64, Fault::Split, 1);
    let mut failed = |attempt: u64| {
        (0..10).for_each(|tag| disk.submit(record(attempt * 10 + tag)));
        let mut failed: Vec<_> = drain(&mut disk).into_iter().filter(|done| done.result.is_err()).collect();
        failed.sort_by_key(|done| done.tag);
        failed.into_iter().map(|done| (done.tag, done.result.expect_err("failed"))).collect::<Vec<_>>()
    };
    let first = failed(0);
    let [(2, short), (3, eio), (4, flipped)] = &first[..] else { panic!("{first:?}") };
    assert!(matches!(short, ReadError::Short { file: 0, got: 5000, needed: RECORD, .. }), "{short}");
    assert!(matches!(eio, ReadError::Io(cause) if cause.raw_os_error() == Some(5)), "{eio}");
    assert!(matches!(flipped, ReadError::Checksum { .. }), "{flipped}");
    assert!(matches!(failed(1)[..], [(13, ReadError::Io(_)), (14, ReadError::Checksum { .. })]));
    assert!(matches!(failed(2)[..], [(24, ReadError::Checksum { .. })]));
    let n_of = |offset| control.reads().iter().filter(|read| read.extents[0].offset == offset).count();
    assert!((0..10).all(|i| n_of(i * RECORD as u64) == 3), "each record three times");
    assert_eq!(control.bytes_read(), 3 * FILE_BYTES as u64);
}

#[test]
fn a_delayed_read_comes_later_and_holds_up_nobody_who_waits() {
    let mut disk = sim(3);
    let control = disk.control();
    control.inject(0, 0, Fault::Delay(1000), 1);
    (0..4).for_each(|tag| disk.submit(record(tag)));
    let tags: Vec<_> = drain(&mut disk).iter().map(|done| done.tag).collect();
    assert_eq!(tags.len(), 4);
    assert_eq!(tags[3], 0);

    control.inject(0, 0, Fault::Delay(7), 1);
    disk.submit(record(0));
    assert!((0..7).all(|_| disk.next(false).is_none()), "7 calls later at the earliest");
    assert!(disk.next(true).is_some());
}

#[test]
fn a_file_is_cut_from_a_moment_on() {
    let mut disk = sim(4).with_depth(1);
    disk.control().truncate(0, 2 * PAGE + 5, 2);
    (0..3).for_each(|_| disk.submit(record(0)));
    disk.submit(record(1));
    let results: Vec<_> = drain(&mut disk).into_iter().map(|done| done.result).collect();
    assert!(
        matches!(
            results[..],
            [Ok(()), Ok(()), Err(ReadError::Short { got: 8197, .. }), Err(ReadError::Short { got: 0, .. })]
        ),
        "{results:?}"
    );
}

#[test]
fn only_reads_that_wait_are_taken_back() {
    let mut disk = sim(5).with_depth(2);
    (0..4).for_each(|tag| disk.submit(record(tag)));
    assert!(disk.cancel(0).is_none() && disk.cancel(1).is_none(), "at the drive");
    assert_eq!(disk.cancel(3).expect("waits").slot.len(), RECORD);
    assert!(disk.cancel(3).is_none(), "is gone");
    let mut tags: Vec<_> = drain(&mut disk).iter().map(|done| done.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2]);
    assert!(disk.next(false).is_none() && disk.next(true).is_none());
}

#[test]
fn over_a_real_file_it_is_as_the_real_drives() {
    let dir = folder();
    let bytes = content(6, 5 * PAGE_BYTES + 321);
    let path = write(dir.path(), "a", &bytes);
    let file = std::fs::File::open(&path).expect("opens");
    let mut all = disks(&[PathBuf::from(&path)], 2);
    all.push(("simulated", Box::new(SimDisk::new(6, vec![SimFile::Real(file)]))));
    let tail = extent(0, 4 * PAGE, 2 * PAGE_BYTES, bytes.len());
    let beyond = Extent { needed: 2 * PAGE_BYTES, ..tail };
    for (name, mut disk) in all {
        disk.submit(read(0, &[tail], None));
        disk.submit(read(1, &[beyond], None));
        disk.submit(read(2, &[Extent { file: 1, ..tail }], None));
        let mut ended = drain(&mut *disk);
        ended.sort_by_key(|done| done.tag);
        let errors: Vec<_> =
            ended.iter().map(|done| done.result.as_ref().err().map(ToString::to_string)).collect();
        let short = "4417 of 8192 bytes came from offset 16384 of file 0";
        let none = "no read: its file was not opened";
        assert_eq!(errors, [None, Some(short.to_owned()), Some(none.to_owned())], "{name}");
        assert_eq!(ended[0].slot[..4417], bytes[4 * PAGE_BYTES..], "{name}");
    }
}
