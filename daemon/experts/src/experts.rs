//! All routed experts of a model, by layer and number.

use std::collections::BTreeMap;
use std::sync::Arc;

use tensor::Matrix;
use weights::{Error, ExpertKey, ExpertPart, TensorIndex, Weights};

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

/// Where a model's routed experts are.
#[derive(Debug)]
pub struct Experts {
    weights: Arc<Weights>,
    /// Gate, up and down of every expert of a layer.
    layers: BTreeMap<u32, Vec<[TensorIndex; 3]>>,
}

impl Experts {
    /// Finds the experts of all `layers`, `n_experts` in each.
    ///
    /// # Errors
    /// A matrix is missing, or is none.
    pub fn bind(
        weights: &Arc<Weights>,
        layers: impl IntoIterator<Item = u32>,
        n_experts: usize,
    ) -> Result<Self, Error> {
        let part = |key: ExpertKey, part| {
            let index = weights.index(&key.tensor_name(part))?;
            weights.at(index).matrix().map(|_| index)
        };
        let expert = |key| {
            Ok([part(key, ExpertPart::Gate)?, part(key, ExpertPart::Up)?, part(key, ExpertPart::Down)?])
        };
        let layer = |layer: u32| {
            let keys = (0..n_experts as u32).map(|expert| ExpertKey { layer, expert });
            Ok((layer, keys.map(expert).collect::<Result<Vec<_>, Error>>()?))
        };
        let layers = layers.into_iter().map(layer).collect::<Result<_, Error>>()?;
        Ok(Self { weights: Arc::clone(weights), layers })
    }

    /// Asks for some experts of one layer, in ascending order; each is given out once.
    ///
    /// # Panics
    /// The model has no such expert: a programmer's error.
    pub fn want(&mut self, layer: u32, experts: &[u32]) -> Wanted<'_> {
        let places = &self.layers[&layer];
        let ready = experts.iter().map(|&expert| {
            let [gate, up, down] = places[expert as usize]
                .map(|index| self.weights.at(index).matrix().expect("checked when the experts were bound"));
            Expert { key: ExpertKey { layer, expert }, gate, up, down }
        });
        Wanted { ready: ready.collect() }
    }
}

/// Experts that a layer waits for.
#[derive(Debug)]
pub struct Wanted<'a> {
    ready: Vec<Expert<'a>>,
}

impl Wanted<'_> {
    /// Experts that are in memory and were not given out yet, at least one, in ascending order; `None` after the last.
    pub fn ready(&mut self) -> Option<Vec<Expert<'_>>> {
        let ready = std::mem::take(&mut self.ready);
        (!ready.is_empty()).then_some(ready)
    }
}
