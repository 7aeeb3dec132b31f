//! The task that writes an answer of the page: it tells its run what happens and the store what was written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{FinishReason, Sampling, Timings};
use serde_json::{Map, Value, json};
use store::{Answer, Message, Receipt, Role, Status, secret};
use tokio::time::{interval, sleep};
use tracing::{error, info};

use crate::app::App;
use crate::auth::owner_of;
use crate::generation::{Answering, Order, Piece, Word, begin};
use crate::problem::{Problem, Result};
use crate::runs::{News, Run};
use crate::slot::ServedModel;

/// A power cut loses no more than this much of an answer.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// A finished run can be watched again for this long.
const REPLAY_TIME: Duration = Duration::from_secs(60);

/// Seeds that a receipt can show to JavaScript unharmed.
const SEED_MASK: u64 = 0xffff_ffff;

/// Writes one answer.
pub(crate) struct Task {
    pub(crate) app: App,
    pub(crate) run: Arc<Run>,
    pub(crate) model: Arc<ServedModel>,
    /// The title the chat has just got.
    pub(crate) new_title: Option<String>,
    /// Whether to think first, for models that do as they are told; `None` leaves it to the template.
    pub(crate) thinking: Option<bool>,
}

/// Ends the run whatever happens: nobody shall watch a run whose writer is gone.
struct EndGuard<'a>(&'a Run);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How the writing ended.
enum Outcome {
    Done(FinishReason, Timings),
    Stopped(Option<Timings>),
    Failed(Problem),
}

impl Task {
    /// Runs to the end; then the run stays to be watched a while.
    pub(crate) async fn write(self) {
        let end = EndGuard(&self.run);
        if let Some(title) = &self.new_title {
            self.run.tell(News::Fact("title", json!({ "title": title })));
        }
        let seed = secret::random_u64() & SEED_MASK;
        let mut draft = Draft::default();
        let outcome = self.answer(seed, &mut draft).await;
        self.tell_thought_end(&mut draft);
        self.conclude(outcome, seed, draft).await;
        drop(end);
        tokio::select! {
            () = sleep(REPLAY_TIME) => {}
            () = self.app.ending.cancelled() => {}
        }
        self.app.runs.close(&self.run);
    }

    async fn answer(&self, seed: u64, draft: &mut Draft) -> Outcome {
        let begun = tokio::select! {
            begun = self.begin(seed) => begun,
            () = self.told_to_stop() => return Outcome::Stopped(None),
        };
        let mut answering = match begun {
            Ok(answering) => answering,
            Err(problem) => return Outcome::Failed(problem),
        };
        let mut save = interval(SAVE_EVERY);
        save.reset();
        loop {
            tokio::select! {
                biased;
                () = self.told_to_stop() => return Outcome::Stopped(Some(answering.timings())),
                piece = answering.next() => match piece {
                    Some(Piece::Ended(ended)) => return Outcome::Done(ended.reason, ended.timings),
                    Some(Piece::Failed(problem)) => return Outcome::Failed(problem),
                    Some(piece) => self.tell(piece, draft),
                    None => return Outcome::Failed(Problem::internal(&"an answer without an end")),
                },
                _ = save.tick() => drop(self.save(draft.answer(Status::Running)).await),
            }
        }
    }

    async fn told_to_stop(&self) {
        tokio::select! {
            () = self.run.stop.cancelled() => {}
            () = self.app.ending.cancelled() => {}
        }
    }

    /// Hands the branch that ends in the question to the engine.
    async fn begin(&self, seed: u64) -> Result<Answering> {
        let branch = self.app.store.branch(self.run.owner, self.run.message).await?;
        let messages = branch.iter().filter(|message| message.id != self.run.message).map(spoken).collect();
        let defaults = &self.model.defaults;
        let sampling = Sampling {
            temperature: defaults.temperature,
            top_p: defaults.top_p,
            top_k: defaults.top_k,
            repetition_penalty: defaults.repetition_penalty,
            seed,
            ..Sampling::default()
        };
        let order = Order {
            messages,
            template_kwargs: self.thinking.map(thinking_kwargs).unwrap_or_default(),
            sampling,
            max_tokens: None,
            stops: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            owner: owner_of(self.run.owner),
        };
        begin(&self.app, Arc::clone(&self.model), order).await
    }

    fn tell(&self, piece: Piece, draft: &mut Draft) {
        match piece {
            Piece::Queued { ahead } => self.run.tell(News::Fact("queue", json!({ "ahead": ahead }))),
            Piece::Prefill { done, total } => {
                self.run.tell(News::Fact("prefill", json!({ "done": done, "total": total })));
            }
            Piece::Word(Word::Reasoning(text)) => {
                draft.think(&text);
                self.run.tell(News::Reasoning(text));
            }
            Piece::Word(Word::Content(text, _)) => {
                self.tell_thought_end(draft);
                draft.content += &text;
                self.run.tell(News::Content(text));
            }
            // The page learns it from the message it gets at the end.
            Piece::Word(Word::WasThought) => draft.reasoning = std::mem::take(&mut draft.content),
            Piece::Ended(_) | Piece::Failed(_) => unreachable!("the loop ends with these"),
        }
    }

    fn tell_thought_end(&self, draft: &mut Draft) {
        if let Some(ms) = draft.end_thought() {
            self.run.tell(News::Fact("thought_end", json!({ "reasoning_ms": ms })));
        }
    }

    /// Writes the answer down, then tells the end.
    async fn conclude(&self, outcome: Outcome, seed: u64, draft: Draft) {
        let receipt = |timings: &Timings| self.receipt(timings, seed);
        let (status, receipt, problem) = match outcome {
            Outcome::Done(FinishReason::Stop, timings) => (Status::Done, Some(receipt(&timings)), None),
            Outcome::Done(FinishReason::Length, timings) => (Status::Length, Some(receipt(&timings)), None),
            Outcome::Stopped(timings) => (Status::Stopped, timings.as_ref().map(receipt), None),
            Outcome::Failed(problem) => (Status::Error, None, Some(problem)),
        };
        info!(run_status = ?status, n_generated = receipt.as_ref().map_or(0, |r| r.n_generated), "run ended");
        let error = problem.as_ref().map(|problem| problem.message.to_string());
        let saved = self.save(Answer { receipt, error, ..draft.answer(status) }).await;
        match (problem, saved) {
            (Some(problem), _) => {
                let data = json!({ "code": problem.code, "message": problem.message });
                self.run.tell(News::Fact("error", data));
            }
            (None, Some(message)) => self.run.tell(News::Fact("done", json!({ "message": message }))),
            (None, None) => {
                let data = json!({ "code": "not_found", "message": "the chat is gone" });
                self.run.tell(News::Fact("error", data));
            }
        }
    }

    /// The message as written; `None` where it was deleted meanwhile or can't be written.
    async fn save(&self, answer: Answer) -> Option<Message> {
        let saved = self.app.store.save_answer(self.run.owner, self.run.message, answer).await;
        saved.unwrap_or_else(|error| {
            error!(%error, "an answer could not be saved");
            None
        })
    }

    fn receipt(&self, timings: &Timings, seed: u64) -> Receipt {
        let Timings { n_prompt, n_cached, n_generated, queued, prefill, decode, lost, card_lost } = *timings;
        let ms = |duration: Duration| duration.as_millis() as u64;
        // The first token belongs to prefill.
        let n_decoded = n_generated.saturating_sub(1) as f64;
        let tok_s = if decode.is_zero() { 0.0 } else { n_decoded / decode.as_secs_f64() };
        Receipt {
            model: self.model.id.clone(),
            n_prompt,
            n_cached,
            n_generated,
            queue_ms: ms(queued),
            prefill_ms: ms(prefill),
            decode_ms: ms(decode),
            tok_s,
            seed,
            lost,
            card_lost,
        }
    }
}

/// The variable under the names that templates have for it: DeepSeek's and Qwen's.
fn thinking_kwargs(thinking: bool) -> Map<String, Value> {
    ["thinking", "enable_thinking"].map(|name| (name.to_owned(), Value::Bool(thinking))).into_iter().collect()
}

/// A message of the branch for the model: what was said, without earlier thoughts.
fn spoken(message: &Message) -> text::Message {
    let role = match message.role {
        Role::User => text::Role::User,
        Role::Assistant => text::Role::Assistant,
    };
    text::Message::text(role, message.content.clone())
}

/// What has been written so far.
#[derive(Debug, Default)]
struct Draft {
    content: String,
    reasoning: String,
    thinking_since: Option<Instant>,
    reasoning_ms: Option<u64>,
}

impl Draft {
    fn think(&mut self, text: &str) {
        self.thinking_since.get_or_insert_with(Instant::now);
        self.reasoning += text;
    }

    /// How long the thought took, the first time this is asked after one.
    fn end_thought(&mut self) -> Option<u64> {
        let since = self.thinking_since.filter(|_| self.reasoning_ms.is_none())?;
        self.reasoning_ms = Some(since.elapsed().as_millis() as u64);
        self.reasoning_ms
    }

    fn answer(&self, status: Status) -> Answer {
        let thinking_ms = self.thinking_since.map(|since| since.elapsed().as_millis() as u64);
        Answer {
            content: self.content.clone(),
            reasoning: Some(self.reasoning.clone()).filter(|reasoning| !reasoning.is_empty()),
            reasoning_ms: self.reasoning_ms.or(thinking_ms),
            status,
            error: None,
            receipt: None,
        }
    }
}
