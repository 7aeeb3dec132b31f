//! All routed experts of a model, by layer and number.

use std::collections::BTreeMap;
use std::sync::Arc;

use tensor::Matrix;
use weights::{ExpertKey, ExpertPart, TensorIndex, Weights};

use crate::streamer::Streamer;
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
}

#[derive(Debug)]
enum Home {
    /// Gate, up and down of every expert, mapped.
    Mapped(Vec<[TensorIndex; 3]>),
    Streamed(Box<Streamer>),
}

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
        let keys = layers
            .iter()
            .flat_map(|&layer| (0..n_experts).map(move |expert| ExpertKey { layer, expert }));
        let home = match origin {
            Origin::Map => Home::Mapped(keys.map(|key| mapped(weights, key)).collect::<Result<_, _>>()?),
            Origin::Drive(streaming) => {
                let records = keys.map(|key| weights.record(key)).collect::<Result<_, _>>()?;
                Home::Streamed(Box::new(Streamer::new(records, streaming)?))
            }
        };
        let layers = layers.into_iter().zip((0..).step_by(n_experts.max(1) as usize)).collect();
        Ok(Self { weights: Arc::clone(weights), layers, n_experts, home })
    }

    /// A step over `n_tokens` begins, each going to `top_k` experts of every layer.
    pub fn begin_step(&mut self, n_tokens: usize, top_k: usize) {
        if let Home::Streamed(streamer) = &mut self.home {
            streamer.begin_step(n_tokens * top_k >= self.n_experts as usize);
        }
    }

    /// Asks for some experts of one layer, each with the number of its tokens, in ascending order; each is given out once.
    ///
    /// # Panics
    /// The model has no such expert: a programmer's error.
    pub fn want(&mut self, layer: u32, experts: &[(u32, u32)]) -> Wanted<'_> {
        let first = self.layers[&layer];
        let mapped = match &mut self.home {
            Home::Mapped(_) => experts.iter().map(|&(expert, _)| first + expert).collect(),
            Home::Streamed(streamer) => {
                streamer.want(experts.iter().map(|&(expert, n_tokens)| (first + expert, n_tokens)));
                Vec::new()
            }
        };
        Wanted { experts: self, layer, first, mapped }
    }

    /// What streaming has done so far; `None` where all experts are mapped.
    pub fn stats(&self) -> Option<Stats> {
        match &self.home {
            Home::Mapped(_) => None,
            Home::Streamed(streamer) => Some(streamer.stats()),
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
            Home::Streamed(streamer) => {
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
            Home::Streamed(streamer) => streamer.take_failed(),
        }
    }
}
