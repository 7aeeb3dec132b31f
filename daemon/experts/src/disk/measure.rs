//! Which way of reading is fastest on this box.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weights::pack::Hash;

use super::choose::choose;
use super::random::Random;
use super::{Check, Choice, Disk, Extent, Measured, Method, PreadPool, Read, ReadError, Speed, Uring};
use crate::{Error, PAGE_BYTES, Slot};

/// Reads at the drive at once that are tried.
const DEPTHS: [usize; 5] = [1, 2, 4, 8, 16];
/// Rounds every way gets, even if the budget is gone: below three a median means nothing.
const ROUNDS_MIN: usize = 3;
/// Rounds the budget is cut for: enough that other work on the box falls on all ways alike.
const ROUNDS: u32 = 7;
/// Memory for reads under way; depths that need more are left out.
const SLOTS_BYTES_MAX: usize = 512 << 20;
/// Places in the file that are told apart.
const PLACES_MAX: usize = 1 << 20;

/// The reads to measure with.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Checksums are computed as well, as they will be of a pack's records.
    pub is_checked: bool,
}

/// Tries threads and io_uring at several depths with reads of whole records at random places of the file, in short rounds
/// one after the other, and chooses. Takes about `budget`; longer where three rounds do.
///
/// # Errors
/// The file can't be read, or is empty; the system gives no memory or threads.
pub fn measure(path: &Path, load: Load, budget: Duration) -> Result<Measured, Error> {
    let began = Instant::now();
    let mut random = Random(RandomState::new().hash_one(path));
    let mut places = Places::new(path, load, &mut random)?;
    let (mut ways, no_uring) = open_ways(path, places.bytes)?;
    let deepest = ways.iter().map(|way| way.choice.depth).max().expect("depth 1 is always tried");
    let mut slots = Slot::many(places.bytes, deepest + 1)?;
    // The system gives pages as they are written: not while the clock runs.
    slots.iter_mut().for_each(|slot| slot.fill(0));
    let time = budget / (ROUNDS * ways.len() as u32);
    let mut order: Vec<_> = (0..ways.len()).collect();
    let mut n_rounds = 0;
    while n_rounds < ROUNDS_MIN || began.elapsed() < budget {
        random.shuffle(&mut order);
        for &way in &order {
            let speed = ways[way].round(&mut slots, &mut places, &mut random, time);
            ways[way].speeds.push(speed.map_err(|error| {
                let cause = io::Error::other(error);
                Error::Io { path: path.into(), doing: "read", cause }
            })?);
        }
        n_rounds += 1;
    }
    let speeds: Vec<_> = ways.into_iter().map(Way::median).collect();
    let choice = choose(&speeds).expect("depth 1 was tried");
    Ok(Measured { record_bytes: load.record_bytes, n_rounds, speeds, no_uring, choice })
}

/// Records of the file in random order, none twice before all were read once.
struct Places {
    /// Pages of a record, in bytes.
    bytes: usize,
    file_bytes: u64,
    check: Option<Check>,
    order: Vec<u64>,
    n_used: usize,
}

impl Places {
    fn new(path: &Path, load: Load, random: &mut Random) -> Result<Self, Error> {
        let error = |doing| move |cause| Error::Io { path: path.into(), doing, cause };
        let file_bytes = std::fs::metadata(path).map_err(error("read the size of"))?.len();
        if file_bytes == 0 {
            return Err(error("measure")(io::Error::new(io::ErrorKind::InvalidInput, "nothing is in it")));
        }
        let record_bytes = load
            .record_bytes
            .clamp(1, usize::MAX / 2)
            .min(file_bytes.next_multiple_of(PAGE_BYTES as u64) as usize);
        let bytes = record_bytes.next_multiple_of(PAGE_BYTES);
        let n_records = (file_bytes / bytes as u64).max(1);
        let n_places = n_records.min(PLACES_MAX as u64);
        let mut order: Vec<_> =
            (0..n_places).map(|place| place * (n_records / n_places) * bytes as u64).collect();
        random.shuffle(&mut order);
        let parts = std::iter::once(0..record_bytes).collect();
        let check = load.is_checked.then_some(Check { parts, want: Hash(0) });
        Ok(Self { bytes, file_bytes, check, order, n_used: 0 })
    }

    fn read(&mut self, slot: Slot, random: &mut Random) -> Read {
        if self.n_used == self.order.len() {
            random.shuffle(&mut self.order);
            self.n_used = 0;
        }
        let offset = self.order[self.n_used];
        self.n_used += 1;
        let needed = self.bytes.min((self.file_bytes - offset) as usize);
        let extent = Extent { file: 0, offset, at: 0, bytes: self.bytes, needed };
        Read {
            tag: needed as u64,
            extents: Arc::from([extent]),
            slot,
            check: self.check.clone(),
            unpack: None,
        }
    }
}

/// A way of reading under trial.
struct Way {
    choice: Choice,
    disk: Box<dyn Disk>,
    speeds: Vec<f64>,
}

/// All of them, and why io_uring is not among them.
fn open_ways(path: &Path, slot_bytes: usize) -> Result<(Vec<Way>, Option<Error>), Error> {
    let mut ways = Vec::new();
    let mut no_uring = None;
    for depth in DEPTHS {
        if depth > 1 && slot_bytes.saturating_mul(depth + 1) > SLOTS_BYTES_MAX {
            break;
        }
        let mut add =
            |method, disk| ways.push(Way { choice: Choice { method, depth }, disk, speeds: Vec::new() });
        add(Method::Pread, Box::new(PreadPool::open(&[path], depth)?) as Box<dyn Disk>);
        match Uring::open(&[path], depth) {
            Ok(uring) => add(Method::Uring, Box::new(uring)),
            Err(error @ Error::NoUring { .. }) => no_uring = Some(error),
            Err(error) => return Err(error),
        }
    }
    Ok((ways, no_uring))
}

impl Way {
    /// Keeps the drive busy for `time`, one read waiting in line, and gives bytes a second; all slots come back.
    fn round(
        &mut self,
        slots: &mut Vec<Slot>,
        places: &mut Places,
        random: &mut Random,
        time: Duration,
    ) -> Result<f64, ReadError> {
        let began = Instant::now();
        for slot in slots.drain(slots.len().saturating_sub(self.choice.depth + 1)..) {
            self.disk.submit(places.read(slot, random));
        }
        let mut bytes = 0;
        let mut failed = None;
        while let Some(done) = self.disk.next(true) {
            match done.result {
                // What the checksums are is not known here, only what they cost.
                Ok(()) | Err(ReadError::Checksum { .. }) => bytes += done.tag,
                Err(error) => failed = Some(error),
            }
            match failed.is_none() && began.elapsed() < time {
                true => self.disk.submit(places.read(done.slot, random)),
                false => slots.push(done.slot),
            }
        }
        failed.map_or(Ok(bytes as f64 / began.elapsed().as_secs_f64()), Err)
    }

    fn median(mut self) -> Speed {
        self.speeds.sort_unstable_by(f64::total_cmp);
        Speed { choice: self.choice, bytes_per_s: self.speeds[self.speeds.len() / 2] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_comes_twice_before_all_came_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("data");
        std::fs::write(&path, vec![0; 9 * 8192 + 100]).expect("writes");
        let mut random = Random(1);
        let load = Load { record_bytes: 5000, is_checked: false };
        let mut places = Places::new(&path, load, &mut random).expect("a file");
        for _ in 0..3 {
            let mut offset = |_| places.read(Slot::new(1).expect("memory"), &mut random).extents[0].offset;
            let mut offsets: Vec<_> = (0..9).map(&mut offset).collect();
            offsets.sort_unstable();
            assert_eq!(offsets, (0..9).map(|i| i * 8192).collect::<Vec<_>>());
        }
    }

    #[test]
    fn all_ways_are_measured_and_one_is_chosen() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("data");
        std::fs::write(&path, vec![3; 100_000]).expect("writes");
        for record_bytes in [1, 20_000, 1 << 20] {
            let load = Load { record_bytes, is_checked: true };
            let measured = measure(&path, load, Duration::from_millis(1)).expect("measures");
            let n_methods = if measured.no_uring.is_some() { 1 } else { 2 };
            assert_eq!(measured.speeds.len(), n_methods * DEPTHS.len());
            assert!(measured.speeds.iter().all(|speed| speed.bytes_per_s > 0.0));
            assert!(measured.n_rounds >= ROUNDS_MIN);
            assert!(measured.speeds.iter().any(|speed| speed.choice == measured.choice));
        }
    }

    #[test]
    fn deep_queues_of_large_records_are_left_out() {
        let (ways, _) = open_ways(Path::new("/proc/version"), 100 << 20).expect("opens");
        assert!(ways.iter().all(|way| way.choice.depth <= 4), "17 slots of 100 MiB are too much");
        let (ways, _) = open_ways(Path::new("/proc/version"), 1 << 40).expect("opens");
        assert!(ways.iter().all(|way| way.choice.depth == 1), "there is always depth 1");
    }

    #[test]
    fn files_that_cannot_be_measured_are_errors() {
        let load = Load { record_bytes: 4096, is_checked: false };
        let budget = Duration::ZERO;
        let error = measure(Path::new("/nowhere"), load, budget).expect_err("no such file");
        assert!(error.to_string().starts_with("/nowhere: cannot read the size of"), "{error}");
        let empty = tempfile::NamedTempFile::new().expect("a file");
        let error = measure(empty.path(), load, budget).expect_err("an empty file");
        assert!(error.to_string().ends_with("cannot measure: nothing is in it"), "{error}");
    }
}
