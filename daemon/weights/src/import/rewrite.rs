//! The second pass: routed experts from `experts.bin`, where they lie uncoded, to `experts.rewritten`, record by record.
//!
//! Records go in file order, each to the page behind the one before, so that what is done is a number of records; and the
//! old ones' room is given back from the front.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;

use tensor::DType;
use xxhash_rust::xxh3::Xxh3;

use super::decide::{coding_of, decide};
use super::plan::Plan;
use super::workspace::{Output, REWRITTEN, Workspace, free_bytes, write_error};
use super::{Compress, ImportOptions, Progress, Stage};
use crate::Error;
use crate::pack::{Coding, Decoder, Encoder, Hash, PAGE_BYTES, RecordLayer};

/// Bytes of a piece that is not coded: about those of one that is.
const RAW_BYTES: u64 = 512 << 10;
/// Cores that code at once, at most: each holds a piece three times, 1.5 MB.
const CODERS_MAX: usize = 8;
/// Stack of a thread that codes.
const STACK_BYTES: usize = 256 << 10;

/// A pass under way.
pub(super) struct Rewriter<'a> {
    plan: &'a Plan,
    workspace: &'a mut Workspace,
    options: &'a ImportOptions,
    progress: &'a mut dyn FnMut(Progress<'_>),
    done: u64,
    total: u64,
    /// Bytes since the last checkpoint.
    unsaved: u64,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        workspace: &'a mut Workspace,
        options: &'a ImportOptions,
        progress: &'a mut dyn FnMut(Progress<'_>),
    ) -> Self {
        let bytes = plan.layers().iter().map(|layer| layer.record_bytes * layer.xxh3.len() as u64);
        Self { plan, workspace, options, progress, done: 0, total: bytes.sum(), unsaved: 0 }
    }

    /// Decides if that is still to be done, then goes on from the workspace's state to the end.
    pub(super) fn run(mut self) -> Result<(), Error> {
        if self.workspace.state.choices.is_none() && self.workspace.experts.is_some() {
            self.decide()?;
        }
        let n_records = self.plan.records().count();
        let path = self.workspace.part.join(REWRITTEN);
        let is_in_place = self.workspace.state.rewritten.len() == n_records && !path.exists();
        if !self.workspace.state.is_coded() || is_in_place {
            return Ok(());
        }
        let raw = &self.workspace.experts.as_ref().expect("coded are experts only").path;
        let raw = File::open(raw).map_err(Error::io(raw, "open"))?;
        let output = Output::create(path, None)?;
        self.rewrite(&raw, &output)
    }

    fn decide(&mut self) -> Result<(), Error> {
        let total = self.total;
        (self.progress)(Progress {
            stage: Stage::Measure,
            bytes_done: 0,
            bytes_total: total,
            item: "experts",
        });
        let raw = self.workspace.experts.as_ref().expect("asked for with experts only");
        let (need, free) = (self.room(raw)?, free_bytes(&self.workspace.part)?);
        let choices = decide(self.plan, raw, self.options.compress, free >= need)?;
        let is_coded = choices.iter().any(|choice| choice.coding != Coding::Raw);
        if is_coded && free < need {
            return Err(Error::NoSpace { path: self.workspace.part.clone(), need, free });
        }
        self.workspace.journal.decided(&choices)?;
        self.workspace.state.choices = Some(choices);
        Ok(())
    }

    /// Bytes that the disk must have free: what is written before old records are given back, or all of it where they
    /// can't be.
    fn room(&self, raw: &Output) -> Result<u64, Error> {
        let largest = self.plan.layers().iter().map(|layer| layer.stride).max().unwrap_or(0);
        let beyond = self.plan.file_sizes().1.unwrap_or(0);
        let gives_back =
            self.options.compress != Compress::Never && raw.give_back(beyond..beyond + PAGE_BYTES)?;
        let ahead = self.options.checkpoint_bytes.saturating_add(2 * largest);
        Ok(if gives_back { ahead.min(self.total) } else { self.total })
    }

    fn rewrite(&mut self, raw: &File, output: &Output) -> Result<(), Error> {
        let plan = self.plan;
        let mut end = self.workspace.state.rewritten_bytes();
        // What a kill left behind the last checkpoint.
        output.file.set_len(end).map_err(write_error(&output.path, "size"))?;
        let mut coders = Coder::some();
        let n_done = self.workspace.state.rewritten.len();
        self.done = plan.records().take(n_done).map(|(layer, _)| plan.layers()[layer].record_bytes).sum();
        for (layer, expert) in plan.records().skip(n_done) {
            let bytes = self.record(raw, output, &plan.layers()[layer], expert, end, &mut coders)?;
            end += bytes.next_multiple_of(PAGE_BYTES);
            if self.unsaved >= self.options.checkpoint_bytes {
                self.checkpoint(output)?;
            }
        }
        output.file.set_len(end).map_err(write_error(&output.path, "size"))?;
        self.checkpoint(output)
    }

    /// Writes one record to `to`; returns its bytes.
    fn record(
        &mut self,
        raw: &File,
        output: &Output,
        layer: &RecordLayer,
        expert: u32,
        to: u64,
        coders: &mut [Coder],
    ) -> Result<u64, Error> {
        let pieces = self.pieces(layer, expert);
        let item = format!("record {}.{expert}", layer.layer);
        let (mut hasher, mut at) = (Xxh3::new(), to);
        for pieces in pieces.chunks(coders.len()) {
            let used = &mut coders[..pieces.len()];
            let path = &self.workspace.experts.as_ref().expect("there are records").path;
            code_all(used, pieces, raw).map_err(Error::io(path, "read"))?;
            for coder in used {
                hasher.update(&coder.stored);
                output.file.write_all_at(&coder.stored, at).map_err(write_error(&output.path, "write"))?;
                at += coder.stored.len() as u64;
                self.done += coder.raw.len() as u64;
                self.unsaved += coder.raw.len() as u64;
            }
            let (bytes_done, bytes_total) = (self.done, self.total);
            (self.progress)(Progress { stage: Stage::Code, bytes_done, bytes_total, item: &item });
        }
        let hash = Hash::of_parts(&[Hash(hasher.digest())]);
        self.workspace.state.rewritten.push((at - to, hash));
        Ok(at - to)
    }

    /// What a record is made of, piece by piece; one that has no coded part is copied with what lies between its parts.
    fn pieces(&self, layer: &RecordLayer, expert: u32) -> Vec<Piece> {
        let choices = self.workspace.state.choices.as_deref().unwrap_or_default();
        let start = layer.record_offset(expert);
        let codings: Vec<Coding> = layer.parts.iter().map(|part| coding_of(choices, part)).collect();
        let mut pieces = Vec::new();
        if codings.iter().all(|&coding| coding == Coding::Raw) {
            cut(start, layer.record_bytes, None, &mut pieces);
            return pieces;
        }
        for (part, coding) in layer.parts.iter().zip(codings) {
            let coded = (coding != Coding::Raw).then_some(part.dtype);
            cut(start + part.offset, part.bytes, coded, &mut pieces);
        }
        pieces
    }

    /// Syncs the new records, notes them, and gives the old ones' room back.
    fn checkpoint(&mut self, output: &Output) -> Result<(), Error> {
        self.unsaved = 0;
        output.file.sync_data().map_err(write_error(&output.path, "sync"))?;
        let workspace = &mut *self.workspace;
        workspace.journal.rewritten(&workspace.state)?;
        let next = self.plan.records().nth(workspace.state.rewritten.len());
        let end = match next {
            Some((layer, expert)) => self.plan.layers()[layer].record_offset(expert),
            None => self.plan.file_sizes().1.unwrap_or(0),
        };
        workspace.experts.as_ref().map_or(Ok(false), |raw| raw.give_back(0..end)).map(drop)
    }
}

/// A run of a record's bytes that is coded at once.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// In `experts.bin`.
    at: u64,
    bytes: u64,
    /// The values' type, where it is coded.
    coded: Option<DType>,
}

/// Cuts `bytes` at `at` into pieces.
fn cut(at: u64, bytes: u64, coded: Option<DType>, pieces: &mut Vec<Piece>) {
    let limit = coded.and_then(Encoder::chunk_bytes).map_or(RAW_BYTES, |bytes| bytes as u64);
    let starts = (0..bytes).step_by(limit as usize);
    pieces.extend(starts.map(|start| Piece { at: at + start, bytes: limit.min(bytes - start), coded }));
}

/// What one core codes with.
#[derive(Debug, Default)]
struct Coder {
    raw: Vec<u8>,
    stored: Vec<u8>,
    decoded: Vec<u8>,
    encoder: Encoder,
    decoder: Decoder,
}

impl Coder {
    /// One for each core.
    fn some() -> Vec<Self> {
        let n = thread::available_parallelism().map_or(1, usize::from).min(CODERS_MAX);
        std::iter::repeat_with(Self::default).take(n).collect()
    }

    /// Reads and codes a piece, and decodes it again: what is written is known to come back.
    fn code(&mut self, piece: Piece, file: &File) -> io::Result<()> {
        self.raw.resize(piece.bytes as usize, 0);
        file.read_exact_at(&mut self.raw, piece.at)?;
        self.stored.clear();
        let Some(dtype) = piece.coded else {
            self.stored.extend(&self.raw);
            return Ok(());
        };
        self.encoder.encode_chunk(dtype, &self.raw, &mut self.stored);
        self.decoded.resize(self.raw.len(), 0);
        let taken = self.decoder.decode_part(Coding::Split, dtype, &self.stored, &mut self.decoded);
        assert!(
            taken == Ok(self.stored.len()) && self.decoded == self.raw,
            "a chunk decodes to what was encoded"
        );
        Ok(())
    }
}

/// Codes as many pieces as there are coders, all at once.
fn code_all(coders: &mut [Coder], pieces: &[Piece], file: &File) -> io::Result<()> {
    if let ([coder], [piece]) = (&mut *coders, pieces) {
        return coder.code(*piece, file);
    }
    thread::scope(|scope| {
        let threads = coders.iter_mut().zip(pieces).map(|(coder, piece)| {
            thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || coder.code(*piece, file))
        });
        let threads = threads.collect::<io::Result<Vec<_>>>()?;
        threads.into_iter().try_for_each(|thread| thread.join().expect("a chunk decodes to what was encoded"))
    })
}
