//! `wels bench`: prefill and decode speed of the model alone, without the service around it.

mod guesses;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use model::{Chunk, Forward, Limits, LogitsOf, Model, Options, SeqId, TokenId};
use serde_json::{Value, json};

use self::guesses::Questions;
use crate::cli::Bench;
use crate::{load, machine};

pub(crate) fn run(args: &Bench) -> Result<ExitCode> {
    if args.sequences == 0 || args.repeat == 0 || args.prefill == 0 || args.decode == 0 || args.depth == 0 {
        bail!("--prefill, --decode, --depth, --sequences and --repeat start at 1");
    }
    let start = Instant::now();
    let weights = load::weights(&args.run.model)?;
    let questions = match args.speculate {
        Some(guesses) => Some(Questions::new(&weights, guesses.speculation(args.draft_tokens)?)?),
        None => None,
    };
    let depth_max = args.depth.max(questions.as_ref().map_or(0, Questions::n_prompt_max));
    let room = args.prefill.max(depth_max + args.decode) + 1;
    let kv_tokens = (room + kernels::BLOCK_TOKENS) * args.sequences;
    let draft = questions.as_ref().is_some_and(|questions| questions.want_draft_layer(&weights));
    let options =
        Options { precision: args.precision.into(), kv_tokens, context: room, draft, ..Options::default() };
    let mut model = load::model(&weights, &args.run.compute, options)?;
    if model.limits().context < room {
        bail!("--prefill or --depth + --decode exceed the model's context of {}", model.limits().context);
    }
    let load_s = start.elapsed().as_secs_f64();
    // The first pass touches every page of the weights; it is not counted.
    prefill_once(&mut model, 32.min(args.prefill))?;
    let prefill = repeated(args.repeat, || prefill_once(&mut model, args.prefill))?;
    let decode = repeated(args.repeat, || decode_once(&mut model, args))?;
    let prefill_tok_s = args.prefill as f64 / prefill;
    let decode_tok_s = (args.decode * args.sequences) as f64 / decode;
    let guessed = match questions {
        Some(questions) => questions.run(&mut model, args)?,
        None => Vec::new(),
    };
    report(args, &model, &weights, [load_s, prefill_tok_s, decode_tok_s], &guessed);
    Ok(ExitCode::SUCCESS)
}

/// The median of measurements.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of `n` runs, in seconds.
fn repeated(n: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let seconds = (0..n).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    Ok(median(seconds.into_iter()))
}

/// Random, but the same everywhere: speed depends on the tokens only through what a model routes them to.
fn tokens(n: usize, salt: usize, n_vocab: usize) -> Vec<TokenId> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729 + 17) % n_vocab) as TokenId).collect()
}

fn prefill_once(model: &mut Model, n: usize) -> Result<f64> {
    let Limits { n_vocab, step_tokens, .. } = model.limits();
    let tokens = tokens(n, 0, n_vocab);
    let start = Instant::now();
    let seq = load::prefill(model, &tokens, n, step_tokens, LogitsOf::Last, |_, _| {})?;
    let seconds = start.elapsed().as_secs_f64();
    model.close(seq);
    Ok(seconds)
}

fn decode_once(model: &mut Model, args: &Bench) -> Result<f64> {
    let Limits { n_vocab, step_tokens, .. } = model.limits();
    let mut last = Vec::new();
    let mut seqs: Vec<SeqId> = Vec::new();
    for salt in 0..args.sequences {
        let prompt = tokens(args.depth, salt, n_vocab);
        let room = args.depth + args.decode;
        seqs.push(load::prefill(model, &prompt, room, step_tokens, LogitsOf::Last, |_, _| {})?);
        last.push(tokens(1, salt + 1, n_vocab));
    }
    let mut logits = Vec::new();
    let start = Instant::now();
    for _ in 0..args.decode {
        let chunks: Vec<Chunk<'_>> = seqs
            .iter()
            .zip(&last)
            .map(|(&seq, tokens)| Chunk { seq, tokens, logits: LogitsOf::Last })
            .collect();
        model.step(&chunks, &mut logits)?;
        // The model's speed is measured, not the sampler's: what comes next does not depend on the logits.
        last.iter_mut().for_each(|token| token[0] = (token[0] * 31 + 7) % n_vocab as TokenId);
    }
    let seconds = start.elapsed().as_secs_f64();
    if logits.iter().any(|logit| !logit.is_finite()) {
        bail!("the logits are not finite: the speed of a wrong answer is worth nothing");
    }
    seqs.into_iter().for_each(|seq| model.close(seq));
    Ok(seconds)
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn report(
    args: &Bench,
    model: &Model,
    weights: &weights::Weights,
    numbers: [f64; 3],
    guessed: &[(String, Value)],
) {
    let [load_s, prefill_tok_s, decode_tok_s] = numbers;
    let name = load::display_name(weights, &args.run.model);
    let cpu = model.cpu();
    println!("model      {name}, {}", crate::size::format(weights.bytes()));
    println!("processor  {}, {} threads, {}", machine::cpu_name(), cpu.n_threads(), cpu.level());
    println!("load       {load_s:.3} s");
    println!("prefill    {prefill_tok_s:.1} tok/s ({} tokens)", args.prefill);
    let together = if args.sequences == 1 { String::new() } else { format!(", {} together", args.sequences) };
    println!("decode     {decode_tok_s:.1} tok/s ({} tokens after {}{together})", args.decode, args.depth);
    guessed.iter().for_each(|(words, _)| println!("{words}"));
    if args.json {
        let guesses: Vec<&Value> = guessed.iter().map(|(_, numbers)| numbers).collect();
        let line = json!({
            "model": name, "model_bytes": weights.bytes(), "device": "cpu", "level": cpu.level().to_string(),
            "threads": cpu.n_threads(), "precision": format!("{:?}", args.precision).to_lowercase(),
            "prefill_tokens": args.prefill, "prefill_tok_s": prefill_tok_s, "decode_tokens": args.decode,
            "decode_depth": args.depth, "decode_tok_s": decode_tok_s, "sequences": args.sequences,
            "guesses": guesses, "repeat": args.repeat, "load_s": load_s, "kv_bytes_per_token": model.kv().bytes_per_token(),
        });
        println!("{line}");
    }
}
