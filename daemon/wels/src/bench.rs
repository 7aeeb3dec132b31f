//! `wels bench`: prefill and decode speed of the model alone, without the service around it, and what share of this machine's
//! limits that is, beside what was predicted.

mod guesses;
mod limits;
mod mixture;
mod predicted;
mod products;
mod profile;
mod reading;
mod speed;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kernels::BLOCK_TOKENS;
use model::{Forward, Model, Options};
use serde_json::{Value, json};
use weights::Weights;

use self::guesses::Questions;
pub(crate) use self::limits::Limits;
pub(crate) use self::mixture::Mixture;
use self::predicted::Predicted;
use self::reading::Reading;
use self::speed::{Decoded, Prefilled, Streamed};
use crate::cli::Bench;
use crate::{card, load, machine};

pub(crate) fn run(args: &Bench) -> Result<ExitCode> {
    if args.repeat == 0 || args.prefill == 0 || args.decode == 0 || args.depth == 0 {
        bail!("--prefill, --decode, --depth and --repeat start at 1");
    }
    match &args.model {
        Some(path) if !args.kernels => of_model(args, path)?,
        _ => products::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn of_model(args: &Bench, path: &Path) -> Result<()> {
    let weights = load::weights_within(path, &args.compute)?;
    let questions = match args.speculate {
        Some(guesses) => Some(Questions::new(&weights, guesses.speculation(args.draft_tokens)?)?),
        None => None,
    };
    let limits = Limits::probe(&args.compute)?;
    let start = Instant::now();
    let mut model = open(args, &weights, questions.as_ref())?;
    if model.card().is_none() {
        // As the daemon does while it waits for the first request.
        let _ = (0..).all(|piece| weights.bring_in(piece));
    }
    let load_s = start.elapsed().as_secs_f64();
    let predicted = Predicted::of(args, &weights, &limits, model.card())?;
    let reading = Reading::of(&weights);
    let prefilled = speed::prefill(&mut model, args)?;
    let decode = args.sequences.iter().map(|n| speed::decode(&mut model, args, &reading, *n));
    let decode = decode.collect::<Result<Vec<_>>>()?;
    if let Some(path) = &args.logits {
        let bytes: Vec<u8> = prefilled.logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let guessed = match questions {
        Some(questions) => questions.run(&mut model, args)?,
        None => Vec::new(),
    };
    if args.profile {
        profile::run(&mut model, args)?;
    }
    let report = Report { args, weights: &weights, model: &model, limits, reading, predicted };
    report.print(&report.numbers(load_s, &prefilled, &decode), &guessed);
    Ok(())
}

/// The model with room for the prompt and for all sequences of the largest number.
fn open(args: &Bench, weights: &Arc<Weights>, questions: Option<&Questions>) -> Result<Model> {
    let depth_max = args.depth.max(questions.map_or(0, Questions::n_prompt_max));
    let decoded = depth_max + args.decode + 1;
    let context = decoded.max(args.prefill + 1);
    let n_seqs = args.sequences.iter().max().copied().unwrap_or(1);
    let options = Options {
        precision: args.precision.into(),
        kv_tokens: (n_seqs * (decoded + BLOCK_TOKENS)).max(context + BLOCK_TOKENS),
        context,
        draft: questions.is_some_and(|questions| questions.want_draft_layer(weights)),
        ..Options::default()
    };
    let mut model = load::model(weights, &args.compute, options)?;
    card::required(&mut model, &args.compute)?;
    if model.limits().context < context {
        bail!("--prefill or --depth + --decode exceed the model's context of {}", model.limits().context);
    }
    Ok(model)
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print_streamed(streamed: Option<&Streamed>) {
    if let Some(streamed) = streamed {
        println!("           {streamed}");
    }
}

/// The median of measurements.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What was measured, and on what.
struct Report<'a> {
    args: &'a Bench,
    weights: &'a Weights,
    model: &'a Model,
    limits: Limits,
    reading: Reading,
    predicted: Option<Predicted>,
}

/// The numbers, and what share of the limits they are.
struct Numbers<'a> {
    load_s: f64,
    prefilled: &'a Prefilled,
    prefill_peak_fraction: f64,
    /// With the share of the bandwidth.
    decode: Vec<(&'a Decoded, f64)>,
}

impl Report<'_> {
    fn numbers<'n>(&self, load_s: f64, prefilled: &'n Prefilled, decode: &'n [Decoded]) -> Numbers<'n> {
        let n = self.args.prefill;
        let prefill_s = n as f64 / prefilled.tok_s;
        let prefill_peak_fraction = self.reading.prefill_ops(n) / prefill_s / self.limits.int8_ops_s;
        let share = |decoded: &Decoded| decoded.bytes_s() / self.limits.read_bytes_s;
        let decode = decode.iter().map(|decoded| (decoded, share(decoded))).collect();
        Numbers { load_s, prefilled, prefill_peak_fraction, decode }
    }

    #[expect(clippy::print_stdout, reason = "a command's result")]
    fn print(&self, numbers: &Numbers<'_>, guessed: &[(String, Value)]) {
        let Self { args, weights, .. } = self;
        println!("model      {}, {}", self.name(), crate::size::format(weights.bytes()));
        println!("processor  {}, {}", machine::cpu_name(), self.limits);
        println!("load       {:.3} s", numbers.load_s);
        let share = 100.0 * numbers.prefill_peak_fraction;
        let (rate, n) = (numbers.prefilled.tok_s, args.prefill);
        let predicted = predicted::words(self.predicted.as_ref().map(Predicted::prefill_tok_s));
        println!("prefill    {rate:.1} tok/s ({n} tokens, {share:.1} % of the int8 peak{predicted})");
        print_streamed(numbers.prefilled.streamed.as_ref());
        for (Decoded { sequences, tok_s, streamed, .. }, share) in &numbers.decode {
            let together = if *sequences == 1 { String::new() } else { format!(", {sequences} together") };
            let predicted = self.predicted.as_ref().filter(|_| *sequences == 1).map(Predicted::decode_tok_s);
            println!(
                "decode     {tok_s:.1} tok/s ({} tokens after {}{together}, {:.0} % of the bandwidth{})",
                args.decode,
                args.depth,
                100.0 * share,
                predicted::words(predicted)
            );
            print_streamed(streamed.as_ref());
        }
        guessed.iter().for_each(|(words, _)| println!("{words}"));
        if args.json {
            println!("{}", self.json(numbers, guessed));
        }
    }

    fn name(&self) -> String {
        load::display_name(self.weights, self.weights.path())
    }

    /// The speed of decoding stands there twice: of all numbers of sequences, and of the first alone.
    fn json(&self, numbers: &Numbers<'_>, guessed: &[(String, Value)]) -> Value {
        let Self { args, weights, model, limits, reading, predicted } = self;
        let guesses: Vec<&Value> = guessed.iter().map(|(_, numbers)| numbers).collect();
        let (first, first_share) = numbers.decode[0];
        let decode: Vec<Value> = numbers.decode.iter().map(|(decoded, share)| decoded.json(*share)).collect();
        json!({
            "model": self.name(), "model_bytes": weights.bytes(), "device": "cpu", "level": limits.level.to_string(),
            "threads": limits.threads, "precision": format!("{:?}", args.precision).to_lowercase(),
            "read_bytes_s": limits.read_bytes_s, "int8_ops_s": limits.int8_ops_s,
            "prefill_tokens": args.prefill, "prefill_tok_s": numbers.prefilled.tok_s,
            "prefill_peak_fraction": numbers.prefill_peak_fraction,
            "decode_tokens": args.decode, "decode_depth": args.depth, "sequences": first.sequences,
            "decode_tok_s": first.tok_s, "decode_bandwidth_fraction": first_share, "decode": decode,
            "bytes_per_token": reading.token_bytes(), "guesses": guesses, "repeat": args.repeat,
            "load_s": numbers.load_s, "kv_bytes_per_token": model.kv().bytes_per_token(), "streaming": self.streaming(numbers),
            "predicted": predicted.as_ref().map(Predicted::json),
        })
    }

    /// What was streamed, of the prompt and of the first decoding; null where nothing is.
    fn streaming(&self, numbers: &Numbers<'_>) -> Value {
        let (Some(prefill), Some(stats)) = (&numbers.prefilled.streamed, self.model.streaming()) else {
            return Value::Null;
        };
        let decode = numbers.decode[0].0.streamed.as_ref().map(Streamed::json);
        json!({
            "ram": self.args.compute.ram, "policy": stats.policy.to_string(), "pinned_share": stats.pinned_share,
            "slot_bytes": stats.slot_bytes, "record_bytes": stats.record_bytes, "expert_bytes": self.weights.record_bytes(),
            "prefill": prefill.json(), "decode": decode,
        })
    }
}
