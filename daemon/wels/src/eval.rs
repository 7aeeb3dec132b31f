//! `wels eval`: logits, likeliest tokens, greedy continuations and what happens inside the layers, to compare with other
//! people's computations.

mod compare;

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use model::{Chunk, Forward, LogitsOf, Model, Options, SeqId, TokenId, Trace};
use serde_json::json;
use weights::safetensors::{View, Writer};

use crate::cli::Eval;
use crate::{card, load};

/// Tokens a step carries when every row of logits is kept: bounds the memory the rows take.
const STEP_TOKENS: usize = 64;

/// A tensor of results.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    I32(Vec<i32>),
}

/// What is to be done with every sequence.
#[derive(Clone, Copy)]
struct Wanted {
    n_greedy: usize,
    trace: bool,
}

pub(crate) fn run(args: &Eval) -> Result<ExitCode> {
    let reference = args.expect.as_ref().map(fs::read).transpose().context("cannot read the reference")?;
    let reference = reference.as_deref().map(View::parse).transpose().context("the reference is damaged")?;
    let sequences = sequences(args, reference.as_ref())?;
    let n_greedy = args.greedy.max(reference.as_ref().map_or(0, compare::n_greedy));
    let longest = sequences.values().map(Vec::len).max().unwrap_or(0) + n_greedy;
    let weights = load::weights_within(&args.run.model, &args.run.compute)?;
    let context = weights.hyper().context;
    if longest > context {
        bail!("the longest sequence takes {longest} tokens, the model holds {context}");
    }
    let precision = args.precision.into();
    let options = Options { precision, kv_tokens: longest, context, draft: args.trace, ..Options::default() };
    let mut model = load::model(&weights, &args.run.compute, options)?;
    card::required(&mut model, &args.run.compute)?;
    let wanted = Wanted { n_greedy, trace: args.trace };
    let (mut out, mut agrees) = (Writer::new(), true);
    for (name, tokens) in &sequences {
        let results =
            evaluate(&mut model, name, tokens, wanted).with_context(|| format!("sequence {name:?}"))?;
        report(name, tokens.len(), &results, args.json);
        if let Some(reference) = &reference {
            agrees &= compare::report(&results, reference, args.tolerance, args.json)?;
        }
        out = results.iter().fold(out, |out, tensor| tensor.write(out));
    }
    if let Some(path) = &args.out {
        out.write(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The sequences of `--tokens`, or the reference's own.
fn sequences(args: &Eval, reference: Option<&View<'_>>) -> Result<BTreeMap<String, Vec<TokenId>>> {
    let Some(path) = &args.tokens else {
        let sequences = reference.map(compare::sequences).unwrap_or_default();
        if sequences.is_empty() {
            bail!("the reference holds no NAME.input_ids; give the sequences with --tokens");
        }
        return Ok(sequences);
    };
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{}: want {{\"name\": [token ids], ...}}", path.display()))
}

fn evaluate(model: &mut Model, name: &str, tokens: &[TokenId], wanted: Wanted) -> Result<Vec<Tensor>> {
    if tokens.is_empty() {
        bail!("a sequence needs at least one token");
    }
    let n_vocab = model.limits().n_vocab;
    let (mut argmax, mut next_token_logprob, mut logits_last) = (Vec::new(), Vec::new(), Vec::new());
    let room = tokens.len() + wanted.n_greedy;
    if wanted.trace {
        model.start_trace();
    }
    let seq = load::prefill(model, tokens, room, STEP_TOKENS, LogitsOf::All, |first, rows| {
        for (row, position) in rows.chunks_exact(n_vocab).zip(first..) {
            argmax.push(largest(row));
            next_token_logprob.extend(tokens.get(position + 1).map(|&next| {
                let mut log_probabilities = row.to_vec();
                tensor::reference::log_softmax(&mut log_probabilities);
                log_probabilities[next as usize]
            }));
        }
        logits_last = rows[rows.len() - n_vocab..].to_vec();
    })?;
    let trace = model.take_trace();
    let draft = if wanted.trace { model.draft_logits(seq, largest(&logits_last)) } else { Vec::new() };
    let greedy_ids = continue_greedily(model, seq, &logits_last, wanted.n_greedy)?;
    model.close(seq);
    let mut results = vec![
        Tensor::f32(name, "logits_last", &[n_vocab], logits_last),
        Tensor::ids(name, "argmax", &[tokens.len()], &argmax),
        Tensor::f32(name, "next_token_logprob", &[tokens.len() - 1], next_token_logprob),
    ];
    if wanted.n_greedy > 0 {
        results.push(Tensor::ids(name, "greedy_ids", &[wanted.n_greedy], &greedy_ids));
    }
    results.extend(traced(name, tokens.len(), &trace));
    if !draft.is_empty() {
        results.push(Tensor::f32(
            name,
            "mtp_logits_last",
            &[n_vocab],
            draft[draft.len() - n_vocab..].to_vec(),
        ));
    }
    Ok(results)
}

/// hidden_layerI [n_tokens, d_model], router_ids and router_weights [layers with a router, n_tokens, top_k].
fn traced(name: &str, n_tokens: usize, trace: &Trace) -> Vec<Tensor> {
    let hidden = trace.hidden.iter().enumerate().map(|(layer, hidden)| {
        let shape = [n_tokens, hidden.len() / n_tokens];
        Tensor::f32(name, &format!("hidden_layer{layer}"), &shape, hidden.clone())
    });
    let mut results: Vec<Tensor> = hidden.collect();
    if !trace.choices.is_empty() {
        let choices = trace.choices.concat();
        let shape = [trace.choices.len(), n_tokens, choices.len() / (trace.choices.len() * n_tokens)];
        let (ids, weights): (Vec<u32>, Vec<f32>) = choices.iter().map(|c| (c.expert, c.weight)).unzip();
        results.push(Tensor::ids(name, "router_ids", &shape, &ids));
        results.push(Tensor::f32(name, "router_weights", &shape, weights));
    }
    results
}

fn continue_greedily(model: &mut Model, seq: SeqId, logits: &[f32], n: usize) -> Result<Vec<TokenId>> {
    let mut ids = Vec::with_capacity(n);
    let mut logits = logits.to_vec();
    while ids.len() < n {
        let id = largest(&logits);
        ids.push(id);
        load::step(model, &[Chunk { seq, tokens: &[id], logits: LogitsOf::Last }], &mut logits)?;
    }
    Ok(ids)
}

fn largest(logits: &[f32]) -> TokenId {
    tensor::reference::argmax(logits) as TokenId
}

impl Tensor {
    fn f32(sequence: &str, name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        Self { name: format!("{sequence}.{name}"), shape: shape.to_vec(), values: Values::F32(values) }
    }

    fn ids(sequence: &str, name: &str, shape: &[usize], ids: &[u32]) -> Self {
        let values = Values::I32(ids.iter().map(|&id| id as i32).collect());
        Self { name: format!("{sequence}.{name}"), shape: shape.to_vec(), values }
    }

    fn write(&self, out: Writer) -> Writer {
        match &self.values {
            Values::F32(values) => out.f32(&self.name, &self.shape, values),
            Values::I32(values) => out.i32(&self.name, &self.shape, values),
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn report(name: &str, n_tokens: usize, results: &[Tensor], json: bool) {
    let logprobs = results.iter().find(|tensor| tensor.name.ends_with(".next_token_logprob"));
    let Some(Values::F32(logprobs)) = logprobs.map(|tensor| &tensor.values) else { return };
    let mean = logprobs.iter().map(|&p| f64::from(p)).sum::<f64>() / logprobs.len().max(1) as f64;
    let perplexity = (-mean).exp();
    if json {
        println!("{}", json!({ "name": name, "tokens": n_tokens, "perplexity": perplexity }));
    } else {
        println!("{name}: {n_tokens} tokens, perplexity {perplexity:.4}");
    }
}
