//! The door to the engine: submit from any thread or task, read events, drop to cancel.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Forward, Limits, Notice};
use tokio::sync::mpsc;

use crate::counters::{Counters, Stats};
use crate::request::{Event, Request, SubmitError};
use crate::scheduler::Scheduler;
use crate::speculate::{Source, Speculation};

/// Limits of the engine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sequences computed in one step at most.
    pub sequences_max: usize,
    /// Requests waiting at most.
    pub waiting_max: usize,
    /// Prompt tokens in a step while others decode: a bound on how long they wait for their next token.
    pub prefill_tokens_beside_decode: usize,
    /// Guesses, so that a step decides several tokens of a sequence.
    pub speculation: Speculation,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sequences_max: 16,
            waiting_max: 32,
            prefill_tokens_beside_decode: 128,
            speculation: Speculation::default(),
        }
    }
}

/// A request on its way to the engine thread.
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) at: Instant,
}

/// Submits requests; clones share one engine. The engine stops when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Handle {
    submissions: blocking::Sender<Submission>,
    counters: Arc<Counters>,
    limits: Limits,
    options: Options,
}

impl Handle {
    /// Hands a request to the engine, or says at once why it can't be taken.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        self.check(&request)?;
        let waiting = self.counters.waiting.fetch_add(1, Ordering::AcqRel);
        if waiting >= self.options.waiting_max {
            self.counters.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(SubmitError::QueueFull { waiting, limit: self.options.waiting_max });
        }
        let (events, receiver) = mpsc::channel(events_max(&request, self.limits, self.options));
        let cancelled = Arc::new(AtomicBool::new(false));
        let generation = Generation { events: receiver, cancelled: Arc::clone(&cancelled) };
        let submission = Submission { request, events, cancelled, at: Instant::now() };
        self.submissions.send(submission).map_err(|_| {
            self.counters.waiting.fetch_sub(1, Ordering::AcqRel);
            SubmitError::Stopped
        })?;
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        Ok(generation)
    }

    fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let Limits { n_vocab, context, .. } = self.limits;
        if self.counters.stopped.load(Ordering::Acquire) {
            return Err(SubmitError::Stopped);
        }
        if request.prompt.is_empty() {
            return Err(SubmitError::PromptEmpty);
        }
        if request.prompt.len() >= context {
            return Err(SubmitError::PromptTooLong { got: request.prompt.len(), limit: context - 1 });
        }
        match request.prompt.iter().find(|&&id| id as usize >= n_vocab) {
            Some(&id) => Err(SubmitError::UnknownToken { id, n_vocab }),
            None => Ok(()),
        }
    }

    /// What the model behind this engine can hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What people should know about where answers are computed.
    pub fn notice(&self) -> Option<Notice> {
        self.counters.notice()
    }

    /// The engine's state now.
    pub fn stats(&self) -> Stats {
        let c = &self.counters;
        let gauge = |g: &AtomicUsize| g.load(Ordering::Relaxed);
        let total = |t: &AtomicU64| t.load(Ordering::Relaxed);
        Stats {
            running: gauge(&c.running),
            waiting: gauge(&c.waiting),
            waiting_max: self.options.waiting_max,
            kv_tokens_used: gauge(&c.kv_tokens_used),
            kv_tokens_total: self.limits.kv_tokens,
            context: self.limits.context,
            requests_total: total(&c.requests),
            finished_total: total(&c.finished),
            cancelled_total: total(&c.cancelled),
            failed_total: total(&c.failed),
            prompt_tokens_total: total(&c.prompt_tokens),
            generated_tokens_total: total(&c.generated_tokens),
            steps_total: total(&c.steps),
            step_us_total: total(&c.step_us),
            lookup: c.drafts(Source::Lookup),
            draft_layer: c.drafts(Source::Draft),
            streaming: c.streaming(),
        }
    }
}

/// Events a request can cause at most, each prompt token a chunk of its own: the channel takes memory only as it fills,
/// and it never does, so the engine never waits for a reader.
fn events_max(request: &Request, limits: Limits, options: Options) -> usize {
    let n_prompt = request.prompt.len();
    let tokens = request.max_tokens.clamp(1, limits.context - n_prompt);
    let queue_news = options.waiting_max + 2;
    queue_news + n_prompt + tokens + 1
}

/// The events of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
    cancelled: Arc<AtomicBool>,
}

impl Generation {
    /// The next event; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, for threads outside tokio.
    ///
    /// # Panics
    /// Called from within an asynchronous context.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

/// Moves `model` onto a thread of its own and returns the door to it.
pub fn start(model: Box<dyn Forward>, options: Options) -> Handle {
    let limits = model.limits();
    let counters = Arc::new(Counters::default());
    let (submissions, inbox) = blocking::channel();
    let scheduler = Scheduler::new(model, options, Arc::clone(&counters));
    let alive = Alive::begin();
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            let _alive = alive;
            // It goes with the model in it.
            scheduler.run(&inbox);
        })
        .expect("the system has a thread to spare at start");
    Handle { submissions, counters, limits, options }
}

/// Engines of this process whose models are not gone yet.
static ALIVE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of them.
struct Alive;

impl Alive {
    fn begin() -> Self {
        *ALIVE.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *ALIVE.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ALIVE.1.notify_all();
    }
}

/// Waits until all engines that were let go have let their models go, a while at most: for who ends the process, which must not
/// take a card's driver away while it is being closed.
pub fn wait_for_end(within: Duration) {
    let alive = ALIVE.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(ALIVE.1.wait_timeout_while(alive, within, |alive| *alive > 0));
}
