//! Reads through io_uring: one thread has all of them at the drive at once.
//!
//! ```text
//! submit -> Line, Bell -> | experts-uring:  start reads  ->  enter the kernel  ->  take answers |-> next
//!                         |                 ^   sleeps there only; the bell is one more entry  |
//!                         |                 +---- short: ask for the rest <----------+         |
//! ```
//!
//! Neither slots nor files are registered with the ring: that saves microseconds, of reads that take milliseconds.
#![expect(unsafe_code, reason = "the kernel writes into slots while their reads are under way")]

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::files::Files;
use super::line::{Desk, Line};
use super::priority::be_urgent;
use super::transfer::Transfer;
use super::{DEPTH_MAX, Disk, Done, Read, ReadError};
use crate::Error;

/// Entries that are handed to the kernel at once, for each read at the drive: a record in a GGUF file has three extents.
const ENTRIES_PER_READ: usize = 4;
/// What one entry asks for at most; Linux gives 2 GiB less a page.
const ASK_BYTES_MAX: usize = 1 << 30;
/// How the bell's answer is known.
const BELL: u64 = u64::MAX;

/// A ring of the kernel's, and the thread that owns it.
#[derive(Debug)]
pub struct Uring {
    desk: Desk,
    bell: Arc<Bell>,
    depth: usize,
    thread: Option<JoinHandle<()>>,
}

impl Uring {
    /// Opens the files and a ring with room for `depth` reads at the drive, at least 1 and at most [`DEPTH_MAX`].
    ///
    /// # Errors
    /// A file can't be opened, or the system gives no thread. [`Error::NoUring`] where the system has no io_uring, or none
    /// for us: EPERM and ENOSYS are what containers and the system's settings make of it.
    pub fn open<P: AsRef<Path>>(paths: &[P], depth: usize) -> Result<Self, Error> {
        let depth = depth.clamp(1, DEPTH_MAX);
        let files = Files::open(paths)?;
        let ring = new_ring(depth).map_err(|cause| Error::NoUring { cause })?;
        let no_thread = |cause| Error::Thread { what: "io_uring", cause };
        let (rung, bell) = Bell::new().map_err(no_thread)?;
        let (line, (done, ended)) = (Arc::new(Line::default()), channel());
        let desk = Desk::new(Arc::clone(&line), ended);
        let ringer = Arc::clone(&bell);
        let serve = move || {
            be_urgent();
            let flights = std::iter::repeat_with(|| None).take(depth).collect();
            let (asks, ended, is_listening) = Default::default();
            Owner { ring, files, line, bell, rung, is_listening, flights, asks, ended, done }.run();
        };
        let thread = Builder::new().name("experts-uring".to_owned()).spawn(serve).map_err(no_thread)?;
        Ok(Self { desk, bell: ringer, depth, thread: Some(thread) })
    }
}

impl Disk for Uring {
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, read: Read) {
        self.desk.submit(read);
        self.bell.ring();
    }

    fn next(&mut self, wait: bool) -> Option<Done> {
        self.desk.next(wait)
    }

    fn cancel(&mut self, tag: u64) -> Option<Read> {
        self.desk.cancel(tag)
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.desk.line.close();
        self.bell.ring();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of io_uring had panicked");
        }
    }
}

fn new_ring(depth: usize) -> io::Result<IoUring> {
    let ring = IoUring::new((depth * ENTRIES_PER_READ) as u32)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let has_all = probe.is_supported(opcode::Read::CODE) && probe.is_supported(opcode::PollAdd::CODE);
    if has_all { Ok(ring) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Wakes the owner of the ring: a pipe that holds a byte at most, so that ringing never blocks.
#[derive(Debug)]
struct Bell {
    pipe: PipeWriter,
    is_rung: AtomicBool,
}

impl Bell {
    fn new() -> io::Result<(PipeReader, Arc<Self>)> {
        let (rung, pipe) = io::pipe()?;
        Ok((rung, Arc::new(Self { pipe, is_rung: AtomicBool::new(false) })))
    }

    /// What was done before is seen by the owner when it wakes.
    fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            // Fails only when the owner is gone: then nobody is to be woken.
            let _ = (&self.pipe).write(&[1]);
        }
    }
}

/// A read whose extents are at the drive.
struct Flight {
    read: Read,
    /// The slot's memory: the kernel writes there until `n_asked` is 0, and nobody else touches it.
    memory: *mut u8,
    transfers: Vec<Transfer>,
    /// Asks without an answer.
    n_asked: usize,
    /// The first extent that failed, in the read's order.
    failed: Option<(usize, ReadError)>,
}

/// Something to ask the kernel for: what is still wanted of one extent.
#[derive(Clone, Copy)]
struct Ask {
    flight: usize,
    transfer: usize,
    /// On a thread of the kernel's that may wait: where it could not be queued without waiting.
    is_waiting: bool,
}

impl Ask {
    fn user_data(self) -> u64 {
        (self.flight as u64) << 33 | (self.transfer as u64) << 1 | u64::from(self.is_waiting)
    }

    fn of(user_data: u64) -> Self {
        let transfer = (user_data >> 1) as u32 as usize;
        Self { flight: (user_data >> 33) as usize, transfer, is_waiting: user_data & 1 == 1 }
    }
}

/// What the thread owns.
struct Owner {
    ring: IoUring,
    files: Files,
    line: Arc<Line>,
    bell: Arc<Bell>,
    rung: PipeReader,
    /// The bell is in the ring.
    is_listening: bool,
    flights: Vec<Option<Flight>>,
    /// Not handed to the kernel yet.
    asks: VecDeque<Ask>,
    /// Reads whose checksums are still to be computed.
    ended: VecDeque<(Read, Result<(), ReadError>, Instant)>,
    done: Sender<Done>,
}

impl Owner {
    fn run(mut self) {
        loop {
            self.listen();
            self.start_waiting();
            self.hand_over();
            let ended = self.ended.pop_front();
            let is_idle = ended.is_none() && !self.is_listening && self.flights.iter().all(Option::is_none);
            if is_idle || !self.enter(ended.is_none()) {
                return;
            }
            // The drive is busy again by now: the time for a checksum.
            if let Some((read, came, at)) = ended {
                self.send(read.end(came, at));
            }
            self.take_answers();
        }
    }

    fn listen(&mut self) {
        if self.is_listening || self.line.is_closed() {
            return;
        }
        let entry = opcode::PollAdd::new(types::Fd(self.rung.as_raw_fd()), libc::POLLIN as u32).build();
        // SAFETY: the entry holds no memory of ours, and the pipe is open for as long as the ring.
        self.is_listening = unsafe { self.ring.submission().push(&entry.user_data(BELL)) }.is_ok();
    }

    fn start_waiting(&mut self) {
        while let Some(free) = self.flights.iter().position(Option::is_none)
            && let Some(read) = self.line.take()
        {
            match read.check_shape(self.files.len()) {
                Ok(()) if !read.extents.is_empty() => self.start(free, read),
                came => self.ended.push_back((read, came, Instant::now())),
            }
        }
    }

    fn start(&mut self, flight: usize, mut read: Read) {
        let transfers: Vec<_> = read.extents.iter().map(|&extent| Transfer::new(extent)).collect();
        let n_asked = transfers.len();
        let memory = read.slot.as_mut_ptr();
        self.asks.extend((0..n_asked).map(|transfer| Ask { flight, transfer, is_waiting: false }));
        self.flights[flight] = Some(Flight { read, memory, transfers, n_asked, failed: None });
    }

    /// Fills the ring's queue; what has no room there goes next time.
    fn hand_over(&mut self) {
        while let Some(&ask) = self.asks.front() {
            let flight = self.flights[ask.flight].as_ref().expect("asks end before their flight");
            let transfer = &flight.transfers[ask.transfer];
            let (offset, into) = transfer.wanted();
            let bytes = into.len().min(ASK_BYTES_MAX) as u32;
            let fd = types::Fd(self.files.fd(transfer.extent().file));
            // SAFETY: the read's shape was checked before it was started, so `into` lies in the slot's memory.
            let memory = unsafe { flight.memory.add(into.start) };
            let flags = if ask.is_waiting { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
            let entry = opcode::Read::new(fd, memory, bytes).offset(offset).build().flags(flags);
            // SAFETY: `bytes` from `memory` on lie in a slot that its flight holds, and touches not, until the kernel has
            // answered: `take_answers` ends a flight only then, and dropping the owner leaks slots that still fly. The file
            // is open as long as the owner lives, and the kernel holds it longer by itself.
            if unsafe { self.ring.submission().push(&entry.user_data(ask.user_data())) }.is_err() {
                return;
            }
            self.asks.pop_front();
        }
    }

    /// Hands the queue to the kernel and, if asked to, sleeps until it answers; false if the ring is broken.
    fn enter(&self, wait: bool) -> bool {
        let Err(cause) = self.ring.submit_and_wait(usize::from(wait)) else { return true };
        match cause.raw_os_error() {
            Some(libc::EINTR | libc::EBUSY) => true,
            Some(libc::EAGAIN) => {
                // The kernel is out of memory for the moment.
                std::thread::sleep(std::time::Duration::from_millis(1));
                true
            }
            _ => {
                tracing::error!(%cause, "io_uring broke down: no more reads");
                false
            }
        }
    }

    fn take_answers(&mut self) {
        let answers: Vec<_> =
            self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (user_data, result) in answers {
            match user_data {
                BELL => self.awake(),
                _ => self.answered(Ask::of(user_data), result),
            }
        }
    }

    fn awake(&mut self) {
        self.is_listening = false;
        // A byte lies there, so this does not wait. First the byte, then the mark, then the line is looked at: who comes
        // after that rings again.
        let _ = self.rung.read(&mut [0]);
        self.bell.is_rung.swap(false, Ordering::AcqRel);
    }

    /// Bytes, or a negative error number.
    fn answered(&mut self, ask: Ask, result: i32) {
        let flight = self.flights[ask.flight].as_mut().expect("a flight ends after its last answer");
        let transfer = &mut flight.transfers[ask.transfer];
        let again = match usize::try_from(result) {
            Ok(n) => transfer.came(n).map(|is_all| (!is_all).then_some(ask)),
            Err(_) if -result == libc::EINTR => Ok(Some(ask)),
            // Large direct reads that can't be queued as a whole at once, on some kernels: liburing issue 766.
            Err(_) if -result == libc::EAGAIN && !ask.is_waiting => Ok(Some(Ask { is_waiting: true, ..ask })),
            Err(_) => {
                let cause = io::Error::from_raw_os_error(-result);
                Err(self.files.failed(transfer.extent().file, transfer.wanted().0, cause).into())
            }
        };
        match again {
            Ok(Some(again)) => return self.asks.push_back(again),
            Err(error) if flight.failed.as_ref().is_none_or(|&(first, _)| ask.transfer < first) => {
                flight.failed = Some((ask.transfer, error));
            }
            _ => {}
        }
        flight.n_asked -= 1;
        if flight.n_asked == 0 {
            let flight = self.flights[ask.flight].take().expect("is there");
            let came = flight.failed.map_or(Ok(()), |(_, error)| Err(error));
            self.ended.push_back((flight.read, came, Instant::now()));
        }
    }

    fn send(&self, done: Done) {
        // Fails while the disk is being dropped: nobody waits for this read any more.
        let _ = self.done.send(done);
    }
}

impl Drop for Owner {
    /// Flights are left only if the ring broke down or the thread panicked: the kernel may still write into their slots.
    fn drop(&mut self) {
        self.flights.drain(..).for_each(std::mem::forget);
    }
}
