//! Real files: both methods bring the same, and nothing gets lost.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use experts::disk::{Choice, DEPTH_MAX, Disk, Drive, Extent, Method, PreadPool, Read, ReadError};
use experts::{PAGE_BYTES, Slot};
use proptest::prelude::*;

use crate::support::{check, content, disks, drain, extent, folder, read, uring, write};

const PAGE: u64 = PAGE_BYTES as u64;

#[test]
fn content_comes_from_any_page_and_from_the_tail() {
    let dir = folder();
    let bytes = content(1, 9 * PAGE_BYTES + 1234);
    let path = write(dir.path(), "a", &bytes);
    for (name, mut disk) in disks(&[path], 3) {
        let places =
            [(0, 1), (1, PAGE_BYTES), (3, 3 * PAGE_BYTES + 5), (8, 2 * PAGE_BYTES), (9, 1), (0, bytes.len())];
        for (tag, (page, n_bytes)) in places.into_iter().enumerate() {
            disk.submit(read(tag as u64, &[extent(0, page * PAGE, n_bytes, bytes.len())], None));
        }
        let ended = drain(&mut *disk);
        assert_eq!(ended.len(), places.len(), "{name}");
        for done in ended {
            done.result.expect("reads");
            let (page, n_bytes) = places[done.tag as usize];
            let want = &bytes[(page * PAGE) as usize..];
            let n = n_bytes.min(want.len());
            assert_eq!(done.slot[..n], want[..n], "{name}, read {}", done.tag);
        }
    }
}

#[test]
fn extents_of_several_files_come_into_one_slot() {
    let dir = folder();
    let files: Vec<_> = (0..3).map(|seed| content(seed, 3 * PAGE_BYTES)).collect();
    let paths: Vec<_> = (0..3).map(|i| write(dir.path(), &i.to_string(), &files[i])).collect();
    let extents: Vec<_> = (0..3)
        .map(|file| Extent { at: (2 - file) * PAGE_BYTES, ..extent(file, PAGE, PAGE_BYTES, 3 * PAGE_BYTES) })
        .collect();
    for (name, mut disk) in disks(&paths, 1) {
        disk.submit(read(7, &extents, None));
        let done = disk.next(true).expect("one is under way");
        done.result.expect("reads");
        assert_eq!(done.tag, 7);
        for (file, slot) in (0..3).rev().zip(done.slot.chunks(PAGE_BYTES)) {
            assert_eq!(slot, &files[file][PAGE_BYTES..2 * PAGE_BYTES], "{name}, file {file}");
        }
        assert!(disk.next(true).is_none(), "none is under way");
    }
}

#[test]
fn other_bytes_than_were_written_are_noticed() {
    let dir = folder();
    let bytes = content(2, 2 * PAGE_BYTES);
    let good = check(&bytes, &[64..3000, 3008..8000]);
    let path = write(dir.path(), "a", &bytes);
    let mut flipped = bytes.clone();
    flipped[7999] ^= 0x10;
    let bad = write(dir.path(), "b", &flipped);
    let n_bytes = bytes.len();
    for (name, mut disk) in disks(&[path, bad], 2) {
        for file in 0..2 {
            disk.submit(read(file as u64, &[extent(file, 0, n_bytes, n_bytes)], Some(good.clone())));
        }
        for done in drain(&mut *disk) {
            match (done.tag, done.result) {
                (0, Ok(())) => {}
                (1, Err(ReadError::Checksum { got, want })) => assert!(got != want && want == good.want),
                (tag, result) => panic!("{name}: read {tag} ended with {result:?}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_while_in_use_is_a_short_read() {
    for depth in [1, 4] {
        let dir = folder();
        let bytes = content(3, 8 * PAGE_BYTES);
        let path = write(dir.path(), "a", &bytes);
        let whole = extent(0, 0, bytes.len(), bytes.len());
        let beyond = extent(0, 6 * PAGE, PAGE_BYTES, bytes.len());
        for (name, mut disk) in disks(std::slice::from_ref(&path), depth) {
            std::fs::write(&path, &bytes).expect("writes");
            disk.submit(read(0, &[whole], None));
            disk.next(true).expect("one is under way").result.expect("is whole yet");
            let file = OpenOptions::new().write(true).open(&path).expect("opens");
            file.set_len(5 * PAGE + 77).expect("cuts");
            disk.submit(read(1, &[whole], None));
            disk.submit(read(2, &[beyond], None));
            for done in drain(&mut *disk) {
                let Err(ReadError::Short { file: 0, offset, got, needed }) = done.result else {
                    panic!("{name}: read {} ended with {:?}", done.tag, done.result)
                };
                let want =
                    [(0, 5 * PAGE_BYTES + 77, bytes.len()), (6 * PAGE, 0, PAGE_BYTES)][done.tag as usize - 1];
                assert_eq!((offset, got, needed), want, "{name}");
            }
        }
    }
}

#[test]
fn what_the_system_cannot_read_is_an_error_with_the_place() {
    // Nothing is mapped at address 0: EIO, as from a drive that can't read a place.
    for (name, mut disk) in disks(&[PathBuf::from("/proc/self/mem")], 2) {
        disk.submit(read(0, &[Extent { file: 0, offset: 0, at: 0, bytes: PAGE_BYTES, needed: 1 }], None));
        let done = disk.next(true).expect("one is under way");
        let Err(ReadError::Io(error)) = done.result else { panic!("{name}: {:?}", done.result) };
        assert_eq!(
            error.to_string(),
            "/proc/self/mem, from offset 0 on: Input/output error (os error 5)",
            "{name}"
        );
        assert_ne!(error.kind(), ErrorKind::Interrupted);
    }
}

#[test]
fn reads_that_are_none_end_with_an_error_and_harm_no_other() {
    let dir = folder();
    let bytes = content(4, PAGE_BYTES);
    let path = write(dir.path(), "a", &bytes);
    let fine = extent(0, 0, PAGE_BYTES, PAGE_BYTES);
    for (name, mut disk) in disks(&[path], 1) {
        let mut outside = read(1, &[fine], None);
        outside.extents = Arc::from([Extent { at: PAGE_BYTES, ..fine }]);
        disk.submit(outside);
        disk.submit(read(2, &[fine], None));
        disk.submit(read(3, &[], None));
        for done in drain(&mut *disk) {
            let is_refused = matches!(done.result, Err(ReadError::Malformed { .. }));
            assert_eq!(is_refused, done.tag == 1, "{name}: read {} ended with {:?}", done.tag, done.result);
        }
    }
}

#[test]
fn every_read_comes_back_once() {
    let dir = folder();
    let bytes = content(5, 64 * PAGE_BYTES);
    let path = write(dir.path(), "a", &bytes);
    for depth in [1, 3, 16] {
        for (name, mut disk) in disks(std::slice::from_ref(&path), depth) {
            let mut seen = vec![0; 500];
            let mut note = |done: experts::disk::Done| {
                done.result.expect("reads");
                let page = done.tag % 63;
                let want = &bytes[(page * PAGE) as usize..][..2 * PAGE_BYTES];
                assert_eq!(&done.slot[..], want, "{name}, depth {depth}, read {}", done.tag);
                seen[done.tag as usize] += 1;
            };
            for tag in 0..500 {
                disk.submit(read(tag, &[extent(0, tag % 63 * PAGE, 2 * PAGE_BYTES, bytes.len())], None));
                if let Some(done) = disk.next(false) {
                    note(done);
                }
            }
            drain(&mut *disk).into_iter().for_each(&mut note);
            assert!(seen.iter().all(|&n| n == 1), "{name}, depth {depth}: {seen:?}");
        }
    }
}

#[test]
fn a_read_is_taken_back_or_comes_never_both() {
    let dir = folder();
    let bytes = content(6, 256 * PAGE_BYTES);
    let path = write(dir.path(), "a", &bytes);
    for (name, mut disk) in disks(&[path], 1) {
        for tag in 0..100 {
            disk.submit(read(tag, &[extent(0, 0, bytes.len(), bytes.len())], None));
        }
        let mut cancel = |tag: &u64| disk.cancel(*tag).is_some_and(|read| read.slot.len() == bytes.len());
        let taken: Vec<_> = (0..100).rev().filter(&mut cancel).collect();
        assert!(disk.cancel(1000).is_none(), "{name}");
        let mut tags: Vec<_> = drain(&mut *disk).iter().map(|done| done.tag).chain(taken).collect();
        tags.sort_unstable();
        assert_eq!(tags, (0..100).collect::<Vec<_>>(), "{name}");
    }
}

/// Threads of this process that are the drives'.
fn n_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task")
        .expect("proc")
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("experts-")).count()
}

/// A new thread has no name yet, and one that was joined may be listed for a moment longer.
fn soon(mut is_so: impl FnMut() -> bool) -> bool {
    (0..1000).any(|_| {
        is_so() || {
            sleep(Duration::from_millis(5));
            false
        }
    })
}

#[test]
fn dropping_a_disk_with_reads_under_way_ends_its_threads() {
    let dir = folder();
    let bytes = content(7, 256 * PAGE_BYTES);
    let path = write(dir.path(), "a", &bytes);
    // In a process of its own: other tests have disks, too.
    let me = std::env::current_exe().expect("a test");
    let run = |name| {
        std::process::Command::new(&me)
            .args(["--ignored", "--exact", name])
            .env("WELS_TEST_FILE", &path)
            .status()
    };
    assert!(run("real::drops_disks_over_and_over").expect("runs").success());
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn drops_disks_over_and_over() {
    let Some(path) = std::env::var_os("WELS_TEST_FILE") else { return };
    let path = PathBuf::from(path);
    let n_bytes = std::fs::metadata(&path).expect("a file").len() as usize;
    for round in 0..20 {
        for (name, mut disk) in disks(std::slice::from_ref(&path), 1 + round % 4) {
            assert!(soon(|| n_threads() > 0), "{name}");
            for tag in 0..round as u64 {
                disk.submit(read(tag, &[extent(0, 0, n_bytes, n_bytes)], None));
            }
            disk.next(round % 2 == 0);
        }
        assert!(soon(|| n_threads() == 0), "all threads have ended");
    }
    let fds = std::fs::read_dir("/proc/self/fd")
        .expect("proc")
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let left: Vec<_> =
        fds.filter(|target| *target == path || target.to_string_lossy().contains("io_uring")).collect();
    assert!(left.is_empty(), "{left:?}");
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").expect("proc");
    let rss = maps.lines().find_map(|line| line.strip_prefix("Rss:")).expect("Rss");
    let rss_kib: usize = rss.trim().trim_end_matches("kB").trim().parse().expect("a number");
    assert!(rss_kib < 100 << 10, "190 slots of 1 MiB were used, {rss_kib} KiB are held");
}

#[test]
fn a_choice_opens_what_was_chosen() {
    let dir = folder();
    let path = write(dir.path(), "a", &content(8, PAGE_BYTES));
    for (choice, depth) in [
        (Choice { method: Method::Pread, depth: 3 }, 3),
        (Choice { method: Method::Uring, depth: 5 }, 5),
        (Choice { method: Method::Pread, depth: 0 }, 1),
        (Choice { method: Method::Uring, depth: usize::MAX }, DEPTH_MAX),
    ] {
        let mut disk = Drive::open(&[&path], choice).expect("opens");
        assert_eq!(disk.depth(), depth);
        disk.submit(read(0, &[extent(0, 0, PAGE_BYTES, PAGE_BYTES)], None));
        disk.next(true).expect("one is under way").result.expect("reads");
    }
    let error = Drive::open(&[dir.path().join("b")], Choice { method: Method::Uring, depth: 1 })
        .err()
        .expect("no such file");
    assert!(error.to_string().contains("/b: cannot open: "), "{error}");
}

/// Extents one behind the other in the slot, some of them partly or wholly beyond the file's end.
fn extents() -> impl Strategy<Value = (usize, Vec<Extent>)> {
    let pieces = proptest::collection::vec((0..40u64, 1..9usize, 0..PAGE_BYTES), 0..7);
    (0..32 * PAGE_BYTES, pieces).prop_map(|(file_bytes, pieces)| {
        let mut at = 0;
        let extent = |(page, n_pages, less)| {
            let bytes = n_pages * PAGE_BYTES;
            let extent = Extent { file: 0, offset: page * PAGE, at, bytes, needed: bytes - less };
            at += bytes;
            extent
        };
        (file_bytes, pieces.into_iter().map(extent).collect())
    })
}

/// The needed bytes, or how the read failed.
fn outcome(disk: &mut dyn Disk, reads: &[Vec<Extent>]) -> Vec<Result<Vec<Vec<u8>>, String>> {
    for (tag, extents) in reads.iter().enumerate() {
        let bytes = extents.iter().map(|extent| extent.bytes).sum();
        let slot = Slot::new(bytes).expect("memory");
        disk.submit(Read {
            tag: tag as u64,
            extents: Arc::from(&extents[..]),
            slot,
            check: None,
            unpack: None,
        });
    }
    let mut ended = drain(disk);
    ended.sort_unstable_by_key(|done| done.tag);
    let needed = |slot: &Slot, extent: &Extent| slot[extent.at..][..extent.needed].to_vec();
    let outcome = |done: experts::disk::Done| match done.result {
        Ok(()) => Ok(reads[done.tag as usize].iter().map(|extent| needed(&done.slot, extent)).collect()),
        Err(error) => Err(error.to_string()),
    };
    ended.into_iter().map(outcome).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn both_methods_bring_the_same(reads in proptest::collection::vec(extents(), 1..5), depth in 1..5usize) {
        let dir = folder();
        let file_bytes = reads[0].0;
        let bytes = content(9, file_bytes);
        let path = write(dir.path(), "a", &bytes);
        let reads: Vec<_> = reads.into_iter().map(|(_, extents)| extents).collect();
        let pread = outcome(&mut PreadPool::open(&[&path], depth).expect("opens"), &reads);
        prop_assert_eq!(pread.len(), reads.len());
        for (extents, outcome) in reads.iter().zip(&pread) {
            let end = |extent: &Extent| extent.offset as usize + extent.needed;
            let want = extents.iter().all(|extent| end(extent) <= file_bytes);
            prop_assert_eq!(outcome.is_ok(), want);
            for (extent, came) in extents.iter().zip(outcome.iter().flatten()) {
                prop_assert_eq!(&came[..], &bytes[extent.offset as usize..end(extent)]);
            }
        }
        if let Some(mut uring) = uring(&[path], depth) {
            prop_assert_eq!(outcome(&mut uring, &reads), pread);
        }
    }
}
