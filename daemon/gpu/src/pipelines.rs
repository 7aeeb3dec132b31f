#![expect(unsafe_code, reason = "the driver is handed bytes that it wrote itself, kept in a file")]
//! Compiled pipelines, kept between starts: a driver takes seconds to compile a model's stages anew.

use std::path::{Path, PathBuf};

/// What a driver has compiled, and the file where it is kept.
#[derive(Debug)]
pub(crate) struct Pipelines {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// Bytes that were read.
    read: Vec<u8>,
}

/// A file larger than this was not written by us.
const BYTES_MAX: u64 = 256 << 20;

impl Pipelines {
    /// What was kept in a folder for this sort of card; nothing yet the first time.
    pub(crate) fn open(device: &wgpu::Device, card: &wgpu::AdapterInfo, folder: &Path) -> Option<Self> {
        let path = folder.join(wgpu::util::pipeline_cache_key(card)?);
        let small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= BYTES_MAX);
        let read = if small { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("pipelines"),
            data: (!read.is_empty()).then_some(read.as_slice()),
            fallback: true,
        };
        // SAFETY: the bytes come from `get_data`, by way of a file of this user's own; wgpu checks whose they are by the header
        // that it put before them (its version, the card, the driver), and begins anew where that does not fit.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { cache, path, read })
    }

    pub(crate) fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Keeps what there is by now. Where that fails the next start takes longer, no more.
    pub(crate) fn keep(&self) {
        let Some(bytes) = self.cache.get_data().filter(|bytes| *bytes != self.read) else { return };
        if let Err(error) = write(&self.path, &bytes) {
            tracing::debug!(%error, path = %self.path.display(), "compiled pipelines are not kept");
        }
    }
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&new, bytes)?;
    std::fs::rename(new, path)
}
