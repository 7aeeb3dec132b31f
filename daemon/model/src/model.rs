//! A model: weights bound to the layers of their architecture, the KV cache, and the steps over both.

mod on_card;
mod prompts;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use experts::Origin;
use kernels::{BLOCK_TOKENS, Cpu, CpuOptions, Fit, Precision, RopeTable};
use weights::{Architecture, Weights};

use crate::batch::{Batch, rows_of};
use crate::card::Card;
use crate::deepseek::{self, DeepSeek};
use crate::dense::Dense;
use crate::draft::Draft;
use crate::forward::{Chunk, Failure, Forward, Limits, Notice, SeqId};
use crate::kv::{KvCache, KvShape};
use crate::layers::Ends;
use crate::mla::LatentForm;
use crate::pass::Pass;
use crate::trace::Trace;
use crate::{Error, Streamed, TokenId, rope};

/// How a model is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Arithmetic.
    pub precision: Precision,
    /// Threads; `None` takes one a core.
    pub threads: Option<usize>,
    /// Workers stay on a core each.
    pub pin: bool,
    /// Tokens of KV cache, over all sequences.
    pub kv_tokens: usize,
    /// Longest sequence; cut to the model's own context.
    pub context: usize,
    /// Loads the model's draft layer, where it has one, for [`Forward::draft`]. It takes a layer's share of the KV cache
    /// and of the time of every step.
    pub draft: bool,
    /// Form of latent attention; the results agree to rounding.
    pub latent: LatentForm,
    /// Tokens a step may carry: longer prompts go in several steps.
    pub step_tokens: usize,
    /// Of a token's experts, by weight, what a step of decoding may leave out where it is not in memory, 0 to 1. `None`
    /// computes exactly.
    pub skip_share: Option<f32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            precision: Precision::Fast,
            threads: None,
            pin: false,
            kv_tokens: 16384,
            context: 8192,
            draft: false,
            latent: LatentForm::Auto,
            step_tokens: 512,
            skip_share: None,
        }
    }
}

/// A transformer on the CPU.
pub struct Model {
    weights: Arc<Weights>,
    ends: Ends,
    body: Body,
    draft: Option<Draft>,
    rope: RopeTable,
    limits: Limits,
    kv: KvCache,
    cpu: Cpu,
    row_cost: f32,
    skip_share: Option<f32>,
    /// The layers once more, on a graphics card that computes them.
    card: Option<Card>,
    /// Why a card that was asked for does not compute.
    without_card: Option<Notice>,
    /// By sequence, tokens whose keys lie on a card only.
    on_card: BTreeMap<SeqId, Vec<TokenId>>,
    /// By sequence: what was left out, in tokens' worth of layers, and tokens computed.
    lost: BTreeMap<SeqId, (f64, usize)>,
    trace: Option<Trace>,
    /// The residual stream, [n_tokens, d_model].
    hidden: Vec<f32>,
    /// The same, normed.
    normed: Vec<f32>,
}

/// The layers, by architecture.
#[derive(Debug)]
enum Body {
    Dense(Box<Dense>),
    DeepSeek(Box<DeepSeek>),
}

impl Model {
    /// Binds mapped weights to the layer loop.
    pub fn new(weights: Arc<Weights>, options: &Options) -> Result<Self, Error> {
        Self::with_experts(weights, options, Origin::Map)
    }

    /// Binds weights to the layer loop, with routed experts from wherever they are.
    pub fn with_experts(weights: Arc<Weights>, options: &Options, origin: Origin) -> Result<Self, Error> {
        let hyper = weights.hyper();
        let n_draft_layers = if options.draft { hyper.n_draft_layers.min(1) } else { 0 };
        let (body, draft) = match hyper.architecture {
            Architecture::Llama | Architecture::Qwen2 => {
                (Body::Dense(Box::new(Dense::bind(&weights)?)), None)
            }
            Architecture::DeepSeek2 => {
                let body = DeepSeek::bind(&weights, options.latent, n_draft_layers, origin)?;
                let draft =
                    (n_draft_layers > 0).then(|| Draft::bind(&weights, options.latent)).transpose()?;
                (Body::DeepSeek(Box::new(body)), draft)
            }
        };
        let row_cost = deepseek::row_cost(&weights);
        let ends = Ends::bind(&weights)?;
        let (freqs, scale) = rope::inverse_frequencies(&hyper.rope, &weights)?;
        let context = options.context.min(hyper.context);
        let kv_tokens = options.kv_tokens.max(context.min(BLOCK_TOKENS));
        let kv = KvCache::new(options.precision, KvShape::of(hyper, n_draft_layers), kv_tokens);
        let limits = Limits {
            n_vocab: hyper.n_vocab,
            context: context.min(kv.capacity()),
            step_tokens: options.step_tokens,
            kv_tokens: kv.capacity(),
        };
        let cpu = Cpu::new(CpuOptions {
            threads: options.threads,
            precision: options.precision,
            pin: options.pin,
            ..CpuOptions::default()
        })?;
        let (skip_share, lost) = (options.skip_share, BTreeMap::new());
        let rope = RopeTable::new(&freqs, scale, hyper.rope.pairs);
        let (hidden, normed) = (Vec::new(), Vec::new());
        let trace = None;
        Ok(Self {
            card: None,
            without_card: None,
            on_card: BTreeMap::new(),
            ends,
            body,
            draft,
            rope,
            limits,
            kv,
            cpu,
            row_cost,
            skip_share,
            lost,
            trace,
            hidden,
            normed,
            weights,
        })
    }

    /// The executor, for its level and number of threads.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The KV cache, for its sizes.
    pub fn kv(&self) -> &KvCache {
        &self.kv
    }

    /// Writes which experts every layer wants to a file from here on, for `experts::replay`. False where the model has none.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn record_routes(&mut self, path: &Path, model: &str) -> Result<bool, Error> {
        let Body::DeepSeek(deepseek) = &mut self.body else { return Ok(false) };
        let top_k = self.weights.hyper().moe.map_or(0, |moe| moe.top_k);
        deepseek.record_routes(path, model, top_k).map(|()| true)
    }

    /// Records what happens inside the layers from here on; [`take_trace`](Self::take_trace) ends it.
    pub fn start_trace(&mut self) {
        self.trace = Some(Trace::default());
    }

    /// What was recorded; empty where nothing was.
    pub fn take_trace(&mut self) -> Trace {
        self.trace.take().unwrap_or_default()
    }

    /// The draft layer's logits for every position it has not seen yet, [n_positions, n_vocab], with the token chosen to
    /// come next: after a step over a whole prompt, position i's row guesses token i + 2. Empty without a draft layer.
    pub fn draft_logits(&mut self, seq: SeqId, next: TokenId) -> Vec<f32> {
        let Some(draft) = &mut self.draft else { return Vec::new() };
        let (batch, hidden) = draft.take(&self.kv, &[(seq, next)]);
        self.draft_pass(&batch, &hidden);
        let rows: Vec<usize> = (0..batch.len()).collect();
        self.draft_head(&rows)
    }

    fn check(&self, chunks: &[Chunk<'_>]) -> Result<(), Error> {
        for chunk in chunks {
            let (wanted, reserved) = (self.kv.len(chunk.seq) + chunk.tokens.len(), self.kv.room(chunk.seq));
            if wanted > reserved {
                return Err(Error::BeyondReservation { seq: chunk.seq.0, wanted, reserved });
            }
            let n_vocab = self.limits.n_vocab;
            if let Some(&id) = chunk.tokens.iter().find(|&&id| id as usize >= n_vocab) {
                return Err(Error::UnknownToken { id, n_vocab });
            }
        }
        Ok(())
    }

    /// hidden [n_tokens, d_model] <- the last layer's output for every token of the batch. Returns the tokens for which it
    /// means nothing, and why; and what was left out of each token, summed over layers, where something may be.
    fn layers(&mut self, batch: &Batch) -> (Vec<(u32, String)>, Vec<f32>) {
        let Self { weights, ends, body, rope, kv, cpu, trace, hidden, skip_share, .. } = self;
        let (skip_share, lost) = (*skip_share, skip_share.map_or_else(Vec::new, |_| vec![0.0; batch.len()]));
        if let Body::DeepSeek(deepseek) = body {
            deepseek.begin_step(batch.len(), weights.hyper().moe.map_or(0, |moe| moe.top_k));
        }
        hidden.fit(batch.len() * weights.hyper().d_model);
        cpu.embed(hidden, &ends.embedding.matrix(weights), &batch.ids);
        let mut pass =
            Pass { trace: trace.as_mut(), skip_share, lost, ..Pass::new(weights, cpu, kv, rope, batch) };
        match body {
            Body::Dense(dense) => dense.forward(&mut pass, hidden, 0),
            Body::DeepSeek(deepseek) => deepseek.forward(&mut pass, hidden, 0),
        }
        (pass.failed, pass.lost)
    }

    /// normed [n_tokens, d_model] <- norm over hidden; logits [rows.len(), n_vocab] <- head over some rows of it.
    fn head(&mut self, rows: &[usize], logits: &mut Vec<f32>) {
        let Self { weights, ends, cpu, hidden, normed, limits, .. } = self;
        let hyper = weights.hyper();
        normed.fit(hidden.len());
        cpu.rms_norm(normed, hidden, &ends.output_norm, hyper.rms_eps);
        let wanted = rows_of(normed, hyper.d_model, rows);
        logits.fit(rows.len() * limits.n_vocab);
        cpu.linear(&wanted, rows.len(), &mut [ends.head.job(weights, logits)]);
    }

    fn advance(&mut self, chunks: &[Chunk<'_>]) {
        for chunk in chunks {
            self.kv.set_len(chunk.seq, self.kv.len(chunk.seq) + chunk.tokens.len());
        }
    }

    /// Adds what was left out of each token to its sequence.
    fn note_lost(&mut self, batch: &Batch, chunks: &[Chunk<'_>], lost: &[f32]) {
        if self.skip_share.is_none() {
            return;
        }
        for (chunk, rows) in chunks.iter().zip(batch.rows()) {
            let (sum, n_tokens) = self.lost.entry(chunk.seq).or_default();
            *n_tokens += rows.len();
            *sum += lost[rows].iter().map(|&lost| f64::from(lost)).sum::<f64>();
        }
    }

    /// Lets the draft layer see what it has not, now that the chunks say what follows.
    fn catch_up(&mut self, chunks: &[Chunk<'_>]) {
        let due = self.draft.as_mut().and_then(|draft| draft.due(&self.kv, chunks));
        if let Some((batch, hidden)) = due {
            self.draft_pass(&batch, &hidden);
        }
    }

    fn draft_pass(&mut self, batch: &Batch, hidden: &[f32]) {
        let Self { weights, ends, body, draft, rope, kv, cpu, .. } = self;
        if let (Some(draft), Body::DeepSeek(deepseek)) = (draft, body) {
            let mut pass = Pass::new(weights, cpu, kv, rope, batch);
            draft.forward(&mut pass, deepseek.stages(), ends, hidden);
        }
    }

    /// The draft layer's logits [rows.len(), n_vocab] for some rows of its last pass.
    fn draft_head(&mut self, rows: &[usize]) -> Vec<f32> {
        let Self { weights, ends, draft, cpu, limits, .. } = self;
        let Some(draft) = draft else { return Vec::new() };
        let x = draft.outputs(rows);
        let mut logits = vec![0.0; rows.len() * limits.n_vocab];
        cpu.linear(&x, rows.len(), &mut [draft.head(ends).job(weights, &mut logits)]);
        logits
    }
}

/// The sequences of failed tokens, each with its first failure.
fn failures(batch: &Batch, chunks: &[Chunk<'_>], failed: &[(u32, String)]) -> Vec<Failure> {
    let of = |(chunk, rows): (&Chunk<'_>, std::ops::Range<usize>)| {
        let (_, cause) = failed.iter().find(|(token, _)| rows.contains(&(*token as usize)))?;
        Some(Failure { seq: chunk.seq, error: Error::Unreadable { cause: cause.clone() } })
    };
    chunks.iter().zip(batch.rows()).filter_map(of).collect()
}

impl Forward for Model {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn open(&mut self, n_tokens: usize) -> Option<SeqId> {
        let seq = self.kv.open(n_tokens)?;
        self.lost.remove(&seq);
        Some(seq)
    }

    fn resize(&mut self, seq: SeqId, n_tokens: usize) -> bool {
        self.kv.resize(seq, n_tokens)
    }

    fn close(&mut self, seq: SeqId) {
        self.kv.close(seq);
        self.on_card.remove(&seq);
        self.draft.iter_mut().for_each(|draft| draft.close(seq));
    }

    fn len(&self, seq: SeqId) -> usize {
        self.kv.len(seq)
    }

    fn truncate(&mut self, seq: SeqId, n_tokens: usize) {
        assert!(n_tokens <= self.kv.len(seq), "sequence {seq}: truncate only shortens");
        self.kv.set_len(seq, n_tokens);
        if let Some(tokens) = self.on_card.get_mut(&seq) {
            tokens.truncate(n_tokens);
        }
        self.draft.iter_mut().for_each(|draft| draft.truncate(seq, n_tokens));
    }

    fn step(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) -> Result<Vec<Failure>, Error> {
        self.check(chunks)?;
        if let Some(failures) = self.step_on_card(chunks, logits) {
            return Ok(failures);
        }
        self.recover(chunks);
        self.catch_up(chunks);
        let batch = Batch::of_chunks(&self.kv, chunks);
        let (failed, lost) = self.layers(&batch);
        self.note_lost(&batch, chunks, &lost);
        self.head(&batch.wanted_rows(chunks), logits);
        if let Some(draft) = &mut self.draft {
            draft.hold(&batch, chunks, &self.normed);
        }
        if let Body::DeepSeek(deepseek) = &mut self.body
            && deepseek.end_step()
        {
            (self.hidden, self.normed) = Default::default();
            self.cpu.give_back();
        }
        self.advance(chunks);
        Ok(failures(&batch, chunks, &failed))
    }

    fn rest(&mut self) {
        if let Body::DeepSeek(deepseek) = &mut self.body {
            deepseek.rest();
        }
    }

    fn lost(&self, seq: SeqId) -> Option<f32> {
        self.skip_share?;
        let &(sum, n_tokens) = self.lost.get(&seq).unwrap_or(&(0.0, 0));
        let hyper = self.weights.hyper();
        let n_layers = hyper.moe.map_or(0, |moe| hyper.n_layers - moe.n_dense_layers);
        Some((sum / (n_tokens * n_layers).max(1) as f64) as f32)
    }

    fn streaming(&self) -> Option<Streamed> {
        match &self.body {
            Body::Dense(_) => None,
            Body::DeepSeek(deepseek) => deepseek.streaming(),
        }
    }

    fn row_cost(&self) -> f32 {
        self.row_cost
    }

    fn notice(&self) -> Option<&Notice> {
        self.without_card.as_ref()
    }

    fn draft(&mut self, next: &[(SeqId, TokenId)], n: usize) -> Result<Vec<Vec<TokenId>>, Error> {
        let mut guesses = vec![Vec::new(); next.len()];
        // A guess from a guess writes a key where the sequence will go on.
        let room = next.iter().map(|&(seq, _)| self.kv.room(seq) - self.kv.len(seq)).min().unwrap_or(0);
        let n = n.min(1 + room);
        let Some(draft) = self.draft.as_mut().filter(|_| n > 0) else { return Ok(guesses) };
        let (mut batch, mut hidden) = draft.take(&self.kv, next);
        // A sequence that nothing is held of gets no guess: it has not stepped since the last.
        let guessing: Vec<usize> =
            batch.rows().enumerate().filter(|(_, rows)| !rows.is_empty()).map(|(i, _)| i).collect();
        for depth in 0..n {
            if guessing.is_empty() {
                break;
            }
            self.draft_pass(&batch, &hidden);
            let last: Vec<usize> =
                batch.rows().filter(|rows| !rows.is_empty()).map(|rows| rows.end - 1).collect();
            let logits = self.draft_head(&last);
            for (&i, row) in guessing.iter().zip(logits.chunks_exact(self.limits.n_vocab)) {
                guesses[i].push(tensor::reference::argmax(row) as TokenId);
            }
            // The next guess follows from this one; its key is overwritten when the truth is known.
            hidden = self.draft.as_ref().map_or_else(Vec::new, |draft| draft.outputs(&last));
            batch = Batch::default();
            for &i in &guessing {
                let seq = next[i].0;
                batch.push(&self.kv, seq, self.kv.len(seq) + depth, &guesses[i][depth..]);
            }
        }
        Ok(guesses)
    }
}
