//! `wels bench --speculate`: what guesses do for an answer, by the same drafting and verifying as in the engine.

use std::time::Instant;

use anyhow::Result;
use engine::speculate::{self, Drafter, Speculation, Turn};
use engine::{Sampler, Sampling};
use model::{Chunk, Forward, LogitsOf, Model, SeqId, TokenId};
use serde_json::{Value, json};
use text::Conversation;
use weights::Weights;

use super::median;
use crate::cli::Bench;
use crate::load;

/// One question whose answer is in it, and one whose answer is not.
const QUESTIONS: [(&str, &str); 2] = [
    ("copy", "Read back to me: LOT-2231, LOT-2232, LOT-2233, LOT-2234, LOT-2235, LOT-2236, LOT-2237."),
    ("new", "Who wrote Faust, and what is it about?"),
];

/// The questions as prompts.
pub(super) struct Questions {
    speculation: Speculation,
    /// Name and tokens.
    prompts: Vec<(&'static str, Vec<TokenId>)>,
    stop_ids: Vec<TokenId>,
}

impl Questions {
    pub(super) fn new(weights: &Weights, speculation: Speculation) -> Result<Self> {
        let codec = load::codec(weights)?;
        let mut prompts = Vec::new();
        for (name, question) in QUESTIONS {
            prompts.push((name, codec.prompt(&Conversation::question(question))?.ids));
        }
        let stop_ids = codec.tokenizer().eos_ids().iter().copied().collect();
        Ok(Self { speculation, prompts, stop_ids })
    }

    /// Whether the model's draft layer has a part in it.
    pub(super) fn want_draft_layer(&self, weights: &Weights) -> bool {
        load::wants_draft_layer(weights, self.speculation)
    }

    /// Tokens of the longest prompt.
    pub(super) fn n_prompt_max(&self) -> usize {
        self.prompts.iter().map(|(_, tokens)| tokens.len()).max().unwrap_or(0)
    }

    /// Answers each question without and with guesses in turn; both speeds, in words and as JSON.
    pub(super) fn run(&self, model: &mut Model, args: &Bench) -> Result<Vec<(String, Value)>> {
        let mut all = Vec::new();
        for (name, prompt) in &self.prompts {
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for _ in 0..args.repeat {
                without.push(self.answer(model, prompt, Speculation::Off, args)?);
                with.push(self.answer(model, prompt, self.speculation, args)?);
            }
            all.push(report(name, &without, &with));
        }
        Ok(all)
    }

    fn answer(
        &self,
        model: &mut Model,
        prompt: &[TokenId],
        speculation: Speculation,
        args: &Bench,
    ) -> Result<Answers> {
        let mut lanes = Vec::new();
        for _ in 0..args.sequences[0] {
            lanes.push(Lane::new(model, prompt, speculation, args.decode)?);
        }
        let mut logits = Vec::new();
        let start = Instant::now();
        while lanes.iter().any(|lane| !lane.ended) {
            self.step(model, &mut lanes, &mut logits)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        lanes.iter().for_each(|lane| model.close(lane.seq));
        Ok(Answers { seconds, lanes })
    }

    /// A token and what guesses were right, for every answer that goes on.
    fn step(&self, model: &mut Model, lanes: &mut [Lane], logits: &mut Vec<f32>) -> Result<()> {
        let mut turns: Vec<Turn<'_>> =
            lanes.iter_mut().filter(|lane| !lane.ended).map(|lane| lane.turn(&self.stop_ids)).collect();
        let limits = model.limits();
        speculate::draft(model, &mut turns, limits.step_tokens)?;
        let going = lanes.iter().filter(|lane| !lane.ended);
        let chunks: Vec<Chunk<'_>> = going
            .map(|lane| Chunk { seq: lane.seq, tokens: lane.drafter.chunk(), logits: LogitsOf::All })
            .collect();
        load::step(model, &chunks, logits)?;
        let mut rows = logits.chunks_exact_mut(limits.n_vocab);
        for lane in lanes.iter_mut().filter(|lane| !lane.ended) {
            let chunk = lane.drafter.take_chunk();
            let rows: Vec<_> = rows.by_ref().take(chunk.len()).collect();
            let accepted = speculate::verify(&chunk, rows, |row| lane.advance(row, &self.stop_ids));
            model.truncate(lane.seq, model.len(lane.seq) - chunk.len() + 1 + accepted);
            let verdict = lane.drafter.judge(chunk, accepted);
            lane.drafted += verdict.drafted;
            lane.accepted += verdict.accepted;
        }
        Ok(())
    }
}

/// An answer in the making.
struct Lane {
    seq: SeqId,
    sampler: Sampler,
    drafter: Drafter,
    n_prompt: usize,
    tokens: Vec<TokenId>,
    n_tokens_max: usize,
    drafted: usize,
    accepted: usize,
    ended: bool,
}

impl Lane {
    /// Reads the prompt and chooses the first token.
    fn new(model: &mut Model, prompt: &[TokenId], speculation: Speculation, n_max: usize) -> Result<Self> {
        let n_tokens_max = prompt.len() + n_max;
        let step_tokens = model.limits().step_tokens;
        let (mut sampler, mut tokens) = (Sampler::new(Sampling::greedy(), prompt), prompt.to_vec());
        let seq = load::prefill(model, prompt, n_tokens_max, step_tokens, LogitsOf::Last, |_, rows| {
            if !rows.is_empty() {
                tokens.push(sampler.sample(rows));
            }
        })?;
        let drafter = Drafter::new(speculation, n_tokens_max, model.row_cost());
        let ended = tokens.len() == n_tokens_max;
        let n_prompt = prompt.len();
        Ok(Self { seq, sampler, drafter, n_prompt, tokens, n_tokens_max, drafted: 0, accepted: 0, ended })
    }

    fn turn<'a>(&'a mut self, stop_ids: &'a [TokenId]) -> Turn<'a> {
        let n_max = self.n_tokens_max - self.tokens.len() - 1;
        Turn { seq: self.seq, tokens: &self.tokens, stop_ids, n_max, drafter: &mut self.drafter }
    }

    fn advance(&mut self, row: &mut [f32], stop_ids: &[TokenId]) -> Option<TokenId> {
        let id = self.sampler.sample(row);
        if stop_ids.contains(&id) {
            self.ended = true;
            return None;
        }
        self.tokens.push(id);
        self.ended = self.tokens.len() == self.n_tokens_max;
        (!self.ended).then_some(id)
    }
}

/// Finished answers, and the time from the first token to the last.
struct Answers {
    seconds: f64,
    lanes: Vec<Lane>,
}

impl Answers {
    /// Decoded tokens; the prompt's logits gave the first, before the clock ran.
    fn n_decoded(&self) -> usize {
        self.lanes.iter().map(|lane| lane.tokens.len() - lane.n_prompt - 1).sum()
    }

    fn tok_s(&self) -> f64 {
        self.n_decoded() as f64 / self.seconds
    }

    fn sum(&self, count: fn(&Lane) -> usize) -> usize {
        self.lanes.iter().map(count).sum()
    }
}

/// One question's numbers.
fn report(name: &str, without: &[Answers], with: &[Answers]) -> (String, Value) {
    let tok_s = |answers: &[Answers]| median(answers.iter().map(Answers::tok_s));
    let (off, on, first) = (tok_s(without), tok_s(with), &with[0]);
    // Neighbours in time have the machine's moods in common.
    let speedup = median(without.iter().zip(with).map(|(without, with)| with.tok_s() / without.tok_s()));
    let (drafted, accepted) = (first.sum(|lane| lane.drafted), first.sum(|lane| lane.accepted));
    let n_decoded = first.n_decoded();
    let rate = accepted as f64 / drafted.max(1) as f64;
    let same = first.lanes.iter().zip(&without[0].lanes).all(|(a, b)| a.tokens == b.tokens);
    let words = format!(
        "guesses    {name}: {on:.1} tok/s, without {off:.1}, ratio {speedup:.2} \
         ({n_decoded} tokens, {drafted} guessed, {:.0} % right{})",
        100.0 * rate,
        if same { "" } else { "; the answers differ" }
    );
    let numbers = json!({
        "question": name, "tokens": n_decoded, "tok_s": on, "tok_s_off": off, "speedup": speedup, "drafted": drafted,
        "accepted": accepted, "acceptance_rate": rate, "same_answer": same,
    });
    (words, numbers)
}
