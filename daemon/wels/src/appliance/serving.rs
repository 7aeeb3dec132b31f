//! The model that serves, and how another takes its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::{ModelSlot, ServedModel};
use engine::{Event, Generation, Request, Sampling};
use text::Conversation;
use tokio::runtime;
use tracing::{info, warn};
use update::Failure;

use super::{Board, ModelState, packs};
use crate::cli::Serve;
use crate::measure::{Served, Subject};
use crate::{card, load, machine, serve, streaming};

/// What a model has to say something to before it serves.
const QUESTION: &str = "What is 1 + 1?";
/// As much has to be said.
const WORDS_MIN: usize = 4;
/// Time for it: the largest model on the slowest drive reads experts of each layer for each token.
const TEST_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Time for answers under way, where the old model has to go before the new one comes.
const ANSWERS_TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// Time for a model to let its memory go.
const ENGINE_END_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why the old model still serves.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// The new one can't be opened, or doesn't answer.
    Test(anyhow::Error),
    /// It answers, but what is installed could not be written down.
    Commit(update::Error),
    /// The old one's answers took too long.
    Answers(anyhow::Error),
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        let of = |code: &str, message| Self { code: code.into(), message };
        match error {
            ExchangeError::Test(error) => of("failed_test", format!("{error:#}")),
            ExchangeError::Commit(error) => Self::from(&error),
            ExchangeError::Answers(error) => of("answers", error.to_string()),
        }
    }
}

/// What serves: who opens models, where they serve, and where it is said which does. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    args: Arc<Serve>,
    slot: ModelSlot,
    board: Board,
    runtime: runtime::Handle,
}

impl Serving {
    /// Its methods are for threads outside of tokio; this one is for inside.
    pub(crate) fn new(args: Arc<Serve>, slot: ModelSlot, board: Board) -> Self {
        Self { args, slot, board, runtime: runtime::Handle::current() }
    }

    /// Serves the model in `pack` from now on, once it has passed its test.
    ///
    /// # Errors
    /// It can't be opened, or doesn't pass.
    pub(crate) fn begin(&self, pack: &Path) -> Result<()> {
        let model = self.open(pack)?;
        self.put(model);
        Ok(())
    }

    /// Serves nothing, for this reason.
    pub(crate) fn fail(&self, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        warn!(reason, "the installed model cannot be served");
        self.board.change(|state| state.model = ModelState::Failed { reason });
    }

    /// The model in `pack` takes the place of `old`, once it has passed its test and `commit` agrees. Until then the old one
    /// serves, unless the memory can't hold both: then it goes first, and comes back where the new one fails. Answers under way
    /// are finished by the model that began them.
    ///
    /// # Errors
    /// The new one can't be opened or doesn't pass, or `commit` fails. The old one serves.
    pub(crate) fn exchange(
        &self,
        pack: &Path,
        old: Option<PathBuf>,
        commit: impl FnOnce() -> Result<(), update::Error>,
    ) -> Result<(), ExchangeError> {
        let is_beside = self.fits_beside(pack).map_err(ExchangeError::Test)?;
        if !is_beside {
            info!("the memory can't hold both models: the old one goes first");
            self.clear().map_err(ExchangeError::Answers)?;
        }
        let tested = self.open(pack).map_err(ExchangeError::Test);
        let passed = tested.and_then(|model| commit().map(|()| model).map_err(ExchangeError::Commit));
        match passed {
            Ok(model) => {
                self.put(model);
                Ok(())
            }
            Err(error) if is_beside => Err(error),
            Err(error) => {
                if let Some(Err(again)) = old.map(|old| self.begin(&old)) {
                    self.fail(&again);
                }
                Err(error)
            }
        }
    }

    /// What of this box is measured: the model that serves, where there is one, and the drive it is on.
    pub(crate) fn subject(&self, state: &Path) -> Subject {
        let served = self.slot.get();
        let served =
            served.and_then(|model| Served::new(&model.name, model.engine.clone(), &model.codec).ok());
        let installed = || packs::served(self.args.models.as_deref()?).ok()?;
        Subject {
            compute: self.args.compute.clone(),
            served,
            pack: self.args.model.clone().or_else(installed),
            place: self.args.models.as_deref().unwrap_or(state).to_owned(),
        }
    }

    /// A model that has passed its test.
    fn open(&self, pack: &Path) -> Result<ServedModel> {
        let model = serve::open_model(pack, &self.args)?;
        self.test(&model).with_context(|| format!("{} does not answer", model.name))?;
        Ok(model)
    }

    fn put(&self, model: ServedModel) {
        let name = model.name.clone();
        self.slot.put(Some(model));
        self.board.change(|state| state.model = ModelState::Ready { name });
    }

    /// Whether the model in `pack` can be opened while another serves.
    fn fits_beside(&self, pack: &Path) -> Result<bool> {
        let Some(served) = self.slot.get() else { return Ok(true) };
        let compute = &self.args.compute;
        let headers = load::headers(pack)?;
        let (all, free) = machine::memory();
        let is_alone = card::chosen(compute.device).is_some() || streaming::has_to(&headers, compute)?;
        // What is mapped of the old one counts as free, and has to stay all the same.
        let both = headers.bytes() + served.info.bytes + streaming::reserve(all);
        Ok(all == 0 || (!is_alone && both <= all && headers.bytes() <= free))
    }

    /// Takes the model that serves out of its place and waits until its last answer is given.
    fn clear(&self) -> Result<()> {
        let Some(model) = self.slot.withdraw() else { return Ok(()) };
        let start = Instant::now();
        while Arc::strong_count(&model) > 1 {
            if start.elapsed() > ANSWERS_TIME_MAX {
                self.slot.put_back(Some(model));
                bail!("answers under way took too long; try again when nobody asks");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        drop(model);
        engine::wait_for_end(ENGINE_END_MAX);
        Ok(())
    }

    /// The model has to say something, with probabilities that are numbers: whoever says it serves has shown it.
    fn test(&self, model: &ServedModel) -> Result<()> {
        let request = Request {
            prompt: model.codec.prompt(&Conversation::question(QUESTION))?.ids,
            max_tokens: WORDS_MIN,
            stop_ids: Vec::new(),
            sampling: Sampling::greedy(),
            logprobs: Some(0),
            owner: 0,
        };
        let answer = hear(model.engine.submit(request)?);
        let heard = self.runtime.block_on(async { tokio::time::timeout(TEST_TIME_MAX, answer).await });
        heard.with_context(|| format!("no answer came in {} minutes", TEST_TIME_MAX.as_secs() / 60))?
    }
}

/// An answer to its end.
async fn hear(mut generation: Generation) -> Result<()> {
    loop {
        match generation.next().await.context("the engine stopped")? {
            Event::Token { logprobs, .. } => {
                if !logprobs.is_some_and(|logprobs| logprobs.chosen.is_finite()) {
                    bail!("its probabilities are no numbers: the weights are damaged");
                }
            }
            Event::Finished { .. } => return Ok(()),
            Event::Failed { message } => bail!(message),
            Event::Queued { .. } | Event::Prefill { .. } => {}
        }
    }
}
