//! One answer: from messages to tokens, from tokens to words. Both surfaces use this and nothing beside it.
//!
//! ```text
//! Order -> template -> tokens -> engine -> Words (UTF-8 whole, thoughts apart, stop strings held back) -> Piece
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Event, FinishReason, Generation, Logprobs, Request, Sampling, SubmitError, Timings};
use serde_json::{Map, Value};
use text::{Conversation, Message, ThinkSplitter};

use crate::app::{App, Place};
use crate::problem::{Problem, Result};
use crate::slot::ServedModel;
use crate::words::{LastWords, Words};

pub(crate) use crate::words::{Scored, Word};

/// What to generate.
#[derive(Debug)]
pub(crate) struct Order {
    /// What was said so far.
    pub(crate) messages: Vec<Message>,
    /// Further variables for the chat template, such as `thinking`.
    pub(crate) template_kwargs: Map<String, Value>,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
    /// Tokens at most; `None` is what the context holds.
    pub(crate) max_tokens: Option<usize>,
    /// Texts that end the answer and are not part of it.
    pub(crate) stops: Vec<String>,
    /// Go on after the model's own end.
    pub(crate) ignore_eos: bool,
    /// Report log probabilities, with so many alternatives.
    pub(crate) logprobs: Option<usize>,
    /// The engine's number for whoever asks.
    pub(crate) owner: u64,
}

/// News of an answer, in order.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Waiting, so many ahead.
    Queued { ahead: usize },
    /// Prompt tokens read.
    Prefill { done: usize, total: usize },
    /// Words.
    Word(Word),
    /// The end.
    Ended(Ended),
    /// The end, unexpectedly.
    Failed(Problem),
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) reason: FinishReason,
    pub(crate) timings: Timings,
    /// Tokens of thought among those generated.
    pub(crate) n_reasoning: usize,
}

/// An answer on its way. Dropping it cancels it.
#[derive(Debug)]
pub(crate) struct Answering {
    app: App,
    /// `None` after the end.
    flow: Option<Flow>,
    ready: VecDeque<Piece>,
    clock: Clock,
    _place: Place,
}

/// Tokens in, words out.
#[derive(Debug)]
struct Flow {
    generation: Generation,
    words: Words,
}

/// Begins an answer, or says why not.
pub(crate) async fn begin(app: &App, model: Arc<ServedModel>, order: Order) -> Result<Answering> {
    let asked = Instant::now();
    let place = app.admit(order.owner)?;
    refuse_if_full(&model)?;
    let Order { messages, template_kwargs, sampling, max_tokens, stops, ignore_eos, logprobs, owner } = order;
    let conversation =
        Conversation { messages, add_generation_prompt: true, extra: template_kwargs, tools: Vec::new() };
    let codec_of = Arc::clone(&model);
    let prompt =
        app.prompt_work(move || codec_of.codec.prompt(&conversation)).await?.map_err(|e| text_problem(&e))?;
    let tokenizer = model.codec.tokenizer();
    let stop_ids = if ignore_eos { Vec::new() } else { tokenizer.eos_ids().iter().copied().collect() };
    let splitter = ThinkSplitter::new(prompt.opens_thought).expecting(prompt.expects_thought);
    let words = Words::new(model.codec.stream_decoder(), splitter, stops).map_err(|e| text_problem(&e))?;
    let n_prompt = prompt.ids.len();
    let max_tokens = max_tokens.unwrap_or(model.defaults.max_tokens);
    let request = Request { prompt: prompt.ids, max_tokens, stop_ids, sampling, logprobs, owner };
    let flow = Some(Flow { generation: model.engine.submit(request)?, words });
    let clock = Clock { asked, n_prompt, n_generated: 0, prefill: None, first: None, last: None };
    Ok(Answering { app: app.clone(), flow, ready: VecDeque::new(), clock, _place: place })
}

/// Before any work is spent on a prompt that would only be refused.
fn refuse_if_full(model: &ServedModel) -> Result<()> {
    let stats = model.engine.stats();
    let (waiting, limit) = (stats.waiting, stats.waiting_max);
    if waiting >= limit { Err(SubmitError::QueueFull { waiting, limit }.into()) } else { Ok(()) }
}

fn text_problem(error: &text::Error) -> Problem {
    let code = match error {
        text::Error::TextTooLong { .. } => "context_length_exceeded",
        text::Error::TemplateRefused { .. } => "template_refused",
        text::Error::Stop { .. } => "invalid_value",
        text::Error::NoSentinel => "invalid_value",
        text::Error::NoChatTemplate => return Problem::unavailable("no_chat_template", error.to_string()),
        _ => return Problem::internal(error),
    };
    Problem::invalid(code, error.to_string()).param("messages")
}

impl Answering {
    /// The next piece; `None` after the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            let event = self.flow.as_mut()?.generation.next().await;
            self.digest(event);
        }
    }

    /// What it cost so far, by this side's clock.
    pub(crate) fn timings(&self) -> Timings {
        self.clock.timings()
    }

    fn digest(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Queued { ahead }) => self.ready.push_back(Piece::Queued { ahead }),
            Some(Event::Prefill { done, total }) => {
                self.clock.prefill.get_or_insert_with(Instant::now);
                self.ready.push_back(Piece::Prefill { done, total });
            }
            Some(Event::Token { id, logprobs }) => self.take(id, logprobs),
            Some(Event::Finished { reason, timings }) => self.finish(reason, Some(timings)),
            Some(Event::Failed { message }) => {
                self.fail(Problem::new(
                    axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                    "engine_failed",
                    message,
                ));
            }
            None => self.fail(Problem::unavailable(
                "engine_stopped",
                "the engine stopped in the middle of an answer",
            )),
        }
    }

    fn take(&mut self, id: u32, logprobs: Option<Logprobs>) {
        self.tick();
        let Some(flow) = &mut self.flow else { return };
        self.ready.extend(flow.words.push(id, logprobs).into_iter().map(Piece::Word));
        if flow.words.has_stopped() {
            self.finish(FinishReason::Stop, None);
        }
    }

    /// A token has come.
    fn tick(&mut self) {
        let now = Instant::now();
        match self.clock.last.replace(now) {
            Some(before) => self.app.metrics.inter_token.observe(now - before),
            None => self.app.metrics.ttft.observe(now - self.clock.asked),
        }
        self.clock.first.get_or_insert(now);
        self.clock.n_generated += 1;
    }

    fn finish(&mut self, reason: FinishReason, timings: Option<Timings>) {
        let Some(flow) = self.flow.take() else { return };
        let LastWords { words, has_stopped, n_reasoning } = flow.words.finish();
        self.ready.extend(words.into_iter().map(Piece::Word));
        // What was held back may have held a stop string after all.
        let reason = if has_stopped { FinishReason::Stop } else { reason };
        let timings = timings.unwrap_or_else(|| self.clock.timings());
        self.ready.push_back(Piece::Ended(Ended { reason, timings, n_reasoning }));
    }

    fn fail(&mut self, problem: Problem) {
        self.flow = None;
        self.ready.push_back(Piece::Failed(problem));
    }
}

/// When things happened, as seen from here: for answers that the engine has not finished itself.
#[derive(Clone, Copy, Debug)]
struct Clock {
    asked: Instant,
    n_prompt: usize,
    n_generated: usize,
    prefill: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Clock {
    fn timings(&self) -> Timings {
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to.duration_since(from),
            _ => Duration::ZERO,
        };
        Timings {
            n_prompt: self.n_prompt,
            n_cached: 0,
            n_generated: self.n_generated,
            queued: between(Some(self.asked), self.prefill.or(self.first)),
            prefill: between(self.prefill, self.first),
            decode: between(self.first, self.last),
            lost: None,
            card_lost: false,
        }
    }
}
