//! The engine thread: continuous batching.
//!
//! Each turn of the loop takes in new requests, drops those whose client left, admits waiting ones while memory lasts,
//! and runs one step: a token and guesses for every decoding sequence and, beside them, a chunk of the prompts still to
//! be read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use model::{Chunk, Failure, Forward, SeqId};
use tracing::{error, info};

use crate::counters::Counters;
use crate::fair::Shares;
use crate::handle::{Options, Submission};
use crate::prefix::PrefixCache;
use crate::request::Event;
use crate::running::Running;
use crate::sampler::Sampler;
use crate::speculate::{self, Drafter, Turn};

/// A request that waits for memory or for a place in the batch.
struct Waiting {
    submission: Submission,
    told_ahead: Option<usize>,
}

pub(crate) struct Scheduler {
    model: Box<dyn Forward>,
    options: Options,
    counters: Arc<Counters>,
    waiting: Vec<Waiting>,
    running: Vec<Running>,
    shares: Shares,
    prefixes: PrefixCache,
    logits: Vec<f32>,
}

impl Scheduler {
    pub(crate) fn new(model: Box<dyn Forward>, options: Options, counters: Arc<Counters>) -> Self {
        let (waiting, running, logits) = (Vec::new(), Vec::new(), Vec::new());
        let (shares, prefixes) = (Shares::default(), PrefixCache::default());
        Self { model, options, counters, waiting, running, shares, prefixes, logits }
    }

    /// Runs until every handle is gone, or the model breaks.
    pub(crate) fn run(mut self, inbox: &Receiver<Submission>) {
        while self.take_in(inbox) {
            self.drop_cancelled();
            self.admit();
            self.tell_waiting();
            self.publish();
            if self.running.is_empty() {
                continue;
            }
            let step = catch_unwind(AssertUnwindSafe(|| self.step()));
            let failure = match step {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic_message(panic.as_ref()),
            };
            error!(error = %failure, n_running = self.running.len(), "step failed");
            self.fail_all(&failure);
        }
        self.counters.stopped.store(true, Ordering::Release);
    }

    /// Takes new submissions; blocks only when there is nothing to do. False when the engine is to stop.
    fn take_in(&mut self, inbox: &Receiver<Submission>) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            self.model.rest();
            match inbox.recv() {
                Ok(submission) => self.enqueue(submission),
                Err(_) => return false,
            }
        }
        loop {
            match inbox.try_recv() {
                Ok(submission) => self.enqueue(submission),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => {
                    return !(self.running.is_empty() && self.waiting.is_empty());
                }
            }
        }
    }

    fn enqueue(&mut self, submission: Submission) {
        let running = self.running.iter().map(|r| r.request.owner);
        let active = running.chain(self.waiting.iter().map(|w| w.submission.request.owner));
        self.shares.arrive(submission.request.owner, active);
        self.waiting.push(Waiting { submission, told_ahead: None });
    }

    fn drop_cancelled(&mut self) {
        let before = self.waiting.len();
        self.waiting.retain(|w| !w.submission.cancelled.load(Ordering::Acquire));
        let left_queue = before - self.waiting.len();
        self.counters.waiting.fetch_sub(left_queue, Ordering::AcqRel);
        let mut left_batch = 0;
        for running in &mut self.running {
            if !running.ended && running.cancelled.load(Ordering::Acquire) {
                running.ended = true;
                left_batch += 1;
                info!(seq = %running.seq, n_generated = running.n_generated(), "cancelled");
            }
        }
        self.counters.cancelled.fetch_add((left_queue + left_batch) as u64, Ordering::Relaxed);
        self.reap();
    }

    /// Takes the sequences that have ended out of the batch and keeps them for their owners.
    fn reap(&mut self) {
        for ended in self.running.extract_if(.., |running| running.ended) {
            if ended.broken {
                self.model.close(ended.seq);
                continue;
            }
            let mut tokens = ended.tokens;
            tokens.truncate(ended.n_fed);
            self.prefixes.put(self.model.as_mut(), ended.request.owner, ended.seq, tokens);
        }
    }

    /// Moves waiting requests into the batch, lightest owner first, while memory lasts.
    fn admit(&mut self) {
        while self.running.len() < self.options.sequences_max {
            let Some(next) = self.next_waiting() else { return };
            let request = &self.waiting[next].submission.request;
            let (owner, n_prompt) = (request.owner, request.prompt.len());
            let max_tokens = request.max_tokens.clamp(1, self.model.limits().context - n_prompt);
            let Some((seq, n_cached)) = self.seat(next, n_prompt + max_tokens) else { return };
            let Submission { mut request, events, cancelled, at } = self.waiting.remove(next).submission;
            self.counters.waiting.fetch_sub(1, Ordering::AcqRel);
            self.shares.charge_prompt(owner, n_prompt - n_cached);
            let tokens = std::mem::take(&mut request.prompt);
            self.running.push(Running {
                seq,
                drafter: Drafter::new(self.options.speculation, n_prompt + max_tokens, self.model.row_cost()),
                sampler: Sampler::new(request.sampling.clone(), &tokens),
                request,
                events,
                cancelled,
                tokens,
                n_fed: n_cached,
                n_prompt,
                n_cached,
                max_tokens,
                submitted: at,
                admitted: Instant::now(),
                first_token: None,
                lost: None,
                card_lost: false,
                ended: false,
                broken: false,
            });
        }
    }

    /// A sequence with room for `n_tokens` and as much of the waiting request's prompt as is still known; kept sequences
    /// give way to it. `None` where running ones need the memory.
    fn seat(&mut self, waiting: usize, n_tokens: usize) -> Option<(SeqId, usize)> {
        let Self { model, prefixes, waiting: queue, .. } = self;
        let request = &queue[waiting].submission.request;
        let kept = prefixes.take(model.as_mut(), request.owner, &request.prompt);
        loop {
            let seated = match kept {
                Some((seq, n_cached)) => model.resize(seq, n_tokens).then_some((seq, n_cached)),
                None => model.open(n_tokens).map(|seq| (seq, 0)),
            };
            if seated.is_some() {
                return seated;
            }
            if !prefixes.evict(model.as_mut()) {
                kept.into_iter().for_each(|(seq, _)| model.close(seq));
                return None;
            }
        }
    }

    /// The longest waiting request of the owner who got least.
    fn next_waiting(&self) -> Option<usize> {
        let owner = |idx: usize| self.waiting[idx].submission.request.owner;
        (0..self.waiting.len()).min_by_key(|&idx| (self.shares.of(owner(idx)), idx))
    }

    /// Tells those who wait how many are before them, when that has changed.
    fn tell_waiting(&mut self) {
        let mut order: Vec<usize> = (0..self.waiting.len()).collect();
        order.sort_by_key(|&idx| (self.shares.of(self.waiting[idx].submission.request.owner), idx));
        for (ahead, idx) in order.into_iter().enumerate() {
            let waiting = &mut self.waiting[idx];
            let ahead = ahead + self.running.len();
            if waiting.told_ahead.is_none_or(|told| ahead < told) {
                waiting.told_ahead = Some(ahead);
                // A full or closed channel loses news of the queue, nothing else.
                let _ = waiting.submission.events.try_send(Event::Queued { ahead });
            }
        }
    }

    fn publish(&self) {
        self.counters.running.store(self.running.len(), Ordering::Relaxed);
        let reserved = self.running.iter().map(|running| running.n_prompt + running.max_tokens).sum();
        self.counters.kv_tokens_used.store(reserved, Ordering::Relaxed);
        self.counters.set_streaming(self.model.streaming());
        self.counters.set_notice(self.model.notice());
    }

    fn card_is_lost(&self) -> bool {
        self.model.notice().is_some_and(|notice| notice.card_lost)
    }

    /// One forward pass and what follows from its logits.
    fn step(&mut self) -> Result<(), model::Error> {
        let start = Instant::now();
        let prompt_tokens = self.plan();
        self.draft(prompt_tokens.iter().sum())?;
        let chunks: Vec<Chunk<'_>> =
            self.running.iter().zip(&prompt_tokens).filter_map(|(running, &n)| running.chunk(n)).collect();
        let lost_before = self.card_is_lost();
        let failures = self.model.step(&chunks, &mut self.logits)?;
        let lost_now = self.card_is_lost() && !lost_before;
        let failure_of = |seq: SeqId| failures.iter().find(|failure| failure.seq == seq);
        let mut rows = self.logits.chunks_exact_mut(self.model.limits().n_vocab);
        for (running, n) in self.running.iter_mut().zip(prompt_tokens) {
            if let Some(Failure { seq, error }) = failure_of(running.seq) {
                error!(%seq, %error, "a sequence cannot go on");
                running.fail(n, rows.by_ref(), error.to_string(), &self.counters);
                continue;
            }
            running.lost = self.model.lost(running.seq);
            running.card_lost |= lost_now;
            let n_sampled = if running.decodes() {
                running.decoded(self.model.as_mut(), rows.by_ref(), &self.counters)
            } else {
                running.prefilled(n, rows.by_ref(), &self.counters)
            };
            self.shares.charge_decode(running.request.owner, n_sampled);
        }
        self.counters.steps.fetch_add(1, Ordering::Relaxed);
        self.counters.step_us.fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.reap();
        self.publish();
        Ok(())
    }

    /// Prompt tokens each running sequence gets in the next step, in order, while there is room beside the decoding ones.
    fn plan(&self) -> Vec<usize> {
        let n_decoding = self.running.iter().filter(|running| running.decodes()).count();
        let limit = self.model.limits().step_tokens;
        let beside = self.options.prefill_tokens_beside_decode;
        let mut budget = if n_decoding == 0 { limit } else { beside.min(limit - n_decoding.min(limit)) };
        let share = |running: &Running| {
            let n = budget.min(running.n_prompt.saturating_sub(running.n_fed));
            budget -= n;
            n
        };
        self.running.iter().map(share).collect()
    }

    /// Prepares the chunks of the decoding sequences, in what `prompt_tokens` leave of the step.
    fn draft(&mut self, prompt_tokens: usize) -> Result<(), model::Error> {
        let left = self.model.limits().step_tokens - prompt_tokens;
        let decoding = self.running.iter_mut().filter(|running| running.decodes());
        let mut turns: Vec<Turn<'_>> = decoding.map(Running::turn).collect();
        speculate::draft(self.model.as_mut(), &mut turns, left)
    }

    fn fail_all(&mut self, message: &str) {
        for running in &self.running {
            running.send(Event::Failed { message: message.to_owned() });
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
        // What a broken step left in the cache is not to be trusted.
        self.running.drain(..).for_each(|running| self.model.close(running.seq));
        self.publish();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error: {}", text.unwrap_or("panic"))
}
