//! Rehashing a pack.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::Xxh3;

use super::manifest::{DENSE, EXPERTS, Hash, RecordLayer};
use super::open::Pack;
use crate::files::DataFile;
use crate::{Error, Progress, Stage};

/// Bytes read at once.
const CHUNK_BYTES: usize = 4 << 20;

/// Something in a pack that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// File name.
    pub file: String,
    /// Tensor, record or file.
    pub item: String,
    /// What is wrong.
    pub problem: String,
}

impl Pack {
    /// Reads every byte of the pack and compares hashes; returns what differs.
    ///
    /// # Errors
    /// The data files are missing or of the wrong size, so that there is nothing to compare.
    pub fn verify(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Vec<Finding>, Error> {
        let files = self.data_files()?;
        let mut pass = Pass {
            buffer: vec![0; CHUNK_BYTES],
            done: 0,
            total: files.iter().map(|file| file.bytes).sum(),
            findings: Vec::new(),
            progress,
        };
        for t in &self.manifest.dense.tensors {
            let got = pass.hash(&files[0], t.offset, t.bytes, &t.name);
            pass.compare(DENSE, &t.name, got, t.xxh3);
        }
        for layer in self.manifest.experts.iter().flat_map(|experts| &experts.layers) {
            for (expert, &want) in (0u32..).zip(&layer.xxh3) {
                let item = format!("record {}.{expert}", layer.layer);
                let got = pass.hash_record(&files[1], layer, expert, &item);
                pass.compare(EXPERTS, &item, got, want);
            }
        }
        for file in &self.manifest.files {
            let got = fs::read(self.dir.join(&file.name)).map(|bytes| Hash::of(&bytes));
            pass.compare(&file.name, &file.name, got, file.xxh3);
        }
        Ok(pass.findings)
    }
}

/// One run over the files.
struct Pass<'a> {
    buffer: Vec<u8>,
    done: u64,
    total: u64,
    findings: Vec<Finding>,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Pass<'_> {
    fn hash(&mut self, file: &DataFile, offset: u64, bytes: u64, item: &str) -> io::Result<Hash> {
        let mut hasher = Xxh3::new();
        let mut at = offset;
        while at < offset + bytes {
            let n = (offset + bytes - at).min(self.buffer.len() as u64);
            let chunk = &mut self.buffer[..n as usize];
            file.file.read_exact_at(chunk, at)?;
            hasher.update(chunk);
            at += n;
            self.done += n;
            let (bytes_done, bytes_total) = (self.done, self.total);
            (self.progress)(Progress { stage: Stage::Verify, bytes_done, bytes_total, item });
        }
        Ok(Hash(hasher.digest()))
    }

    fn hash_record(
        &mut self,
        file: &DataFile,
        layer: &RecordLayer,
        expert: u32,
        item: &str,
    ) -> io::Result<Hash> {
        let start = layer.record_offset(expert);
        let ranges = layer.hashed(expert).into_iter();
        let parts = ranges.map(|range| self.hash(file, start + range.start, range.end - range.start, item));
        Ok(Hash::of_parts(&parts.collect::<io::Result<Vec<_>>>()?))
    }

    fn compare(&mut self, file: &str, item: &str, got: io::Result<Hash>, want: Hash) {
        let problem = match got {
            Ok(got) if got == want => return,
            Ok(got) => format!("checksum {got}, want {want}: the bytes on disk changed"),
            Err(cause) => format!("cannot be read: {cause}"),
        };
        self.findings.push(Finding { file: file.into(), item: item.into(), problem });
    }
}
