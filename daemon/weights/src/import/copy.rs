//! The copy itself: source files front to back, hashed whole and piece by piece, pieces written to their places.

use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest, Sha256};
use tensor::interleave;
use xxhash_rust::xxh3::Xxh3;

use super::journal::to_hex;
use super::plan::{Group, Piece, Plan, Slot};
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
        let buffer = vec![0; plan.buffer_bytes(options.chunk_bytes)];
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
        let chunk_bytes = piece.chunk_bytes(self.options.chunk_bytes) as u64;
        let mut hasher = Xxh3::new();
        while self.workspace.state.position < end {
            let position = self.workspace.state.position;
            let to = piece.to + (position - piece.offset);
            let n = self.read(file, end.min(position + chunk_bytes), &piece.name)?;
            let chunk = arrange(&mut self.buffer, n, piece.group);
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

/// The first `n` bytes of the buffer as they lie in the pack: themselves, or interleaved into the bytes behind them.
fn arrange(buffer: &mut [u8], n: usize, group: Option<Group>) -> &[u8] {
    let (rows, rest) = buffer.split_at_mut(n);
    let Some(Group { dtype, bytes }) = group else { return rows };
    let lanes = &mut rest[..n];
    for (rows, lanes) in rows.chunks_exact(bytes).zip(lanes.chunks_exact_mut(bytes)) {
        interleave(dtype, rows, lanes);
    }
    lanes
}
