//! Reads through `pread`: as many threads as reads at the drive.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::files::Files;
use super::line::{Desk, Line};
use super::{DEPTH_MAX, Disk, Done, Read};
use crate::Error;

/// Threads that each read one record at a time, check it, and take the next.
#[derive(Debug)]
pub struct PreadPool {
    desk: Desk,
    readers: Vec<JoinHandle<()>>,
}

impl PreadPool {
    /// Opens the files and starts `depth` readers, at least 1 and at most [`DEPTH_MAX`].
    ///
    /// # Errors
    /// A file can't be opened, or the system gives no threads.
    pub fn open<P: AsRef<Path>>(paths: &[P], depth: usize) -> Result<Self, Error> {
        let files = Arc::new(Files::open(paths)?);
        let (done, ended) = channel();
        let mut pool = Self { desk: Desk::new(Arc::default(), ended), readers: Vec::new() };
        for reader in 0..depth.clamp(1, DEPTH_MAX) {
            let (files, line, done) = (Arc::clone(&files), Arc::clone(&pool.desk.line), done.clone());
            let thread = Builder::new().name(format!("experts-read-{reader}"));
            let thread = thread.spawn(move || serve(&files, &line, &done));
            pool.readers.push(thread.map_err(|cause| Error::Thread { what: "reading experts", cause })?);
        }
        Ok(pool)
    }
}

impl Disk for PreadPool {
    fn depth(&self) -> usize {
        self.readers.len()
    }

    fn submit(&mut self, read: Read) {
        self.desk.submit(read);
    }

    fn next(&mut self, wait: bool) -> Option<Done> {
        self.desk.next(wait)
    }

    fn cancel(&mut self, tag: u64) -> Option<Read> {
        self.desk.cancel(tag)
    }
}

impl Drop for PreadPool {
    fn drop(&mut self) {
        self.desk.line.close();
        for reader in self.readers.drain(..) {
            if reader.join().is_err() {
                tracing::error!("a thread that reads experts had panicked");
            }
        }
    }
}

fn serve(files: &Files, line: &Line, done: &Sender<Done>) {
    while let Some(read) = line.wait() {
        let ended = read.carry_out(files.len(), |file, offset, into| files.read_at(file, offset, into));
        if done.send(ended).is_err() {
            // The pool is being dropped: nobody waits for this read any more.
            return;
        }
    }
}
