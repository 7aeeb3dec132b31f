//! Routing traces: which experts each step wanted, as a file and in memory.
//!
//! ```text
//! header   magic "WELSROUT" | version | n_experts | top_k | n_layers | bytes of model | bytes of fingerprint
//!          n_layers x { layer, record_bytes (u64) }, layers ascending | model | fingerprint | check of all that
//! step     bytes of body | check of body | body
//! body     n_tokens | visits to the end, in the order the layers asked
//! visit    place of the layer in the header | 2 x n_wants + has_tokens
//!          n_wants experts, ascending, each as the distance to the one before, less 1
//!          has_tokens: n_wants numbers of tokens, each less 1; otherwise all are 1
//! ```
//! In header and frames numbers are little-endian u32 where nothing else is said; in bodies LEB128 of up to 32 bits. A check
//! is the low half of XXH3-64. A decode step of R1 takes 590 bytes: [`FILE_BYTES_MAX`] holds 110,000 of them.
//!
//! A file that was cut, by a crash or for want of room, is read up to its last whole step.

mod error;
mod format;
mod recorder;

use std::io::Read as _;
use std::path::Path;

pub use error::{Error, Problem};
pub use recorder::Recorder;

/// Bytes that a file may have: the recorder stops there, the reader takes no more.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes that a step's body may have: R1's largest, with all experts of all layers, takes 60 KB.
pub const STEP_BYTES_MAX: usize = 4 << 20;
/// Layers with routed experts that a model may have.
pub const LAYERS_MAX: u32 = 256;
/// Routed experts that a layer may have.
pub const EXPERTS_MAX: u32 = 1024;
/// Bytes that a model's name or fingerprint may have.
pub const NAME_BYTES_MAX: u32 = 256;

/// The model that was traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name, for people.
    pub model: String,
    /// What tells its files from others, empty where nothing does.
    pub fingerprint: String,
    /// Routed experts in each layer, at most [`EXPERTS_MAX`].
    pub n_experts: u32,
    /// Experts that a token goes to in each layer.
    pub top_k: u32,
    /// Its layers with routed experts, ascending, at most [`LAYERS_MAX`].
    pub layers: Vec<Layer>,
}

/// A layer with routed experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Number of the layer in the model.
    pub layer: u32,
    /// Bytes of one expert's record; 0 where nobody knows.
    pub record_bytes: u64,
}

impl Header {
    /// Where a layer is in [`layers`](Self::layers).
    pub fn place(&self, layer: u32) -> Option<usize> {
        self.layers.binary_search_by_key(&layer, |l| l.layer).ok()
    }

    /// The beginning of a file.
    ///
    /// # Errors
    /// It is beyond the limits, or layers are out of order.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Problem> {
        format::check_header(self)?;
        Ok(format::put_header(self))
    }
}

/// A trace in memory: what was wanted, step by step.
///
/// Takes at most some ten times the bytes of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    header: Header,
    steps: Vec<StepEnd>,
    visits: Vec<VisitEnd>,
    experts: Vec<u16>,
    /// Tokens of each of `experts`.
    tokens: Vec<u32>,
    cut_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StepEnd {
    n_tokens: u32,
    /// Visits up to the step's last.
    visits: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VisitEnd {
    place: u32,
    /// Experts up to the visit's last.
    experts: usize,
}

/// One step of the model: a token, some sequences' tokens, or a prompt's.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Tokens in it.
    pub n_tokens: u32,
    trace: &'a Trace,
    first: usize,
    end: usize,
}

/// What one layer wanted in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit<'a> {
    /// Place of the layer in the header.
    pub place: usize,
    /// Experts wanted, ascending, each once.
    pub experts: &'a [u16],
    /// Of each expert, the tokens that were routed to it.
    pub tokens: &'a [u32],
}

impl Trace {
    /// An empty one.
    ///
    /// # Errors
    /// The header is beyond the limits, or its layers are out of order.
    pub fn new(header: Header) -> Result<Self, Problem> {
        format::check_header(&header)?;
        let (steps, visits, experts, tokens) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { header, steps, visits, experts, tokens, cut_at: None })
    }

    /// Reads a file of at most [`FILE_BYTES_MAX`].
    ///
    /// # Errors
    /// It can't be read, is too long, or is no trace.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |doing| move |cause| Error::Io { path: path.to_owned(), doing, cause };
        let file = std::fs::File::open(path).map_err(io("open it"))?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io("read it"))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Error::Long { path: path.to_owned(), bytes_max: FILE_BYTES_MAX });
        }
        Self::parse(&bytes).map_err(|problem| Error::Format { path: path.to_owned(), problem })
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// They are no trace; with the place.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        format::parse(bytes)
    }

    /// The file, as a [`Recorder`] would have written it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format::put_header(&self.header);
        for step in self.steps() {
            let mut body = Vec::new();
            for visit in step.visits() {
                let wants = visit.experts.iter().zip(visit.tokens).map(|(&e, &t)| (u32::from(e), t));
                format::put_visit(&mut body, visit.place, wants);
            }
            format::put_step(&mut bytes, step.n_tokens, &body);
        }
        bytes
    }

    /// The model that was traced.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the file was cut, in bytes: what came after it is lost.
    pub fn cut_at(&self) -> Option<u64> {
        self.cut_at
    }

    /// Adds a layer's wish to the step that comes: experts and their numbers of tokens.
    ///
    /// # Errors
    /// The model has no such layer or expert, a number of tokens is 0, or experts are out of order; nothing is added then.
    pub fn visit(
        &mut self,
        place: usize,
        wants: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<(), Problem> {
        let n = self.experts.len();
        let added = self.add(place, wants);
        if added.is_err() {
            self.experts.truncate(n);
            self.tokens.truncate(n);
        }
        added
    }

    fn add(&mut self, place: usize, wants: impl IntoIterator<Item = (u32, u32)>) -> Result<(), Problem> {
        format::check_below("the place of a layer", place as u64, self.header.layers.len() as u64)?;
        let mut next = 0;
        for (expert, tokens) in wants {
            format::check_below("an expert", u64::from(expert), u64::from(self.header.n_experts))?;
            if expert < next || tokens == 0 {
                return Err(Problem::Wants { expert, tokens });
            }
            next = expert + 1;
            self.experts.push(expert as u16);
            self.tokens.push(tokens);
        }
        self.visits.push(VisitEnd { place: place as u32, experts: self.experts.len() });
        Ok(())
    }

    /// Ends the step that the visits since the last one make up.
    pub fn end_step(&mut self, n_tokens: u32) {
        self.steps.push(StepEnd { n_tokens, visits: self.visits.len() });
    }

    /// Number of steps.
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// Number of experts wanted in all steps.
    pub fn n_uses(&self) -> usize {
        self.experts.len()
    }

    /// All steps in order.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Step<'_>> + ExactSizeIterator {
        (0..self.n_steps()).map(|idx| self.step(idx))
    }

    /// One step.
    ///
    /// # Panics
    /// There is none of that number.
    pub fn step(&self, idx: usize) -> Step<'_> {
        let StepEnd { n_tokens, visits: end } = self.steps[idx];
        let first = idx.checked_sub(1).map_or(0, |before| self.steps[before].visits);
        Step { n_tokens, trace: self, first, end }
    }
}

impl<'a> Step<'a> {
    /// The layers' wishes in order.
    pub fn visits(&self) -> impl DoubleEndedIterator<Item = Visit<'a>> + use<'a> {
        let trace = self.trace;
        (self.first..self.end).map(move |idx| {
            let first = idx.checked_sub(1).map_or(0, |before| trace.visits[before].experts);
            let VisitEnd { place, experts: end } = trace.visits[idx];
            let (experts, tokens) = (&trace.experts[first..end], &trace.tokens[first..end]);
            Visit { place: place as usize, experts, tokens }
        })
    }
}
