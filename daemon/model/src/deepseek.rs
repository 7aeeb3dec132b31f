//! DeepSeek V2, V3, R1 and Kimi K2: the layer loop.
//!
//! Source: DeepSeek-V2, arXiv:2405.04434; DeepSeek-V3, arXiv:2412.19437.

use std::path::Path;
use std::sync::Arc;

use experts::{Experts, Origin};
use kernels::{Choice, Fit};
use weights::{ExpertKey, ExpertPart, Weights};

use crate::Error;
use crate::card;
use crate::forward::DENSE_ROW_COST;
use crate::layers::{FeedForward, FfnBuffers, vector};
use crate::mla::{LatentAttention, LatentBuffers, LatentForm};
use crate::moe::{Mixture, MixtureBuffers};
use crate::pass::Pass;

/// The decoder layers.
#[derive(Debug)]
pub(crate) struct DeepSeek {
    layers: Vec<Layer>,
    stages: Stages,
}

/// What all layers share: routed experts and activations.
#[derive(Debug)]
pub(crate) struct Stages {
    experts: Experts,
    normed: Vec<f32>,
    attention: LatentBuffers,
    mixture: MixtureBuffers,
    ffn: FfnBuffers,
    out: Vec<f32>,
}

/// One decoder layer: latent attention, then a feed-forward or a mixture of them.
#[derive(Debug)]
pub(crate) struct Layer {
    attn_norm: Vec<f32>,
    attention: LatentAttention,
    ffn_norm: Vec<f32>,
    ffn: Ffn,
}

#[derive(Debug)]
enum Ffn {
    Dense(FeedForward),
    Mixture(Mixture),
}

impl DeepSeek {
    /// Binds the layers, and the experts of `n_draft_layers` behind them too.
    pub(crate) fn bind(
        weights: &Arc<Weights>,
        form: LatentForm,
        n_draft_layers: usize,
        origin: Origin,
    ) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let layers = (0..hyper.n_layers).map(|i| Layer::bind(weights, i, form)).collect::<Result<_, _>>()?;
        let mixtures =
            hyper.moe.map_or(0..0, |moe| moe.n_dense_layers as u32..(hyper.n_layers + n_draft_layers) as u32);
        let experts = Experts::bind(weights, mixtures, hyper.moe.map_or(0, |moe| moe.n_experts), origin)?;
        Ok(Self { layers, stages: Stages::new(experts) })
    }

    /// A step begins; before it takes memory for its activations.
    pub(crate) fn begin_step(&mut self, n_tokens: usize, top_k: usize) {
        self.stages.experts.begin_step(n_tokens, top_k);
    }

    /// Gives the memory of a long step's activations back, where the experts want it again; whether they do.
    pub(crate) fn end_step(&mut self) -> bool {
        let Stages { experts, normed, attention, mixture, ffn, out } = &mut self.stages;
        if !experts.gave_loan_back() {
            return false;
        }
        (*normed, *attention, *mixture, *ffn, *out) = Default::default();
        true
    }

    /// hidden [n_tokens, d_model] <- the last layer's output, of layer `from`'s input.
    pub(crate) fn forward(&mut self, pass: &mut Pass<'_>, hidden: &mut [f32], from: usize) {
        for (i, layer) in self.layers.iter().enumerate().skip(from) {
            let next = self.layers.get(i + 1).and_then(Layer::mixture);
            layer.forward(pass, i, hidden, &mut self.stages, next);
            pass.trace_hidden(i, hidden);
        }
        self.end_layers();
    }

    /// Answers what a card asks of a layer's experts, for choices that it has made.
    pub(crate) fn answer(
        &mut self,
        pass: &mut Pass<'_>,
        layer: usize,
        choices: &[Choice],
        asked: card::Asked<'_>,
    ) {
        let next = self.layers.get(layer + 1).and_then(Layer::mixture);
        let mixture = self.layers[layer].mixture().expect("a card asks for layers with experts");
        let Stages { experts, mixture: buffers, .. } = &mut self.stages;
        match asked {
            card::Asked::Results { x, out } => {
                mixture.of_choices(pass, experts, (x, out), choices, buffers, next);
            }
            card::Asked::Experts { each, failed } => {
                failed.extend(mixture.bring(pass, experts, choices, buffers, each));
            }
        }
    }

    /// All layers of a step have been computed.
    pub(crate) fn end_layers(&mut self) {
        self.stages.experts.end_step();
    }

    /// Writes down what the layers want from here on.
    pub(crate) fn record_routes(&mut self, path: &Path, model: &str, top_k: usize) -> Result<(), Error> {
        Ok(self.stages.experts.record(path, model, top_k)?)
    }

    /// There is nothing to do at the moment.
    pub(crate) fn rest(&mut self) {
        self.stages.experts.rest();
    }

    /// What streaming experts has done so far; `None` where all are mapped.
    pub(crate) fn streaming(&self) -> Option<experts::Stats> {
        self.stages.experts.stats()
    }

    /// What a draft layer computes with, too.
    pub(crate) fn stages(&mut self) -> &mut Stages {
        &mut self.stages
    }
}

/// [`Forward::row_cost`](crate::Forward::row_cost): a second token reads experts of its own.
///
/// V2-Lite, with 53 % of a token's bytes in routed experts, took 1.49 times as long for two rows (two cores).
pub(crate) fn row_cost(weights: &Weights) -> f32 {
    let hyper = weights.hyper();
    let Some(moe) = &hyper.moe else { return DENSE_ROW_COST };
    let bytes = |name: &str| weights.bytes_of(name) as f32;
    let expert = |layer: usize| {
        let key = ExpertKey { layer: layer as u32, expert: 0 };
        ExpertPart::ALL.into_iter().map(|part| bytes(&key.tensor_name(part))).sum::<f32>()
    };
    let one: f32 = (moe.n_dense_layers..hyper.n_layers + hyper.n_draft_layers).map(expert).sum();
    let routed = one * moe.top_k as f32;
    let shared = weights.bytes() as f32 - one * moe.n_experts as f32 - bytes("token_embd.weight");
    let fresh = 1.0 - moe.top_k as f32 / moe.n_experts as f32;
    (routed * fresh + shared * DENSE_ROW_COST) / (routed + shared).max(1.0)
}

impl Stages {
    fn new(experts: Experts) -> Self {
        let (attention, mixture, ffn) =
            (LatentBuffers::default(), MixtureBuffers::default(), FfnBuffers::default());
        Self { experts, normed: Vec::new(), attention, mixture, ffn, out: Vec::new() }
    }
}

impl Layer {
    pub(crate) fn bind(weights: &Weights, layer: usize, form: LatentForm) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let norm = |stage: &str| vector(weights, &format!("blk.{layer}.{stage}.weight"), hyper.d_model);
        Ok(Self {
            attn_norm: norm("attn_norm")?,
            attention: LatentAttention::bind(weights, layer, form)?,
            ffn_norm: norm("ffn_norm")?,
            ffn: match &hyper.moe {
                Some(moe) if layer >= moe.n_dense_layers => Ffn::Mixture(Mixture::bind(weights, layer, moe)?),
                _ => Ffn::Dense(FeedForward::bind(weights, layer, "", hyper.d_ff)?),
            },
        })
    }

    fn mixture(&self) -> Option<&Mixture> {
        match &self.ffn {
            Ffn::Dense(_) => None,
            Ffn::Mixture(mixture) => Some(mixture),
        }
    }

    /// hidden [n_tokens, d_model] <- this layer's output; keys go to layer `kv_layer` of the cache. `next` is the mixture of
    /// the layer behind, whose experts may be read meanwhile.
    pub(crate) fn forward(
        &self,
        pass: &mut Pass<'_>,
        kv_layer: usize,
        hidden: &mut [f32],
        stages: &mut Stages,
        next: Option<&Mixture>,
    ) {
        let Stages { experts, normed, attention, mixture, ffn, out } = stages;
        let eps = pass.hyper().rms_eps;
        normed.fit(hidden.len());
        out.fit(hidden.len());
        pass.cpu.rms_norm(normed, hidden, &self.attn_norm, eps);
        self.attention.forward(pass, kv_layer, normed, out, attention);
        pass.cpu.add(hidden, out);

        pass.cpu.rms_norm(normed, hidden, &self.ffn_norm, eps);
        match &self.ffn {
            Ffn::Dense(dense) => dense.forward(pass.cpu, pass.weights, normed, out, ffn),
            Ffn::Mixture(experts_of) => experts_of.forward(pass, experts, normed, out, (mixture, ffn), next),
        }
        pass.cpu.add(hidden, out);
    }
}
