//! What is known of a model's tensors before any is read: of a model that is here, or of one that is not.

use std::collections::BTreeMap;

use tensor::{DType, Layout};
use weights::{ExpertKey, Hyperparameters, Weights};

use crate::Error;
use crate::placement::{Decision, Device, Kernel, Placement, assumed_tensors};

/// A model's tensors by name.
#[derive(Clone, Debug)]
pub struct Tensors<'a> {
    hyper: &'a Hyperparameters,
    source: Source<'a>,
    /// What says formats and kernels.
    rules: Option<&'a Placement>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Weights(&'a Weights),
    Assumed(BTreeMap<String, Facts>),
}

/// One tensor.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) layout: Layout,
}

impl<'a> Tensors<'a> {
    /// Of a model that is here, if only by its headers.
    pub fn of(weights: &'a Weights) -> Self {
        Self { hyper: weights.hyper(), source: Source::Weights(weights), rules: None }
    }

    /// Of a model that isn't, as llama.cpp's Q4_K_M would store it.
    pub fn assumed(hyper: &'a Hyperparameters) -> Self {
        let facts = |(name, dtype, shape)| (name, Facts { dtype, shape, layout: Layout::Rows });
        let source = Source::Assumed(assumed_tensors(hyper).into_iter().map(facts).collect());
        Self { hyper, source, rules: None }
    }

    /// In the formats, and computed with the kernels, that rules say.
    pub fn under(self, rules: Option<&'a Placement>) -> Self {
        Self { rules, ..self }
    }

    /// Whether the model has routed experts.
    pub fn is_mixture(&self) -> bool {
        self.hyper.moe.is_some()
    }

    pub(crate) fn hyper(&self) -> &'a Hyperparameters {
        self.hyper
    }

    /// Routed experts are read from a drive.
    pub(crate) fn experts_stream(&self) -> bool {
        matches!(self.source, Source::Weights(weights) if weights.is_resident())
    }

    /// Bytes of weights, as they are stored, that a token needs: of a table's rows one, of routed experts those it goes to, or
    /// none of these where they are left to the processor.
    pub fn needed_bytes(&self, routed: bool) -> u64 {
        let hyper = self.hyper;
        let share = |name: &str| match ExpertKey::parse(name) {
            Some(_) if !routed => 0.0,
            Some(_) => hyper.moe.map_or(0.0, |moe| moe.top_k as f64 / moe.n_experts as f64),
            None if name == "token_embd.weight" && !hyper.tied => 1.0 / hyper.n_vocab as f64,
            None => 1.0,
        };
        let bytes = |facts: &Facts| {
            let values: usize = facts.shape.iter().product();
            (values / facts.dtype.block_values() * facts.dtype.block_bytes()) as f64
        };
        let draft = |name: &str| {
            (hyper.n_layers..).take(hyper.n_draft_layers).any(|i| name.starts_with(&format!("blk.{i}.")))
        };
        let all: Vec<(String, Facts)> = match &self.source {
            Source::Assumed(facts) => facts.clone().into_iter().collect(),
            Source::Weights(weights) => {
                weights.tensors().filter_map(|t| Some((t.name.to_owned(), self.get(t.name)?))).collect()
            }
        };
        let counted = all.iter().filter(|(name, _)| !draft(name));
        counted.map(|(name, facts)| share(name) * bytes(facts)).sum::<f64>() as u64
    }

    /// As it is to lie on the card.
    pub(crate) fn get(&self, name: &str) -> Option<Facts> {
        let facts = self.stored(name)?;
        match self.decision(name) {
            Some(Decision { format: Some(dtype), .. }) if facts.shape.len() > 1 => {
                Some(Facts { dtype, ..facts })
            }
            _ => Some(facts),
        }
    }

    /// Arithmetic of its products.
    pub(crate) fn kernel(&self, name: &str) -> Kernel {
        self.decision(name).map_or(Kernel::Auto, |decision| decision.kernel)
    }

    fn decision(&self, name: &str) -> Option<Decision> {
        self.rules.map(|rules| rules.of(name)).filter(|decision| decision.device == Device::Gpu)
    }

    /// As it is in the file.
    pub(crate) fn stored(&self, name: &str) -> Option<Facts> {
        match &self.source {
            Source::Assumed(facts) => facts.get(name).cloned(),
            Source::Weights(weights) => weights.tensor(name).map(|tensor| Facts {
                dtype: tensor.dtype,
                shape: tensor.shape.to_vec(),
                layout: tensor.layout,
            }),
        }
    }

    /// The tensor called `name`, of this shape.
    pub(crate) fn require(&self, name: &str, want: &[usize]) -> Result<Facts, Error> {
        let missing = || match self.source {
            Source::Weights(weights) => weights.path().to_owned(),
            Source::Assumed(_) => "the catalogue".into(),
        };
        let facts = self
            .get(name)
            .ok_or_else(|| weights::Error::MissingTensor { path: missing(), tensor: name.into() })?;
        crate::layers::check_shape(name, &facts.shape, want)?;
        Ok(facts)
    }
}
