//! The importer: a model's files into a pack, streaming, resumable, all or nothing.
//!
//! ```text
//! NAME.part/            the pack in the making, beside its place
//!   dense.bin           full size from the start, filled piece by piece
//!   experts.bin
//!   experts.rewritten   experts.bin to be, where records are coded
//!   journal             what is done: one checked line per checkpoint, synced after the data it speaks of
//!
//! per source file, front to back:   read a chunk -> SHA-256 of the file -> interleave -> XXH3 of the piece -> write
//! every checkpoint_bytes:           sync data -> append to journal -> sync journal
//! where experts are BF16 or FP8:    measure -> decide -> append to journal
//! where some are to be coded, record by record: read experts.bin -> code, decode, compare -> write experts.rewritten
//! every checkpoint_bytes:           sync data -> append to journal -> sync journal -> give the room of old records back
//! at the end:                       small files, pack.json -> sync all -> rename NAME.part to NAME -> remove journal
//! ```
//!
//! Coding takes a second pass because source files are in another order than records: a GGUF file brings the gates of all
//! experts first, and where a coded record starts is known only after those before it. Between the passes drive and
//! classes are measured on the very bytes and the very drive they are about. Old records give their room back as new ones
//! are safe, so that the disk never holds much more than the model once.
//!
//! A killed import leaves `NAME.part`; the next one with the same source goes on from the last checkpoint. A changed
//! source or a damaged journal starts over. A full disk removes `NAME.part`, so that the disk is not left full.
//!
//! Start reading at [`import`], then `plan.rs`.

mod copy;
mod decide;
mod drive;
mod finish;
mod journal;
mod plan;
mod rewrite;
mod workspace;

use std::path::{Path, PathBuf};

use crate::source::Source;
use crate::{Error, SourceFile, pack};
use copy::Copier;
pub use decide::{Choice, Reason, Sample};
use plan::Plan;
use rewrite::Rewriter;
use workspace::Workspace;

/// How to import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Replace an existing pack, in one step at the very end.
    pub replace: bool,
    /// The import's memory, besides the tokenizer: a chunk read and, where its rows are interleaved, their copy. Where
    /// it is too little for 16 rows and their copy it is exceeded: by R1 up to 627 KB, by any model up to 4 MiB.
    pub chunk_bytes: usize,
    /// Bytes between checkpoints: what a kill costs at most, besides the tensor at hand.
    pub checkpoint_bytes: u64,
    /// Whether routed experts are coded.
    pub compress: Compress,
}

/// Whether routed experts of BF16 and FP8 are coded, losslessly. All else is stored as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// Where measurements on this machine say that they are read faster then.
    #[default]
    Auto,
    /// No.
    Never,
    /// Whatever the drive: to save room.
    Always,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { replace: false, chunk_bytes: 4 << 20, checkpoint_bytes: 256 << 20, compress: Compress::Auto }
    }
}

/// Where an import or a verification stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What is being done.
    pub stage: Stage,
    /// Bytes that this stage has read, those before a resume included.
    pub bytes_done: u64,
    /// Bytes that it reads: all of the source, all routed experts, or the pack.
    pub bytes_total: u64,
    /// The tensor or file at hand.
    pub item: &'a str,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Tensors are copied.
    Copy,
    /// Drive and coders are measured, for a second or two.
    Measure,
    /// Routed experts are coded.
    Code,
    /// Small files are written, everything is synced and put in its place.
    Finish,
    /// A pack is read back and hashed.
    Verify,
    /// A model is read into memory.
    Load,
}

/// What an import did.
#[derive(Clone, Debug)]
pub struct ImportReport {
    /// The new pack.
    pub path: PathBuf,
    /// Bytes of tensors in it.
    pub bytes: u64,
    /// Bytes of the files they are in.
    pub stored_bytes: u64,
    /// How routed experts are stored, and why.
    pub choices: Vec<Choice>,
    /// Tensors that are not routed experts.
    pub n_tensors: usize,
    /// Routed experts.
    pub n_experts: usize,
    /// Bytes of the source that an earlier, interrupted import had done.
    pub resumed_bytes: u64,
    /// The source's files with their hashes.
    pub sources: Vec<SourceFile>,
}

/// Imports the model at `source` (GGUF file or Hugging Face folder) as a pack at `dest`.
///
/// Memory stays at `options.chunk_bytes`, as said there, plus headers and tokenizer, whatever the model's size;
/// where experts are measured or coded, at some 20 MB instead if that is more. Nothing appears at `dest` before it is
/// complete and on disk.
///
/// # Errors
/// Anything wrong with the source; [`Error::DestinationExists`], [`Error::NoSpace`], [`Error::DiskFull`],
/// [`Error::SourceChanged`], [`Error::Busy`].
pub fn import(
    source: &Path,
    dest: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<ImportReport, Error> {
    workspace::check_destination(dest, options.replace)?;
    let source = Source::open(source)?;
    if pack::Pack::is_at(&source.path) {
        return Err(Error::AlreadyAPack { path: source.path });
    }
    let plan = Plan::new(&source, options.compress)?;
    let workspace = Workspace::enter(dest, &plan, &source)?;
    let outcome = run(&source, &plan, workspace, options, progress);
    if let Err(Error::DiskFull { .. } | Error::SourceChanged { .. }) = outcome {
        workspace::discard(&workspace::part_path(dest)?)?;
    }
    outcome
}

fn run(
    source: &Source,
    plan: &Plan,
    mut workspace: Workspace,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<ImportReport, Error> {
    let resumed_bytes = workspace.state.bytes_done(source);
    Copier::new(source, plan, &mut workspace, options, progress).run()?;
    if let Some(changed) = source.files.iter().find(|file| !file.is_unchanged().unwrap_or(false)) {
        return Err(Error::SourceChanged { path: changed.path.clone() });
    }
    Rewriter::new(plan, &mut workspace, options, progress).run()?;
    let manifest = finish::manifest(plan, &workspace.state);
    let report = ImportReport {
        path: workspace.dest.clone(),
        bytes: plan.pieces.iter().map(|piece| piece.bytes).sum(),
        stored_bytes: manifest.dense.bytes + manifest.experts.as_ref().map_or(0, |experts| experts.bytes),
        choices: workspace.state.choices.clone().unwrap_or_default(),
        n_tensors: manifest.dense.tensors.len(),
        n_experts: manifest.experts.iter().flat_map(|e| &e.layers).map(|layer| layer.xxh3.len()).sum(),
        resumed_bytes,
        sources: manifest.provenance.files.clone(),
    };
    let total = source.files.iter().map(|file| file.bytes).sum();
    let mut step = |item: &str| {
        progress(Progress { stage: Stage::Finish, bytes_done: total, bytes_total: total, item });
    };
    finish::write(&workspace, plan, &manifest, &mut step)?;
    finish::publish(workspace, options.replace, &mut step)?;
    Ok(report)
}
