//! All routed experts of a model, by layer and number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tensor::Matrix;
use tracing::warn;
use weights::{ExpertKey, ExpertPart, TensorIndex, Weights};

use crate::profile::Profile;
use crate::streamer::Streamer;
use crate::trace::{self, Recorder};
use crate::trial::Trial;
use crate::{Error, Stats, Streaming};

/// One routed expert's matrices, in memory as long as the borrow lasts.
#[derive(Clone, Copy, Debug)]
pub struct Expert<'a> {
    /// Which.
    pub key: ExpertKey,
    /// [d_expert, d_model]
    pub gate: Matrix<'a>,
    /// [d_expert, d_model]
    pub up: Matrix<'a>,
    /// [d_model, d_expert]
    pub down: Matrix<'a>,
}

impl<'a> Expert<'a> {
    fn new(key: ExpertKey, [gate, up, down]: [Matrix<'a>; 3]) -> Self {
        Self { key, gate, up, down }
    }
}

/// Where a model's routed experts are.
#[derive(Debug)]
pub struct Experts {
    weights: Arc<Weights>,
    /// Of each layer, the number of its first expert in the model; each has `n_experts`.
    layers: BTreeMap<u32, u32>,
    n_experts: u32,
    home: Home,
    /// The step's tokens are so many that the next layer will want nearly all of its experts.
    guess_layers: bool,
    /// Whether guessing the next layer's experts pays while decoding.
    trial: Trial,
    /// Writes down what layers want.
    recorder: Option<Recorder>,
    /// Tokens of the step.
    n_tokens: u32,
}

/// Tokens an expert has on average from which on all experts of a layer are read before it is known that they are wanted: at
/// 8, spread evenly, one in 3000 has none.
const SURE_TOKENS: usize = 8;

#[derive(Debug)]
enum Home {
    /// Gate, up and down of every expert, mapped.
    Mapped(Vec<[TensorIndex; 3]>),
    Streamed {
        streamer: Box<Streamer>,
        memory: Option<Memory>,
    },
}

/// What is kept over restarts.
#[derive(Debug)]
struct Memory {
    path: PathBuf,
    /// When it was written last.
    saved: Instant,
}

/// Time between two writings of the profile.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Where experts are to come from.
#[derive(Debug, Default)]
pub enum Origin {
    /// The model is mapped: all of them are there.
    #[default]
    Map,
    /// A drive, as they are wanted.
    Drive(Streaming),
}

impl Experts {
    /// Finds the experts of all `layers`, `n_experts` in each.
    ///
    /// # Errors
    /// A matrix is missing or is none; too little memory to stream.
    pub fn bind(
        weights: &Arc<Weights>,
        layers: impl IntoIterator<Item = u32>,
        n_experts: usize,
        origin: Origin,
    ) -> Result<Self, Error> {
        let layers: Vec<u32> = layers.into_iter().collect();
        let n_experts = n_experts as u32;
        let keys =
            layers.iter().flat_map(|&layer| (0..n_experts).map(move |expert| ExpertKey { layer, expert }));
        let home = match origin {
            Origin::Map => Home::Mapped(keys.map(|key| mapped(weights, key)).collect::<Result<_, _>>()?),
            Origin::Drive(streaming) => {
                let records = keys.map(|key| weights.record(key)).collect::<Result<_, _>>()?;
                let memory = streaming.profile.clone().map(|path| Memory { path, saved: Instant::now() });
                let mut streamer = Box::new(Streamer::new(weights, records, streaming)?);
                if let Some(Memory { path, .. }) = &memory {
                    warm(&mut streamer, path, &layers, n_experts);
                }
                Home::Streamed { streamer, memory }
            }
        };
        let layers = layers.into_iter().zip((0..).step_by(n_experts.max(1) as usize)).collect();
        Ok(Self {
            weights: Arc::clone(weights),
            layers,
            n_experts,
            home,
            guess_layers: false,
            trial: Trial::default(),
            recorder: None,
            n_tokens: 0,
        })
    }

    /// A step over `n_tokens` begins, each going to `top_k` experts of every layer.
    pub fn begin_step(&mut self, n_tokens: usize, top_k: usize) {
        self.n_tokens = n_tokens as u32;
        if let Home::Streamed { streamer, .. } = &mut self.home {
            let (chosen, n_experts) = (n_tokens * top_k, self.n_experts as usize);
            self.guess_layers = chosen >= SURE_TOKENS * n_experts;
            streamer.begin_step(n_tokens, chosen >= n_experts);
            if chosen < n_experts {
                self.trial.begin_step(Instant::now(), streamer.stats().busy);
            }
        }
    }

    /// The step that was begun has ended.
    pub fn end_step(&mut self) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = recorder.end_step(self.n_tokens)
        {
            warn!(%error, "routes are recorded no further");
        }
        if let Home::Streamed { streamer, .. } = &self.home {
            self.trial.end_step(Instant::now(), streamer.stats().busy);
        }
    }

    /// Writes down what the layers want from here on, until the file is full.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn record(&mut self, path: &Path, model: &str, top_k: usize) -> Result<(), Error> {
        let layer = |&layer: &u32| {
            let record = self.weights.record(ExpertKey { layer, expert: 0 })?;
            Ok(trace::Layer { layer, record_bytes: record.bytes as u64 })
        };
        let header = trace::Header {
            model: model.chars().take(64).collect(),
            fingerprint: String::new(),
            n_experts: self.n_experts,
            top_k: top_k as u32,
            layers: self.layers.keys().map(layer).collect::<Result<_, Error>>()?,
        };
        self.recorder = Some(Recorder::create(path, &header)?);
        Ok(())
    }

    /// Whether it is worth while to say what the next layer will want.
    pub fn is_guessing(&self) -> bool {
        self.trial.is_guessing()
    }

    /// Whether the step has taken memory that is the cache's between long steps: it has to be free again before the next.
    pub fn gave_loan_back(&self) -> bool {
        match &self.home {
            Home::Mapped(_) => false,
            Home::Streamed { streamer, .. } => streamer.gave_loan_back(),
        }
    }

    /// Whether the step wants nearly all experts of each layer.
    pub fn is_sweep(&self) -> bool {
        match &self.home {
            Home::Mapped(_) => false,
            Home::Streamed { streamer, .. } => streamer.is_sweep(),
        }
    }

    /// Whether an expert is in memory, or on its way.
    ///
    /// # Panics
    /// The model has no such expert: a programmer's error.
    pub fn is_there(&self, layer: u32, expert: u32) -> bool {
        match &self.home {
            Home::Mapped(_) => true,
            Home::Streamed { streamer, .. } => streamer.is_known(self.layers[&layer] + expert),
        }
    }

    /// Counts choices that were left out because their experts were not there.
    pub fn count_skipped(&mut self, n: usize) {
        if let Home::Streamed { streamer, .. } = &mut self.home {
            streamer.count_skipped(n);
        }
    }

    /// Asks for some experts of one layer, each with the number of its tokens, in ascending order; each is given out once.
    ///
    /// # Panics
    /// The model has no such expert: a programmer's error.
    pub fn want(&mut self, layer: u32, experts: &[(u32, u32)]) -> Wanted<'_> {
        let first = self.layers[&layer];
        if let Some(recorder) = &mut self.recorder {
            recorder.record(layer, experts);
        }
        let mapped = match &mut self.home {
            Home::Mapped(_) => experts.iter().map(|&(expert, _)| first + expert).collect(),
            Home::Streamed { streamer, .. } => {
                streamer.want(experts.iter().map(|&(expert, n_tokens)| (first + expert, n_tokens)));
                if let Some(&next) = self.layers.get(&(layer + 1)).filter(|_| self.guess_layers) {
                    streamer.guess(next..next + self.n_experts);
                }
                Vec::new()
            }
        };
        Wanted { experts: self, layer, first, mapped }
    }

    /// There is nothing to do at the moment: keeps what is to be kept, if the last time is long ago.
    pub fn rest(&mut self) {
        let Home::Streamed { memory: Some(memory), .. } = &mut self.home else { return };
        if memory.saved.elapsed() >= SAVE_EVERY {
            memory.saved = Instant::now();
            self.save();
        }
    }

    /// Writes the profile, where one is kept.
    fn save(&self) {
        let Home::Streamed { streamer, memory: Some(memory) } = &self.home else { return };
        let profile = Profile::new(self.layers.keys().copied().collect(), self.n_experts, streamer.uses());
        if let Err(error) = profile.write(&memory.path) {
            warn!(%error, "which experts were used is not kept: the next start will be slower");
        }
    }

    /// What streaming has done so far; `None` where all experts are mapped.
    pub fn stats(&self) -> Option<Stats> {
        match &self.home {
            Home::Mapped(_) => None,
            Home::Streamed { streamer, .. } => {
                Some(Stats { prefetch_gain: self.trial.gain() as f32, ..streamer.stats() })
            }
        }
    }
}

impl Drop for Experts {
    fn drop(&mut self) {
        self.save();
    }
}

/// Starts to read what was used most before the last restart. A profile that is none costs only this.
fn warm(streamer: &mut Streamer, path: &Path, layers: &[u32], n_experts: u32) {
    match Profile::read(path, layers, n_experts) {
        Ok(Some(profile)) => streamer.warm(profile.aged()),
        Ok(None) => {}
        Err(error) => warn!(%error, "starting with an empty cache"),
    }
}

impl Drop for Wanted<'_> {
    /// A layer that panics takes no more: what it wanted must not reach the next one.
    fn drop(&mut self) {
        if let Home::Streamed { streamer, .. } = &mut self.experts.home {
            streamer.abandon();
        }
    }
}

/// The places of a mapped expert's matrices.
fn mapped(weights: &Weights, key: ExpertKey) -> Result<[TensorIndex; 3], Error> {
    let part = |part| {
        let index = weights.index(&key.tensor_name(part))?;
        weights.at(index).matrix().map(|_| index)
    };
    Ok([part(ExpertPart::Gate)?, part(ExpertPart::Up)?, part(ExpertPart::Down)?])
}

/// Experts that a layer waits for.
#[derive(Debug)]
pub struct Wanted<'a> {
    experts: &'a mut Experts,
    layer: u32,
    /// The layer's first expert.
    first: u32,
    /// Mapped experts that were not given out.
    mapped: Vec<u32>,
}

impl Wanted<'_> {
    /// Guesses which experts `layer`, the next, will want, likeliest first: they are read while the drive has nothing else to
    /// do.
    ///
    /// # Panics
    /// The model has no such expert: a programmer's error.
    pub fn guess(&mut self, layer: u32, experts: &[u32]) {
        if let Home::Streamed { streamer, .. } = &mut self.experts.home {
            let first = self.experts.layers[&layer];
            streamer.guess_likely(experts.iter().map(|expert| first + expert));
        }
    }

    /// Experts that are in memory and were not given out yet, at least one, in ascending order; `None` after the last.
    pub fn ready(&mut self) -> Option<Vec<Expert<'_>>> {
        let Self { experts: Experts { weights, home, .. }, layer, first, mapped } = self;
        let key = |number: u32| ExpertKey { layer: *layer, expert: number - *first };
        let ready: Vec<Expert<'_>> = match home {
            Home::Mapped(places) => {
                let matrices = |number: u32| {
                    places[number as usize]
                        .map(|index| weights.at(index).matrix().expect("checked when the experts were bound"))
                };
                mapped.drain(..).map(|number| Expert::new(key(number), matrices(number))).collect()
            }
            Home::Streamed { streamer, .. } => {
                let numbers = streamer.next_ready().to_vec();
                let streamer = &**streamer;
                let matrices = |number: u32| {
                    let (record, memory) = streamer.record(number);
                    weights.matrices(record, memory)
                };
                numbers.into_iter().map(|number| Expert::new(key(number), matrices(number))).collect()
            }
        };
        (!ready.is_empty()).then_some(ready)
    }

    /// Experts that were wanted and cannot be had, once all others were given out.
    pub fn into_failed(self) -> Vec<(ExpertKey, Error)> {
        match &mut self.experts.home {
            Home::Mapped(_) => Vec::new(),
            Home::Streamed { streamer, .. } => streamer.take_failed(),
        }
    }
}
