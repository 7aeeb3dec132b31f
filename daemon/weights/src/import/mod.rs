//! The importer: a model's files into a pack, streaming, resumable, all or nothing.
//!
//! ```text
//! NAME.part/            the pack in the making, beside its place
//!   dense.bin           full size from the start, filled piece by piece
//!   experts.bin
//!   journal             what is done: one checked line per checkpoint, synced after the data it speaks of
//!
//! per source file, front to back:   read a chunk -> SHA-256 of the file -> interleave -> XXH3 of the piece -> write
//! every checkpoint_bytes:           sync data -> append to journal -> sync journal
//! at the end:                       small files, pack.json -> sync all -> rename NAME.part to NAME -> remove journal
//! ```
//!
//! A killed import leaves `NAME.part`; the next one with the same source goes on from the last checkpoint. A changed
//! source or a damaged journal starts over. A full disk removes `NAME.part`, so that the disk is not left full.
//!
//! Start reading at [`import`], then `plan.rs`.

mod copy;
mod finish;
mod journal;
mod plan;
mod workspace;

use std::path::{Path, PathBuf};

use crate::source::Source;
use crate::{Error, SourceFile, pack};
use copy::Copier;
use plan::Plan;
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
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { replace: false, chunk_bytes: 4 << 20, checkpoint_bytes: 256 << 20 }
    }
}

/// Where an import or a verification stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of the source read, those before a resume included.
    pub bytes_done: u64,
    /// Bytes of the source.
    pub bytes_total: u64,
    /// The tensor or file at hand.
    pub item: &'a str,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Tensors are copied.
    Copy,
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
/// Memory stays at `options.chunk_bytes`, as said there, plus headers and tokenizer, whatever the model's size. Nothing
/// appears at `dest` before it is complete and on disk.
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
    let plan = Plan::new(&source)?;
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
    let manifest = finish::manifest(plan, &workspace.state);
    let report = ImportReport {
        path: workspace.dest.clone(),
        bytes: plan.pieces.iter().map(|piece| piece.bytes).sum(),
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
