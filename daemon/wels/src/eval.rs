//! `wels eval`: logits, likeliest tokens and greedy continuations, to compare with other people's computations.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use model::{Chunk, Forward, LogitsOf, Model, Options, SeqId, TokenId};
use serde_json::json;
use weights::safetensors::Writer;

use crate::cli::Eval;
use crate::load;

/// Tokens a step carries when every row of logits is kept: bounds the memory the rows take.
const STEP_TOKENS: usize = 64;

/// What is known of one sequence.
struct Evaluation {
    logits_last: Vec<f32>,
    argmax: Vec<TokenId>,
    next_token_logprob: Vec<f32>,
    greedy_ids: Vec<TokenId>,
}

pub(crate) fn run(args: &Eval) -> Result<ExitCode> {
    let text = fs::read(&args.tokens).with_context(|| format!("cannot read {}", args.tokens.display()))?;
    let sequences: BTreeMap<String, Vec<TokenId>> = serde_json::from_slice(&text)
        .with_context(|| format!("{}: want {{\"name\": [token ids], ...}}", args.tokens.display()))?;
    let longest = sequences.values().map(Vec::len).max().unwrap_or(0) + args.greedy;
    let weights = load::weights(&args.run.model)?;
    let context = weights.hyper().context;
    if longest > context {
        bail!("the longest sequence takes {longest} tokens, the model holds {context}");
    }
    let options =
        Options { precision: args.precision.into(), kv_tokens: longest, context, ..Options::default() };
    let mut model = load::model(&weights, &args.run.compute, options)?;
    let mut out = Writer::new();
    for (name, tokens) in &sequences {
        let result =
            evaluate(&mut model, tokens, args.greedy).with_context(|| format!("sequence {name:?}"))?;
        report(name, tokens.len(), &result, args.json);
        out = out.f32(&format!("{name}.logits_last"), &[result.logits_last.len()], &result.logits_last);
        out = out.i32(&format!("{name}.argmax"), &[tokens.len()], &signed(&result.argmax));
        let n = result.next_token_logprob.len();
        out = out.f32(&format!("{name}.next_token_logprob"), &[n], &result.next_token_logprob);
        if args.greedy > 0 {
            out = out.i32(&format!("{name}.greedy_ids"), &[args.greedy], &signed(&result.greedy_ids));
        }
    }
    out.write(&args.out).with_context(|| format!("cannot write {}", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn evaluate(model: &mut Model, tokens: &[TokenId], n_greedy: usize) -> Result<Evaluation> {
    if tokens.is_empty() {
        bail!("a sequence needs at least one token");
    }
    let n_vocab = model.limits().n_vocab;
    let mut argmax = Vec::new();
    let mut next_token_logprob = Vec::new();
    let mut logits_last = Vec::new();
    let room = tokens.len() + n_greedy;
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
    let greedy_ids = continue_greedily(model, seq, &logits_last, n_greedy)?;
    model.close(seq);
    Ok(Evaluation { logits_last, argmax, next_token_logprob, greedy_ids })
}

fn continue_greedily(model: &mut Model, seq: SeqId, logits: &[f32], n: usize) -> Result<Vec<TokenId>> {
    let mut ids = Vec::with_capacity(n);
    let mut logits = logits.to_vec();
    while ids.len() < n {
        let id = largest(&logits);
        ids.push(id);
        model.step(&[Chunk { seq, tokens: &[id], logits: LogitsOf::Last }], &mut logits)?;
    }
    Ok(ids)
}

fn largest(logits: &[f32]) -> TokenId {
    tensor::reference::argmax(logits) as TokenId
}

fn signed(ids: &[TokenId]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn report(name: &str, n_tokens: usize, result: &Evaluation, json: bool) {
    let n = result.next_token_logprob.len().max(1) as f64;
    let mean: f64 = result.next_token_logprob.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
    let perplexity = (-mean).exp();
    if json {
        println!("{}", json!({ "name": name, "tokens": n_tokens, "perplexity": perplexity }));
    } else {
        println!("{name}: {n_tokens} tokens, perplexity {perplexity:.4}");
    }
}
