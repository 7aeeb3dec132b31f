//! A drive for tests: in memory or over real files, with faults that a seed or the test decides.
//!
//! What it shares with the real ones is how an extent comes piece by piece, and how a read is checked.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::Random;
use super::{Disk, Done, Extent, Read};

/// What is read.
#[derive(Debug)]
pub enum SimFile {
    /// These bytes.
    Memory(Vec<u8>),
    /// What is in the file at the moment.
    Real(File),
}

/// Something that goes wrong at a place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The read ends that many calls of `next` later than it would; calls that wait skip the time when nothing else ends.
    Delay(u32),
    /// At first only what lies before the place comes, or a byte if that is nothing; then the rest. No harm.
    Split,
    /// What lies before the place comes, and then nothing.
    Short,
    /// The drive can't read this place.
    Eio,
    /// The byte at the place comes with these bits flipped.
    Flip(u8),
}

/// How likely each fault is to befall a read, at a place in it that the seed decides: 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Odds {
    /// Of [`Fault::Delay`], by 1 to 16 calls.
    pub delay: f64,
    /// Of [`Fault::Split`].
    pub split: f64,
    /// Of [`Fault::Short`].
    pub short: f64,
    /// Of [`Fault::Eio`].
    pub eio: f64,
    /// Of [`Fault::Flip`], by one bit.
    pub flip: f64,
}

/// A read that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRead {
    /// The read's.
    pub tag: u64,
    /// What was read.
    pub extents: Arc<[Extent]>,
    /// How it failed.
    pub error: Option<String>,
}

/// Seeded: the same calls have the same results. Reads end in random order.
#[derive(Debug)]
pub struct SimDisk {
    files: Vec<SimFile>,
    depth: usize,
    odds: Odds,
    random: Random,
    waiting: VecDeque<Read>,
    at_drive: Vec<Started>,
    control: SimControl,
}

/// The test's hand on a disk that it has given away.
#[derive(Clone, Debug, Default)]
pub struct SimControl {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Placed>,
    cuts: Vec<Cut>,
    ended: Vec<SimRead>,
}

/// A fault and where.
#[derive(Clone, Copy, Debug)]
struct Placed {
    file: usize,
    place: u64,
    fault: Fault,
    /// Reads it will befall.
    times: u32,
}

/// A file's new end.
#[derive(Debug)]
struct Cut {
    file: usize,
    bytes: u64,
    /// Ended reads from which on.
    after: usize,
}

#[derive(Debug)]
struct Started {
    read: Read,
    /// Calls of `next` before it can end.
    delay: u32,
    faults: Vec<Placed>,
}

impl SimDisk {
    /// A drive without faults, 4 reads at once.
    pub fn new(seed: u64, files: Vec<SimFile>) -> Self {
        let (waiting, at_drive, control) = Default::default();
        Self { files, depth: 4, odds: Odds::default(), random: Random(seed), waiting, at_drive, control }
    }

    /// With so many reads at once, at least one.
    #[must_use]
    pub fn with_depth(self, depth: usize) -> Self {
        Self { depth: depth.max(1), ..self }
    }

    /// With faults that come by chance.
    #[must_use]
    pub fn with_odds(self, odds: Odds) -> Self {
        Self { odds, ..self }
    }

    /// To inject faults, and to see what was read, wherever the disk has gone.
    pub fn control(&self) -> SimControl {
        self.control.clone()
    }

    fn start_waiting(&mut self) {
        while self.at_drive.len() < self.depth
            && let Some(read) = self.waiting.pop_front()
        {
            let mut faults = self.control.take_faults(&read.extents);
            faults.extend(self.odds.draw(&mut self.random, &read.extents));
            let delay = faults.iter().map(Placed::delay).fold(0, u32::saturating_add);
            self.at_drive.push(Started { read, delay, faults });
        }
    }

    fn pass_time(&mut self, calls: u32) {
        self.at_drive.iter_mut().for_each(|started| started.delay = started.delay.saturating_sub(calls));
    }

    fn end(&self, started: Started) -> Done {
        let Started { read, mut faults, .. } = started;
        let extents = Arc::clone(&read.extents);
        let done = read.carry_out(self.files.len(), |file, offset, into| {
            let left = self.control.bytes_left(file).saturating_sub(offset);
            let room = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = self.files[file].read_at(offset, &mut into[..room])?;
            let mut here = faults.iter_mut().filter(|placed| placed.file == file);
            here.try_fold(n, |n, placed| placed.strike(offset, &mut into[..n]))
        });
        let error = done.result.as_ref().err().map(ToString::to_string);
        self.control.lock().ended.push(SimRead { tag: done.tag, extents, error });
        done
    }
}

impl Disk for SimDisk {
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, read: Read) {
        self.waiting.push_back(read);
        self.start_waiting();
    }

    fn next(&mut self, wait: bool) -> Option<Done> {
        // A real drive often has nothing yet when nobody waits.
        let is_late = !wait && self.random.happens(0.5);
        if wait {
            let soonest = self.at_drive.iter().map(|started| started.delay).min();
            self.pass_time(soonest.unwrap_or(0));
        }
        let ready: Vec<_> = (0..self.at_drive.len()).filter(|&i| self.at_drive[i].delay == 0).collect();
        self.pass_time(1);
        if is_late || ready.is_empty() {
            return None;
        }
        let started = self.at_drive.swap_remove(ready[self.random.below(ready.len())]);
        self.start_waiting();
        Some(self.end(started))
    }

    fn cancel(&mut self, tag: u64) -> Option<Read> {
        let place = self.waiting.iter().position(|read| read.tag == tag)?;
        self.waiting.remove(place)
    }
}

impl SimControl {
    /// Lets a fault befall the next `times` reads that touch byte `offset` of a file.
    pub fn inject(&self, file: usize, offset: u64, fault: Fault, times: u32) {
        self.lock().faults.push(Placed { file, place: offset, fault, times });
    }

    /// Takes all injected faults back.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Cuts a file to `bytes` once `after` reads have ended.
    pub fn truncate(&self, file: usize, bytes: u64, after: usize) {
        self.lock().cuts.push(Cut { file, bytes, after });
    }

    /// All reads that have ended, in that order.
    pub fn reads(&self) -> Vec<SimRead> {
        self.lock().ended.clone()
    }

    /// Bytes that ended reads have asked for.
    pub fn bytes_read(&self) -> u64 {
        self.lock().ended.iter().flat_map(|read| read.extents.iter()).map(|extent| extent.bytes as u64).sum()
    }

    fn take_faults(&self, extents: &[Extent]) -> Vec<Placed> {
        let mut state = self.lock();
        let is_due = |placed: &Placed| placed.times > 0 && extents.iter().any(|extent| placed.is_in(extent));
        let mut due = Vec::new();
        for placed in state.faults.iter_mut().filter(|placed| is_due(placed)) {
            placed.times -= 1;
            due.push(*placed);
        }
        due
    }

    fn bytes_left(&self, file: usize) -> u64 {
        let state = self.lock();
        let cuts = state.cuts.iter().filter(|cut| cut.file == file && state.ended.len() >= cut.after);
        cuts.map(|cut| cut.bytes).min().unwrap_or(u64::MAX)
    }

    /// Every change is whole: a holder that panicked has left nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Odds {
    /// Draws every fault for every read, so that one likelihood does not change what another brings.
    fn draw(self, random: &mut Random, extents: &[Extent]) -> Vec<Placed> {
        let delay = Fault::Delay(1 + random.below(16) as u32);
        let flip = Fault::Flip(1 << random.below(8));
        let all = [
            (self.delay, delay),
            (self.split, Fault::Split),
            (self.short, Fault::Short),
            (self.eio, Fault::Eio),
            (self.flip, flip),
        ];
        let mut draw = |(odds, fault)| {
            let (happens, extent, byte) = (random.happens(odds), random.next(), random.next());
            let extent = extents.get((extent % extents.len().max(1) as u64) as usize)?;
            let place = extent.offset.saturating_add(byte % extent.needed.max(1) as u64);
            happens.then_some(Placed { file: extent.file, place, fault, times: 1 })
        };
        all.into_iter().filter_map(&mut draw).collect()
    }
}

impl Placed {
    fn delay(&self) -> u32 {
        if let Fault::Delay(calls) = self.fault { calls } else { 0 }
    }

    fn is_in(&self, extent: &Extent) -> bool {
        let at = self.place.checked_sub(extent.offset);
        self.file == extent.file && at.is_some_and(|at| at < extent.bytes as u64)
    }

    /// What the fault makes of the bytes that came from `offset` on: how many are left.
    fn strike(&mut self, offset: u64, came: &mut [u8]) -> io::Result<usize> {
        let n = came.len();
        let at = self.place.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
        let Some(at) = at.filter(|&at| at < n) else { return Ok(n) };
        match self.fault {
            Fault::Delay(_) => Ok(n),
            Fault::Eio => Err(io::Error::from_raw_os_error(libc::EIO)),
            Fault::Short => Ok(at),
            Fault::Split => {
                self.fault = Fault::Delay(0);
                Ok(at.max(1))
            }
            Fault::Flip(bits) => {
                came[at] ^= bits;
                Ok(n)
            }
        }
    }
}

impl SimFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
                let n = into.len().min(bytes.len() - start);
                into[..n].copy_from_slice(&bytes[start..start + n]);
                Ok(n)
            }
            Self::Real(file) => file.read_at(into, offset),
        }
    }
}
