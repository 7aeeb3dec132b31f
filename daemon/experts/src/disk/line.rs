//! Where reads wait until the drive has room for them.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Done, Read};

/// Reads in the order they came; as long as there are slots, as every read brings its own.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Read>,
    is_closed: bool,
}

impl Line {
    /// The first read, as soon as there is one; `None` once the line is closed.
    pub(super) fn wait(&self) -> Option<Read> {
        let state = self.lock();
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
        let mut state = self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_front()
    }

    /// The first read, if there is one.
    pub(super) fn take(&self) -> Option<Read> {
        self.lock().waiting.pop_front()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Drops the reads that wait, and lets nobody wait for more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn push(&self, read: Read) {
        self.lock().waiting.push_back(read);
        self.changed.notify_one();
    }

    fn take_back(&self, tag: u64) -> Option<Read> {
        let mut state = self.lock();
        let place = state.waiting.iter().position(|read| read.tag == tag)?;
        state.waiting.remove(place)
    }

    /// Every change is whole: a holder that panicked has left nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's side of a line: reads go in here, and come back here.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) line: Arc<Line>,
    ended: Receiver<Done>,
    n_under_way: usize,
}

impl Desk {
    pub(super) fn new(line: Arc<Line>, ended: Receiver<Done>) -> Self {
        Self { line, ended, n_under_way: 0 }
    }

    pub(super) fn submit(&mut self, read: Read) {
        self.n_under_way += 1;
        self.line.push(read);
    }

    pub(super) fn next(&mut self, wait: bool) -> Option<Done> {
        let done = match wait {
            _ if self.n_under_way == 0 => None,
            true => self.ended.recv().ok(),
            false => self.ended.try_recv().ok(),
        }?;
        self.n_under_way -= 1;
        Some(done)
    }

    pub(super) fn cancel(&mut self, tag: u64) -> Option<Read> {
        let read = self.line.take_back(tag)?;
        self.n_under_way -= 1;
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;
    use crate::Slot;

    /// Reads 0 to 2 in a line that nobody serves.
    fn desk() -> (Desk, Sender<Done>) {
        let (done, ended) = channel();
        let mut desk = Desk::new(Arc::default(), ended);
        for tag in 0..3 {
            let slot = Slot::new(1).expect("memory");
            desk.submit(Read { tag, extents: Arc::from([]), slot, check: None, unpack: None });
        }
        (desk, done)
    }

    #[test]
    fn reads_that_wait_can_be_taken_back_others_not() {
        let (mut desk, done) = desk();
        let first = desk.line.take().expect("three wait");
        assert_eq!(first.tag, 0);
        assert!(desk.cancel(1).is_some(), "waits");
        assert!(desk.cancel(1).is_none() && desk.cancel(0).is_none(), "is gone, is at the drive");
        assert_eq!(desk.line.take().map(|read| read.tag), Some(2));
        done.send(first.end(Ok(()), Instant::now())).expect("the desk is there");
        assert_eq!(desk.next(false).map(|done| done.tag), Some(0));
        assert!(desk.next(false).is_none(), "read 2 is under way");
    }

    #[test]
    fn whoever_waits_gets_all_reads_and_then_none() {
        let (mut desk, _done) = desk();
        (0..3).for_each(|tag| assert!(desk.cancel(tag).is_some()));
        assert!(desk.next(true).is_none(), "nothing is under way: nothing to wait for");
        let slot = Slot::new(1).expect("memory");
        desk.submit(Read { tag: 9, extents: Arc::from([]), slot, check: None, unpack: None });
        assert_eq!(desk.line.wait().map(|read| read.tag), Some(9));
        desk.line.close();
        assert!(desk.line.wait().is_none() && desk.line.is_closed());
    }
}
