//! The measurements: a prompt, and answers that grow together.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail};
use model::{Chunk, Forward, Limits, LogitsOf, Model, SeqId, TokenId};
use serde_json::{Value, json};

use super::median;
use super::reading::Reading;
use crate::cli::Bench;
use crate::load;

/// Tokens of the first pass, which touches every page of the weights and is not counted.
const WARM_UP_TOKENS: usize = 32;

/// Answers decoded together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded {
    pub(super) sequences: usize,
    /// Tokens of all together.
    pub(super) tok_s: f64,
    /// Bytes of weights that a step reads.
    pub(super) step_bytes: u64,
    /// What was streamed meanwhile.
    pub(super) streamed: Option<Streamed>,
}

/// A prompt read.
#[derive(Clone, Debug)]
pub(super) struct Prefilled {
    pub(super) tok_s: f64,
    /// Behind the last token.
    pub(super) logits: Vec<f32>,
    /// What was streamed meanwhile, by all repetitions.
    pub(super) streamed: Option<Streamed>,
}

/// What a measurement streamed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streamed {
    pub(super) stats: model::Streamed,
    /// Time it took.
    pub(super) seconds: f64,
    /// Tokens computed.
    pub(super) n_tokens: usize,
}

impl Streamed {
    /// Runs `work` over `n_tokens` and says what it streamed.
    fn during<T>(
        model: &mut Model,
        n_tokens: usize,
        work: impl FnOnce(&mut Model) -> Result<T>,
    ) -> Result<(T, Option<Self>)> {
        let (before, start) = (model.streaming(), Instant::now());
        let result = work(model)?;
        let (after, seconds) = (model.streaming(), start.elapsed().as_secs_f64());
        let streamed =
            before.zip(after).map(|(before, after)| Self { stats: after - before, seconds, n_tokens });
        Ok((result, streamed))
    }

    pub(super) fn json(&self) -> Value {
        let Self { stats, seconds, n_tokens } = self;
        json!({
            "hits": stats.hits, "misses": stats.misses, "needed_bytes": stats.needed_bytes, "reads": stats.reads,
            "bytes_read": stats.bytes_read, "busy_s": stats.busy.as_secs_f64(), "stall_s": stats.stalled.as_secs_f64(),
            "wall_s": seconds, "tokens": n_tokens, "prefetches": stats.prefetches, "prefetch_hits": stats.prefetch_hits,
            "retries": stats.retries, "skipped": stats.skipped, "prefetch_gain": stats.prefetch_gain,
        })
    }
}

impl std::fmt::Display for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stats, seconds, n_tokens } = self;
        write!(
            f,
            "{:.1} % of the experts were there, {:.1} MB a token read at {:.2} GB/s ({:.0} % of the time), {:.0} % waited",
            100.0 * stats.hit_rate(),
            stats.bytes_read as f64 / 1e6 / *n_tokens as f64,
            stats.read_bytes_s() / 1e9,
            100.0 * stats.busy.as_secs_f64() / seconds,
            100.0 * stats.stalled.as_secs_f64() / seconds
        )
    }
}

impl Decoded {
    /// Bytes of weights read a second.
    pub(super) fn bytes_s(&self) -> f64 {
        self.step_bytes as f64 * self.tok_s / self.sequences as f64
    }

    pub(super) fn json(&self, bandwidth_fraction: f64) -> Value {
        json!({
            "sequences": self.sequences, "tok_s": self.tok_s, "step_bytes": self.step_bytes,
            "bandwidth_fraction": bandwidth_fraction, "streaming": self.streamed.as_ref().map(Streamed::json),
        })
    }
}

/// Tokens a second of a prompt, and the logits behind it.
pub(super) fn prefill(model: &mut Model, args: &Bench) -> Result<Prefilled> {
    // A model that streams is measured as it is found: its first prompt is the slowest.
    if model.streaming().is_none() {
        prefill_once(model, args.prefill.min(WARM_UP_TOKENS))?;
    }
    let (runs, streamed) = Streamed::during(model, args.repeat * args.prefill, |model| {
        (0..args.repeat).map(|_| prefill_once(model, args.prefill)).collect::<Result<Vec<_>>>()
    })?;
    let seconds = median(runs.iter().map(|(seconds, _)| *seconds));
    let logits = runs.into_iter().next_back().map(|(_, logits)| logits).unwrap_or_default();
    Ok(Prefilled { tok_s: args.prefill as f64 / seconds, logits, streamed })
}

/// Tokens a second of `n_seqs` answers.
pub(super) fn decode(model: &mut Model, args: &Bench, reading: &Reading, n_seqs: usize) -> Result<Decoded> {
    let (mut seconds, mut streamed) = (Vec::new(), None);
    for _ in 0..args.repeat {
        let mut answers = Answers::begin(model, args, n_seqs)?;
        let start = Instant::now();
        ((), streamed) = Streamed::during(model, args.decode * n_seqs, |model| {
            (0..args.decode).try_for_each(|_| answers.step(model))
        })?;
        seconds.push(start.elapsed().as_secs_f64());
        expect_finite(&answers.logits)?;
        answers.close(model);
    }
    let tok_s = (args.decode * n_seqs) as f64 / median(seconds.into_iter());
    let step_bytes = reading.step_bytes(&experts_used(model, args, n_seqs)?);
    Ok(Decoded { sequences: n_seqs, tok_s, step_bytes, streamed })
}

/// One answer, behind its prompt, before which `begin` is called.
pub(super) fn answer(model: &mut Model, args: &Bench, begin: impl FnOnce(&mut Model)) -> Result<()> {
    let mut answers = Answers::begin(model, args, 1)?;
    begin(model);
    (0..args.decode).try_for_each(|_| answers.step(model))?;
    answers.close(model);
    Ok(())
}

/// Different experts that a step goes to, in each layer that has some.
fn experts_used(model: &mut Model, args: &Bench, n_seqs: usize) -> Result<Vec<usize>> {
    let mut answers = Answers::begin(model, args, n_seqs)?;
    model.start_trace();
    answers.step(model)?;
    answers.close(model);
    let layers = model.take_trace().choices;
    let different = |layer: &Vec<kernels::Choice>| {
        layer.iter().map(|choice| choice.expert).collect::<BTreeSet<_>>().len()
    };
    Ok(layers.iter().map(different).collect())
}

/// Random, but the same everywhere: speed depends on the tokens only through what a model routes them to.
fn tokens(n: usize, salt: usize, n_vocab: usize) -> Vec<TokenId> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729 + 17) % n_vocab) as TokenId).collect()
}

/// Seconds of a prompt, and the logits behind it.
pub(super) fn prefill_once(model: &mut Model, n: usize) -> Result<(f64, Vec<f32>)> {
    let Limits { n_vocab, step_tokens, .. } = model.limits();
    let tokens = tokens(n, 0, n_vocab);
    let mut logits = Vec::new();
    let start = Instant::now();
    let seq =
        load::prefill(model, &tokens, n, step_tokens, LogitsOf::Last, |_, rows| logits = rows.to_vec())?;
    let seconds = start.elapsed().as_secs_f64();
    model.close(seq);
    expect_finite(&logits)?;
    Ok((seconds, logits))
}

fn expect_finite(logits: &[f32]) -> Result<()> {
    if logits.is_empty() || logits.iter().any(|logit| !logit.is_finite()) {
        bail!("the logits are not finite: the speed of a wrong answer is worth nothing");
    }
    Ok(())
}

/// Sequences that grow by a token each in every step.
struct Answers {
    seqs: Vec<SeqId>,
    next: Vec<Vec<TokenId>>,
    logits: Vec<f32>,
}

impl Answers {
    /// Reads a prompt for each.
    fn begin(model: &mut Model, args: &Bench, n_seqs: usize) -> Result<Self> {
        let Limits { n_vocab, step_tokens, .. } = model.limits();
        let (mut seqs, mut next) = (Vec::new(), Vec::new());
        for salt in 0..n_seqs {
            let prompt = tokens(args.depth, salt, n_vocab);
            let room = args.depth + args.decode;
            seqs.push(load::prefill(model, &prompt, room, step_tokens, LogitsOf::Last, |_, _| {})?);
            next.push(tokens(1, salt + 1, n_vocab));
        }
        Ok(Self { seqs, next, logits: Vec::new() })
    }

    /// The model's speed is measured, not the sampler's: what comes next does not depend on the logits.
    fn step(&mut self, model: &mut Model) -> Result<()> {
        let chunks: Vec<Chunk<'_>> = self
            .seqs
            .iter()
            .zip(&self.next)
            .map(|(&seq, tokens)| Chunk { seq, tokens, logits: LogitsOf::Last })
            .collect();
        load::step(model, &chunks, &mut self.logits)?;
        let n_vocab = model.limits().n_vocab as TokenId;
        self.next.iter_mut().for_each(|token| token[0] = (token[0] * 31 + 7) % n_vocab);
        Ok(())
    }

    fn close(self, model: &mut Model) {
        self.seqs.into_iter().for_each(|seq| model.close(seq));
    }
}
