//! What the layers of every architecture work with.

use kernels::{Cpu, RopeTable};
use weights::{Hyperparameters, Weights};

use crate::batch::Batch;
use crate::kv::KvCache;
use crate::trace::Trace;

/// One pass of a batch through some layers.
pub(crate) struct Pass<'a> {
    pub(crate) weights: &'a Weights,
    pub(crate) cpu: &'a mut Cpu,
    pub(crate) kv: &'a mut KvCache,
    pub(crate) rope: &'a RopeTable,
    pub(crate) batch: &'a Batch,
    pub(crate) trace: Option<&'a mut Trace>,
    /// Of a token's experts, by weight, what may be left out where it is not in memory; `None` computes exactly.
    pub(crate) skip_share: Option<f32>,
    /// What was left out of each token, summed over layers.
    pub(crate) lost: Vec<f32>,
    /// Tokens of the batch that could not be computed, and why.
    pub(crate) failed: Vec<(u32, String)>,
}

impl<'a> Pass<'a> {
    /// A pass that leaves nothing out and traces nothing.
    pub(crate) fn new(
        weights: &'a Weights,
        cpu: &'a mut Cpu,
        kv: &'a mut KvCache,
        rope: &'a RopeTable,
        batch: &'a Batch,
    ) -> Self {
        Self {
            weights,
            cpu,
            kv,
            rope,
            batch,
            trace: None,
            skip_share: None,
            lost: Vec::new(),
            failed: Vec::new(),
        }
    }

    pub(crate) fn hyper(&self) -> &'a Hyperparameters {
        self.weights.hyper()
    }

    /// Tokens of the batch.
    pub(crate) fn n_tokens(&self) -> usize {
        self.batch.len()
    }

    /// Notes that some tokens' results mean nothing.
    pub(crate) fn fail(&mut self, tokens: &[u32], error: &experts::Error) {
        self.failed.extend(tokens.iter().map(|&token| (token, error.to_string())));
    }

    /// Notes the residual stream [n_tokens, d_model] behind a layer, where somebody wants to know.
    pub(crate) fn trace_hidden(&mut self, layer: usize, hidden: &[f32]) {
        if let Some(trace) = &mut self.trace {
            trace.add_hidden(layer, hidden);
        }
    }
}
