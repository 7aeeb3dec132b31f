//! What the machine is kept busy with: answers of a model, or products of whole numbers where there is none.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use engine::{Event, Generation, Handle, Request, Sampling};
use kernels::{Cpu, CpuOptions};
use model::TokenId;
use text::{Codec, Conversation};

/// What the model is asked.
const QUESTION: &str = "Tell a long story about a river, a mill and the people who lived there.";
/// Tokens of an answer; memory for it is reserved while it is written.
const ANSWER_TOKENS: usize = 256;
/// How soon a wish to stop is seen while a token is awaited.
const WAIT: Duration = Duration::from_millis(200);
/// Before the next try where the engine is full, or an answer failed.
const REST: Duration = Duration::from_secs(1);
/// Operations that are counted as one, for a counter of whole numbers.
const OPS: f64 = 1e6;

/// A model to be kept busy.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    name: String,
    engine: Handle,
    prompt: Vec<TokenId>,
}

impl Served {
    /// # Errors
    /// Its template takes no question.
    pub(crate) fn new(name: &str, engine: Handle, codec: &Codec) -> Result<Self> {
        let prompt = codec.prompt(&Conversation::question(QUESTION)).context("the model can't be asked")?.ids;
        Ok(Self { name: name.to_owned(), engine, prompt })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn request(&self, seed: u64) -> Request {
        Request {
            prompt: self.prompt.clone(),
            max_tokens: ANSWER_TOKENS,
            // It goes on where people's answers would end: all that counts is how fast.
            stop_ids: Vec::new(),
            sampling: Sampling { seed, ..Sampling::default() },
            logprobs: None,
            owner: 0,
        }
    }
}

/// Work on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Work {
    shared: Arc<Shared>,
    /// What one of the counter stands for.
    unit: f64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: AtomicU64,
    stop: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }

    fn note(&self, trouble: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }
}

impl Work {
    /// Answers, one after the other.
    pub(super) fn answers(served: &Served) -> Self {
        let served = served.clone();
        Self::start(1.0, move |shared| {
            if let Err(error) = answer_on(&served, shared) {
                shared.note(format!("{error:#}"));
            }
        })
    }

    /// Products of whole numbers on all cores.
    pub(super) fn products(threads: Option<usize>) -> Self {
        Self::start(OPS, move |shared| {
            // Its workers are as patient as this thread.
            let cpu = Cpu::new(CpuOptions { threads, ..CpuOptions::default() });
            let mut cpu = match cpu {
                Ok(cpu) => cpu,
                Err(error) => return shared.note(error.to_string()),
            };
            while shared.goes_on() {
                let start = Instant::now();
                let ops_s = cpu.probe_int8_peak();
                shared.add((ops_s * start.elapsed().as_secs_f64() / OPS) as u64);
            }
        })
    }

    fn start(unit: f64, work: impl FnOnce(&Shared) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let at_work = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || work(&at_work));
        if let Err(error) = &thread {
            shared.note(format!("no thread: {error}"));
        }
        Self { shared, unit, thread: thread.ok() }
    }

    /// Done so far: tokens, or operations.
    pub(super) fn done(&self) -> f64 {
        self.shared.done.load(Ordering::Relaxed) as f64 * self.unit
    }

    /// Why less was done than could have been, lately.
    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that kept the machine busy has panicked");
        }
    }
}

fn answer_on(served: &Served, shared: &Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    for seed in 0.. {
        if !shared.goes_on() {
            return Ok(());
        }
        let answered = match served.engine.submit(served.request(seed)) {
            Ok(answer) => runtime.block_on(follow(answer, shared)),
            Err(error) => Err(error.to_string()),
        };
        if let Err(trouble) = answered {
            shared.note(trouble);
            std::thread::sleep(REST);
        }
    }
    Ok(())
}

/// Counts an answer's tokens as they come.
async fn follow(mut answer: Generation, shared: &Shared) -> Result<(), String> {
    while shared.goes_on() {
        let Ok(event) = tokio::time::timeout(WAIT, answer.next()).await else { continue };
        match event {
            Some(Event::Token { .. }) => shared.add(1),
            Some(Event::Finished { .. }) => return Ok(()),
            Some(Event::Failed { message }) => return Err(message),
            Some(Event::Queued { .. } | Event::Prefill { .. }) => {}
            None => return Err("the engine stopped".into()),
        }
    }
    Ok(())
}
