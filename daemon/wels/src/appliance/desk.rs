//! The desk where sticks are looked at and wishes of administrators are taken up: one job at a time, its state shown to page and
//! console.
//!
//! ```text
//! a stick comes ──> look: whose, what, may it? ──> shown ──> the administrator agrees ──> copy ──> test ──> exchange
//!                                                    └ agreed before a cut cord or a pulled stick: goes on by itself
//! ```

mod install;
mod look;
mod shown;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{Kind, Refusal, Wish, Wished};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};
use update::{Action, Failure, Monitor, Progress, Trial, Verdict};

use self::look::{Content, Found};
use self::shown::Lines;
use super::sticks::{self, News, Stick};
use super::{Board, Serving, UpdateState};
use crate::bundle;

/// How soon a stall is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where things lie.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Installed models; without, nothing can be installed.
    pub(crate) models: Option<PathBuf>,
    /// What the box remembers.
    pub(crate) state: PathBuf,
    /// Where the daemon tells other programs of the box; `None` where it runs on somebody's computer.
    pub(crate) runtime: Option<PathBuf>,
}

/// What the desk hears.
#[derive(Debug)]
enum Event {
    Stick(News),
    /// A stick was looked at.
    Looked {
        id: String,
        content: Box<Content>,
        found: Option<Arc<Found>>,
    },
    /// The job has moved on.
    Moved,
    /// The job has ended.
    Ended,
}

/// A stick, as far as it is known.
#[derive(Debug)]
struct Seen {
    stick: Arc<Stick>,
    content: Content,
    /// What may be installed from it.
    found: Option<Arc<Found>>,
}

/// The desk.
#[derive(Debug)]
pub(crate) struct Desk {
    places: Places,
    serving: Serving,
    board: Board,
    door: api::Desk,
    tell: UnboundedSender<Event>,
    events: UnboundedReceiver<Event>,
    /// Those that came last, last.
    sticks: Vec<Seen>,
    /// What is under way.
    job: Option<Arc<Monitor>>,
    /// How the last job ended, until somebody has read it.
    last: Option<Progress>,
    lines: Lines,
}

impl Desk {
    pub(crate) fn new(places: Places, serving: Serving, board: Board, door: api::Desk) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let lines = Lines::read(&places);
        Self { places, serving, board, door, tell, events, sticks: Vec::new(), job: None, last: None, lines }
    }

    /// Works until the service ends.
    pub(crate) async fn attend(mut self) {
        self.open_the_door();
        self.go_on_with_trial();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.publish();
            tokio::select! {
                wished = self.door.wishes.recv() => {
                    let Some(Wished { wish, answer }) = wished else { return };
                    // Whoever asked may have left.
                    let _ = answer.send(self.take_up(wish));
                }
                Some(event) = self.events.recv() => self.hear(event),
                _ = looks.tick(), if self.job.is_some() => {}
            }
        }
    }

    fn open_the_door(&self) {
        let Some(runtime) = &self.places.runtime else { return };
        let tell = self.tell.clone();
        // Nobody hears at the very end.
        let hear = move |news| drop(tell.send(Event::Stick(news)));
        if let Err(error) = sticks::listen(runtime, hear) {
            error!("no stick will be seen: {error:#}");
        }
    }

    /// A version that was copied and not tested yet, because the power went, is tested now.
    fn go_on_with_trial(&mut self) {
        let Some(models) = &self.places.models else { return };
        match install::pending(models) {
            Ok(Some(trial)) => self.start_trial(trial),
            Ok(None) => {}
            Err(error) => warn!(%error, "the installed models cannot be looked at"),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Stick(News::Came(stick)) => {
                self.sticks.push(Seen { stick, content: Content::Reading, found: None });
                self.look_at_sticks();
            }
            Event::Stick(News::Gone { id }) => self.sticks.retain(|seen| seen.stick.id != id),
            Event::Looked { id, content, found } => self.looked(&id, *content, found),
            Event::Moved => {}
            Event::Ended => {
                self.last = self.job.take().map(|monitor| monitor.snapshot());
                self.lines = Lines::read(&self.places);
                self.look_at_sticks();
            }
        }
    }

    /// Looks at all sticks, unless something is being installed: what may be is not known then.
    fn look_at_sticks(&mut self) {
        if self.job.is_some() {
            return;
        }
        for seen in &mut self.sticks {
            seen.content = Content::Reading;
            seen.found = None;
            let (places, stick, tell) = (self.places.clone(), Arc::clone(&seen.stick), self.tell.clone());
            let look = move || {
                let (content, found) = look::look(&places, &stick);
                let (id, content) = (stick.id.clone(), Box::new(content));
                // Nobody hears at the very end.
                let _ = tell.send(Event::Looked { id, content, found });
            };
            std::thread::spawn(look);
        }
    }

    fn looked(&mut self, id: &str, content: Content, found: Option<Arc<Found>>) {
        let Some(seen) = self.sticks.iter_mut().find(|seen| seen.stick.id == id) else { return };
        (seen.content, seen.found) = (content, found);
        let (Content::Bundle { preview }, Some(found)) = (&seen.content, &seen.found) else { return };
        let agreed = self.lines.agreed().filter(|agreed| agreed.id == preview.id);
        let may = |allow_older| look::may_install(preview, allow_older).is_ok();
        if let Some(agreed) = agreed.filter(|agreed| self.job.is_none() && may(agreed.allow_older)) {
            let found = Arc::clone(found);
            if let Err(refusal) = self.start_install(found, agreed.allow_older) {
                warn!(reason = refusal.message, "what was agreed to can't go on");
            }
        }
    }

    fn take_up(&mut self, wish: Wish) -> Result<(), Refusal> {
        match wish {
            Wish::Install { stick, bundle, allow_older } => self.install(&stick, &bundle, allow_older),
            Wish::Stop => {
                let job =
                    self.job.as_ref().ok_or_else(|| refuse("nothing_runs", "there is nothing to stop"))?;
                job.cancel();
                Ok(())
            }
            Wish::Rollback { kind: Kind::Model } => self.roll_back(),
            Wish::Dismiss => {
                self.last = None;
                Ok(())
            }
            Wish::AddKey { text } => self.change_trust(|trust| look::add_key(trust, &text)),
            Wish::RemoveKey { fingerprint } => self.change_trust(|trust| {
                let gone = || refuse("not_added", "no key of this fingerprint was added here");
                trust.remove(&fingerprint).then_some(()).ok_or_else(gone)
            }),
            Wish::Rollback { kind: Kind::System }
            | Wish::Restart
            | Wish::Backup { .. }
            | Wish::Restore { .. }
            | Wish::FactoryReset => {
                Err(refuse("not_here", "this machine can't do that: it is no box of its own"))
            }
        }
    }

    fn install(&mut self, stick: &str, bundle: &str, allow_older: bool) -> Result<(), Refusal> {
        self.expect_idle()?;
        let gone = || refuse("no_stick", "this stick is gone; plug it in again");
        let seen = self.sticks.iter().find(|seen| seen.stick.id == stick).ok_or_else(gone)?;
        let (Content::Bundle { preview }, Some(found)) = (&seen.content, &seen.found) else {
            return Err(refuse("no_bundle", "nothing on this stick can be installed"));
        };
        if preview.id.to_string() != bundle {
            return Err(refuse("another_bundle", "the stick holds something else by now; look again"));
        }
        look::may_install(preview, allow_older)?;
        if preview.verdict == Some(Verdict::Serves) {
            return Err(refuse("serves_already", "it serves already: there is nothing to do"));
        }
        let found = Arc::clone(found);
        self.start_install(found, allow_older)
    }

    fn start_install(&mut self, found: Arc<Found>, allow_older: bool) -> Result<(), Refusal> {
        let Some(models) = self.places.models.as_ref() else { return Ok(()) };
        let failed = |error: update::Error| refuse(error.code(), &error.to_string());
        let agreed = tokio::task::block_in_place(|| install::agree(models, &found, allow_older));
        let installer = agreed.map_err(failed)?;
        let monitor = Monitor::new(&found.bundle.manifest, self.observer());
        let serving = self.serving.clone();
        self.start(monitor, move |monitor| {
            install::install(installer, &serving, &found, allow_older, monitor)
        });
        Ok(())
    }

    fn start_trial(&mut self, trial: Trial) {
        let Some(models) = self.places.models.clone() else { return };
        let (name, title) = (&trial.version.name, shown::title(&trial.path, &trial.version.name));
        let monitor = Monitor::of(Action::Install, name, &title, trial.version.version, self.observer());
        let serving = self.serving.clone();
        self.start(monitor, move |monitor| install::try_pending(&models, &serving, &trial, monitor));
    }

    fn roll_back(&mut self) -> Result<(), Refusal> {
        self.expect_idle()?;
        let none = || refuse("no_previous", "there is no model to go back to");
        let models = self.places.models.clone().ok_or_else(none)?;
        let previous = self.lines.previous_model().ok_or_else(none)?;
        let title = shown::title(&previous.folder(&models), &previous.name);
        let monitor =
            Monitor::of(Action::Rollback, &previous.name, &title, previous.version, self.observer());
        let serving = self.serving.clone();
        self.start(monitor, move |monitor| install::roll_back(&models, &serving, monitor));
        Ok(())
    }

    /// Starts a job on a thread of its own; how it ends, its monitor says.
    fn start(
        &mut self,
        monitor: Monitor,
        job: impl FnOnce(&Monitor) -> Result<(), Failure> + Send + 'static,
    ) {
        let monitor = Arc::new(monitor);
        self.job = Some(Arc::clone(&monitor));
        self.last = None;
        let tell = self.tell.clone();
        std::thread::spawn(move || {
            if let Err(failure) = job(&monitor) {
                warn!(code = failure.code, reason = failure.message, "it failed");
                monitor.fail_with(failure);
            }
            // Nobody hears at the very end.
            let _ = tell.send(Event::Ended);
        });
    }

    fn observer(&self) -> impl Fn(&Progress) + Send + Sync + 'static {
        let tell = self.tell.clone();
        move |_| drop(tell.send(Event::Moved))
    }

    fn expect_idle(&self) -> Result<(), Refusal> {
        if self.job.is_some() {
            return Err(refuse("busy", "something is being done already; wait until it is over, or stop it"));
        }
        Ok(())
    }

    fn change_trust(
        &mut self,
        change: impl FnOnce(&mut update::Trust) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let failed = |error: update::Error| refuse("bad_state", &error.to_string());
        let mut trust = bundle::trust(&self.places.state).map_err(failed)?;
        change(&mut trust)?;
        trust.save().map_err(failed)?;
        self.lines = Lines::read(&self.places);
        self.look_at_sticks();
        Ok(())
    }

    /// Page and console see what is.
    fn publish(&self) {
        let progress = self.job.as_ref().map(|monitor| monitor.snapshot()).or_else(|| self.last.clone());
        let newest = self.sticks.last();
        let shown = shown::json(&self.places, &self.lines, newest, progress.as_ref());
        self.door.state.send_if_modified(|state| {
            let changed = **state != *shown;
            *state = shown.into();
            changed
        });
        let stick = newest.map(|seen| seen.content.words());
        self.board.change_if(|state| {
            let update = UpdateState { stick, progress };
            let changed = state.update != update;
            state.update = update;
            changed
        });
    }
}

fn refuse(code: &'static str, message: &str) -> Refusal {
    Refusal { code, message: message.to_owned() }
}
