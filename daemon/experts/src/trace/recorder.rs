//! Writing a trace while the model runs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::format::{put_step, put_visit};
use super::{Error, FILE_BYTES_MAX, Header, STEP_BYTES_MAX};

/// Bytes that wait to be written: what a crash loses at most.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes a trace, step by step, up to a size.
///
/// ```text
/// record record ... end_step -> buffer -> file          full, or the drive fails: says so once, drops the rest
/// ```
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// `None` once it has stopped. Writes what is left when dropped.
    file: Option<BufWriter<File>>,
    layers: Vec<u32>,
    n_experts: u32,
    bytes: u64,
    bytes_max: u64,
    steps: u64,
    /// The step's visits so far.
    visits: Vec<u8>,
    frame: Vec<u8>,
}

impl Recorder {
    /// Starts a file; one of that name is replaced.
    ///
    /// # Errors
    /// It can't be written, or the header is beyond the limits.
    pub fn create(path: &Path, header: &Header) -> Result<Self, Error> {
        let bytes = header.to_bytes().map_err(|problem| Error::Format { path: path.to_owned(), problem })?;
        let io = |cause| Error::Io { path: path.to_owned(), doing: "write it", cause };
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path).map_err(io)?);
        // At once, so that nobody finds a file without header.
        file.write_all(&bytes).and_then(|()| file.flush()).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            layers: header.layers.iter().map(|layer| layer.layer).collect(),
            n_experts: header.n_experts,
            bytes: bytes.len() as u64,
            bytes_max: FILE_BYTES_MAX,
            steps: 0,
            visits: Vec::new(),
            frame: Vec::new(),
        })
    }

    /// Stops earlier than at [`FILE_BYTES_MAX`].
    #[must_use]
    pub fn with_limit(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max.min(FILE_BYTES_MAX);
        self
    }

    /// Whether steps are still written.
    pub fn is_recording(&self) -> bool {
        self.file.is_some()
    }

    /// Notes what a layer of the model wants: experts, ascending, each once, and how many tokens go to each.
    ///
    /// # Panics
    /// The header has no such layer or expert, or the experts don't ascend, or one has no tokens: a programmer's error.
    pub fn record(&mut self, layer: u32, wanted: &[(u32, u32)]) {
        let ascend = wanted.array_windows().all(|[a, b]| a.0 < b.0);
        let known = wanted.iter().all(|&(expert, tokens)| expert < self.n_experts && tokens > 0);
        assert!(ascend && known, "experts of the model, ascending, with tokens");
        let place = self.layers.binary_search(&layer).expect("a layer of the header");
        // A step that can't be written need not be remembered in full.
        if self.file.is_some() && self.visits.len() <= STEP_BYTES_MAX {
            put_visit(&mut self.visits, place, wanted.iter().copied());
        }
    }

    /// Writes the step that was recorded.
    ///
    /// # Errors
    /// The file is full, or the drive fails: recording has stopped, and further steps are dropped without another error.
    pub fn end_step(&mut self, n_tokens: u32) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.frame.clear();
        put_step(&mut self.frame, n_tokens, &self.visits);
        self.visits.clear();
        let bytes = self.bytes + self.frame.len() as u64;
        if bytes > self.bytes_max || self.frame.len() > STEP_BYTES_MAX {
            let error = Error::Full { path: self.path.clone(), bytes_max: self.bytes_max, steps: self.steps };
            return self.stop().and(Err(error));
        }
        if let Err(cause) = file.write_all(&self.frame) {
            self.file = None;
            return Err(Error::Io { path: self.path.clone(), doing: "write it", cause });
        }
        (self.bytes, self.steps) = (bytes, self.steps + 1);
        Ok(())
    }

    /// Writes what waits and closes the file; dropping does the same without a word.
    ///
    /// # Errors
    /// The drive fails.
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.flush().map_err(|cause| Error::Io { path: self.path.clone(), doing: "write it", cause })
    }
}
