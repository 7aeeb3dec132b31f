//! The copy itself: source files front to back, hashed whole and piece by piece, pieces written to their places.

use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use super::journal::to_hex;
use super::plan::{Piece, Plan, Slot};
use super::workspace::{Workspace, write_error};
use super::{ImportOptions, Progress, Stage};
use crate::Error;
use crate::files::DataFile;
use crate::pack::Hash;
use crate::source::Source;

/// A copy under way.
pub(super) struct Copier<'a> {
    source: &'a Source,
    plan: &'a Plan,
    workspace: &'a mut Workspace,
    options: &'a ImportOptions,
    progress: &'a mut dyn FnMut(Progress<'_>),
    buffer: Vec<u8>,
    total: u64,
    /// Bytes since the last checkpoint.
    unsaved: u64,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        source: &'a Source,
        plan: &'a Plan,
        workspace: &'a mut Workspace,
        options: &'a ImportOptions,
        progress: &'a mut dyn FnMut(Progress<'_>),
    ) -> Self {
        let total = source.files.iter().map(|file| file.bytes).sum();
        let buffer = vec![0; options.chunk_bytes.max(1)];
        Self { source, plan, workspace, options, progress, buffer, total, unsaved: 0 }
    }

    /// Goes on from the workspace's state to the end.
    pub(super) fn run(mut self) -> Result<(), Error> {
        let (source, plan) = (self.source, self.plan);
        for (i, file) in source.files.iter().enumerate().skip(self.workspace.state.digests.len()) {
            // A hint only: the copy is right without it.
            let _ = posix_fadvise(&file.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
            let todo = &plan.pieces[self.workspace.state.hashes.len()..];
            for piece in todo.iter().take_while(|piece| piece.file == i) {
                self.skip_to(file, piece.offset)?;
                self.copy(file, piece)?;
                if self.unsaved >= self.options.checkpoint_bytes {
                    self.checkpoint()?;
                }
            }
            self.skip_to(file, file.bytes)?;
            let state = &mut self.workspace.state;
            state.digests.push(to_hex(&std::mem::take(&mut state.sha256).finalize()));
            state.position = 0;
            self.checkpoint()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        self.unsaved = 0;
        self.workspace.checkpoint()
    }

    /// Reads bytes that belong to no tensor, for the file's hash alone.
    fn skip_to(&mut self, file: &DataFile, offset: u64) -> Result<(), Error> {
        while self.workspace.state.position < offset {
            self.read(file, offset, "headers")?;
        }
        Ok(())
    }

    fn copy(&mut self, file: &DataFile, piece: &Piece) -> Result<(), Error> {
        let end = piece.offset + piece.bytes;
        let mut hasher = Xxh3::new();
        while self.workspace.state.position < end {
            let to = piece.to + (self.workspace.state.position - piece.offset);
            let n = self.read(file, end, &piece.name)?;
            let chunk = &self.buffer[..n];
            hasher.update(chunk);
            let workspace = &*self.workspace;
            let output = match piece.slot {
                Slot::Dense { .. } => &workspace.dense,
                Slot::Record { .. } => workspace.experts.as_ref().expect("planned with its records"),
            };
            output.file.write_all_at(chunk, to).map_err(write_error(&output.path, "write"))?;
        }
        self.workspace.state.hashes.push(Hash(hasher.digest()));
        Ok(())
    }

    /// Reads the next chunk, up to `end`, into the buffer; returns its length.
    fn read(&mut self, file: &DataFile, end: u64, item: &str) -> Result<usize, Error> {
        let state = &mut self.workspace.state;
        let n = (end - state.position).min(self.buffer.len() as u64) as usize;
        let chunk = &mut self.buffer[..n];
        file.file.read_exact_at(chunk, state.position).map_err(Error::io(&file.path, "read"))?;
        Sha256::update(&mut state.sha256, &*chunk);
        state.position += n as u64;
        self.unsaved += n as u64;
        let bytes_done = self.workspace.state.bytes_done(self.source);
        (self.progress)(Progress { stage: Stage::Copy, bytes_done, bytes_total: self.total, item });
        Ok(n)
    }
}
