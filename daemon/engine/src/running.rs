//! A sequence in the batch: what it has been fed, what it says, how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{Chunk, Forward, LogitsOf, SeqId, TokenId};
use tokio::sync::mpsc;
use tracing::info;

use crate::counters::Counters;
use crate::request::{Event, FinishReason, Request, Timings};
use crate::sampler::{Sampler, logprobs};
use crate::speculate::{self, Drafter, Turn};

/// A sequence in the batch.
pub(crate) struct Running {
    pub(crate) seq: SeqId,
    pub(crate) request: Request,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) sampler: Sampler,
    pub(crate) drafter: Drafter,
    /// The prompt and what has been generated.
    pub(crate) tokens: Vec<TokenId>,
    /// Of `tokens`, those whose keys and values are in the cache; the rest is to be fed.
    pub(crate) n_fed: usize,
    pub(crate) n_prompt: usize,
    /// Of the prompt, what the prefix cache had.
    pub(crate) n_cached: usize,
    pub(crate) max_tokens: usize,
    pub(crate) submitted: Instant,
    pub(crate) admitted: Instant,
    pub(crate) first_token: Option<Instant>,
    /// What a lossy mode has left out so far.
    pub(crate) lost: Option<f32>,
    /// The card was lost meanwhile.
    pub(crate) card_lost: bool,
    pub(crate) ended: bool,
    /// Ended because a step failed: what the cache holds of it means nothing.
    pub(crate) broken: bool,
}

impl Running {
    /// Whether the prompt is in and one token follows another.
    pub(crate) fn decodes(&self) -> bool {
        self.n_fed >= self.n_prompt
    }

    /// What to feed: the last token and guesses, or the next `n` tokens of the prompt.
    pub(crate) fn chunk(&self, n: usize) -> Option<Chunk<'_>> {
        if self.decodes() {
            let is_greedy = self.request.logprobs.is_none() && self.request.sampling.takes_the_best();
            let logits = if is_greedy { LogitsOf::Best } else { LogitsOf::All };
            return Some(Chunk { seq: self.seq, tokens: self.drafter.chunk(), logits });
        }
        let end = self.n_fed + n;
        let logits = if end == self.n_prompt { LogitsOf::Last } else { LogitsOf::None };
        (n > 0).then(|| Chunk { seq: self.seq, tokens: &self.tokens[self.n_fed..end], logits })
    }

    /// The sequence's part in drafting: no guess goes beyond the last token's place, which is reserved and never fed.
    pub(crate) fn turn(&mut self) -> Turn<'_> {
        let n_max = self.max_tokens - self.n_generated() - 1;
        let Self { seq, tokens, request, drafter, .. } = self;
        Turn { seq: *seq, tokens, stop_ids: &request.stop_ids, n_max, drafter }
    }

    /// `n` tokens of the prompt have been fed; after the last, its logits give the first token. Tokens sampled.
    pub(crate) fn prefilled<'a>(
        &mut self,
        n: usize,
        mut rows: impl Iterator<Item = &'a mut [f32]>,
        counters: &Counters,
    ) -> usize {
        if n == 0 {
            return 0;
        }
        self.n_fed += n;
        counters.prompt_tokens.fetch_add(n as u64, Ordering::Relaxed);
        self.send(Event::Prefill { done: self.n_fed, total: self.n_prompt });
        if self.n_fed < self.n_prompt {
            return 0;
        }
        self.advance(rows.next().expect("a row of logits after the prompt's last token"), counters);
        1
    }

    /// The last token and the guesses have been fed: takes the rows that follow right guesses, forgets the others.
    /// Tokens sampled.
    pub(crate) fn decoded<'a>(
        &mut self,
        model: &mut dyn Forward,
        rows: impl Iterator<Item = &'a mut [f32]>,
        counters: &Counters,
    ) -> usize {
        let chunk = self.drafter.take_chunk();
        let rows: Vec<_> = rows.take(chunk.len()).collect();
        let accepted = speculate::verify(&chunk, rows, |row| self.advance(row, counters));
        self.n_fed += 1 + accepted;
        if 1 + accepted < chunk.len() {
            model.truncate(self.seq, self.n_fed);
        }
        counters.count_drafts(self.drafter.judge(chunk, accepted));
        1 + accepted
    }

    /// A step could not carry the sequence on, though its chunk, with `n` tokens of the prompt, was in it: it ends here.
    pub(crate) fn fail<'a>(
        &mut self,
        n: usize,
        rows: impl Iterator<Item = &'a mut [f32]>,
        message: String,
        counters: &Counters,
    ) {
        let n_rows = match self.decodes() {
            true => self.drafter.take_chunk().len(),
            false => usize::from(n > 0 && self.n_fed + n == self.n_prompt),
        };
        rows.take(n_rows).for_each(drop);
        (self.ended, self.broken) = (true, true);
        self.send(Event::Failed { message });
        counters.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn n_generated(&self) -> usize {
        self.tokens.len() - self.n_prompt
    }

    /// Samples the next token from its logits, sends it, and ends the sequence where it must; else returns the token.
    fn advance(&mut self, logits: &mut [f32], counters: &Counters) -> Option<TokenId> {
        let raw = self.request.logprobs.map(|_| logits.to_vec());
        let id = self.sampler.sample(logits);
        if self.first_token.is_none() {
            self.first_token = Some(Instant::now());
            let ttft_ms = self.submitted.elapsed().as_millis() as u64;
            info!(seq = %self.seq, n_prompt = self.n_prompt, n_cached = self.n_cached, ttft_ms, "prefill done");
        }
        if self.request.stop_ids.contains(&id) {
            self.finish(FinishReason::Stop, counters);
            return None;
        }
        let logprobs = raw.zip(self.request.logprobs).map(|(raw, n_top)| logprobs(&raw, id, n_top));
        self.tokens.push(id);
        counters.generated_tokens.fetch_add(1, Ordering::Relaxed);
        self.send(Event::Token { id, logprobs });
        if self.n_generated() == self.max_tokens {
            self.finish(FinishReason::Length, counters);
            return None;
        }
        Some(id)
    }

    fn finish(&mut self, reason: FinishReason, counters: &Counters) {
        self.ended = true;
        counters.finished.fetch_add(1, Ordering::Relaxed);
        let first = self.first_token.unwrap_or(self.admitted);
        let timings = Timings {
            n_prompt: self.n_prompt,
            n_cached: self.n_cached,
            n_generated: self.n_generated(),
            queued: self.admitted - self.submitted,
            prefill: first - self.admitted,
            decode: first.elapsed(),
            lost: self.lost,
            card_lost: self.card_lost,
        };
        let decode_ms = ms(timings.decode);
        info!(seq = %self.seq, n_generated = self.n_generated(), decode_ms, ?reason, "finished");
        self.send(Event::Finished { reason, timings });
    }

    /// The channel holds every event a request can cause, so this fails only when the reader has left.
    pub(crate) fn send(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.cancelled.store(true, Ordering::Release);
        }
    }
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
