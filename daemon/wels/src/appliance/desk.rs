//! The desk where sticks are looked at and wishes of administrators are taken up: one job at a time, its state shown to page and
//! console.
//!
//! ```text
//! a stick comes ──> look: whose, what, may it? ──> shown ──> the administrator agrees ──> copy ──> test ──> exchange
//!                                                    └ agreed before a cut cord or a pulled stick: goes on by itself
//! ```

mod backups;
mod install;
mod look;
mod measure;
mod recovery;
mod shown;
mod system;
mod wishes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{Recovery, Refusal, Wished};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use update::system::{BootState, Settled};
use update::{Monitor, Progress, Step};

use self::look::Looked;
use self::shown::Lines;
use super::sticks::{self, News, Stick};
use super::{Board, ModelState, Serving, UpdateState, steward};
use crate::measure::Watch;

/// How soon a stall is seen, and that a code has ended.
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
        looked: Box<Looked>,
    },
    /// A stick has the file that asks for a recovery code.
    RecoveryAsked {
        id: String,
    },
    /// The job has moved on.
    Moved,
    /// The job has ended.
    Ended,
    /// The box was measured.
    Measured {
        report: Arc<str>,
    },
    /// What runs is known, and what became of a system's version.
    Settled {
        settled: Settled,
        boots: BootState,
    },
}

/// A stick, as far as it is known.
#[derive(Debug)]
struct Seen {
    stick: Arc<Stick>,
    looked: Looked,
    /// What was agreed to of it may go on by itself: once for each coming, or what fails would fail for ever.
    goes_on: bool,
    /// Whether it asked for a recovery code.
    asks_recovery: bool,
}

/// The desk.
#[derive(Debug)]
pub(crate) struct Desk {
    places: Places,
    serving: Serving,
    board: Board,
    door: api::Desk,
    /// For whoever has lost the password.
    recovery: Recovery,
    tell: UnboundedSender<Event>,
    events: UnboundedReceiver<Event>,
    /// Those that came last, last.
    sticks: Vec<Seen>,
    /// What is under way.
    job: Option<Arc<Monitor>>,
    /// How the last job ended, until somebody has read it.
    last: Option<Progress>,
    /// The measurement under way.
    measuring: Option<Arc<Watch>>,
    /// The last one, as JSON.
    report: Option<Arc<str>>,
    lines: Lines,
    /// What runs and what starts next; `None` where nobody can say.
    boots: Option<BootState>,
    /// A version that was copied before the power went was put into its slot, or could not be: once for each start.
    has_put: bool,
    /// Ends the daemon, so that it starts anew.
    end: CancellationToken,
}

impl Desk {
    /// A desk that ends the daemon by `end` where it has to start anew.
    pub(crate) fn new(
        places: Places,
        serving: Serving,
        board: Board,
        door: api::Desk,
        recovery: Recovery,
        end: CancellationToken,
    ) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let lines = Lines::read(&places);
        let report = measure::last(&places.state);
        Self {
            places,
            serving,
            board,
            door,
            recovery,
            tell,
            events,
            sticks: Vec::new(),
            job: None,
            last: None,
            measuring: None,
            report,
            lines,
            boots: None,
            has_put: false,
            end,
        }
    }

    /// Works until the service ends.
    pub(crate) async fn attend(mut self) {
        self.open_the_door();
        self.go_on_with_trial();
        self.settle();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.publish();
        loop {
            let answer = tokio::select! {
                wished = self.door.wishes.recv() => {
                    let Some(Wished { wish, answer }) = wished else { return };
                    Some((answer, self.take_up(wish)))
                }
                Some(event) = self.events.recv() => {
                    self.hear(event);
                    None
                }
                _ = looks.tick(), if self.job.is_some() || self.shows_code() => None,
            };
            self.publish();
            if let Some((answer, taken)) = answer {
                // Whoever is answered sees what came of it; they may have left.
                let _ = answer.send(taken);
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
        match tokio::task::block_in_place(|| install::pending(models)) {
            Ok(Some(trial)) => self.start_trial(trial),
            Ok(None) => {}
            Err(error) => warn!(%error, "the installed models cannot be looked at"),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Stick(News::Came(stick)) => {
                self.ask_for_recovery(&stick);
                let looked = Looked::default();
                self.sticks.push(Seen { stick, looked, goes_on: true, asks_recovery: false });
                self.look_at_sticks();
            }
            Event::Stick(News::Gone { id }) => {
                self.sticks.retain(|seen| seen.stick.id != id);
                self.close_recovery();
            }
            Event::RecoveryAsked { id } => self.open_recovery(&id),
            Event::Looked { id, looked } => self.looked(&id, *looked),
            Event::Moved => {}
            Event::Measured { report } => self.measured(report),
            Event::Ended => {
                self.last = self.job.take().map(|monitor| monitor.snapshot());
                self.lines = Lines::read(&self.places);
                self.look_at_sticks();
                self.settle();
            }
            Event::Settled { settled, boots } => {
                self.boots = Some(boots);
                self.lines = Lines::read(&self.places);
                if let (Settled::Write(trial), true) = (settled, self.is_idle() && !self.has_put) {
                    self.has_put = true;
                    self.start_put(trial);
                }
            }
        }
    }

    /// Finds out what runs, and what became of a version of the system; where there is no steward there is none.
    fn settle(&self) {
        if !steward::is_there() {
            return;
        }
        let (places, tell) = (self.places.clone(), self.tell.clone());
        let is_well = !matches!(self.board.watch().borrow().model, ModelState::Failed { .. });
        std::thread::spawn(move || match system::settle(&places, is_well) {
            // Nobody hears at the very end.
            Ok((settled, boots)) => drop(tell.send(Event::Settled { settled, boots })),
            Err(failure) => warn!(code = failure.code, reason = failure.message, "what runs is not known"),
        });
    }

    /// Looks at all sticks, unless something is being installed: what may be is not known then.
    fn look_at_sticks(&mut self) {
        if self.job.is_some() {
            return;
        }
        for seen in &mut self.sticks {
            seen.looked.begins();
            let (places, stick, tell) = (self.places.clone(), Arc::clone(&seen.stick), self.tell.clone());
            let look = move || {
                let (id, looked) = (stick.id.clone(), Box::new(look::look(&places, &stick)));
                // Nobody hears at the very end.
                let _ = tell.send(Event::Looked { id, looked });
            };
            std::thread::spawn(look);
        }
    }

    fn looked(&mut self, id: &str, looked: Looked) {
        let is_idle = self.is_idle();
        let Some(seen) = self.sticks.iter_mut().find(|seen| seen.stick.id == id) else { return };
        seen.looked = looked;
        if !is_idle || !std::mem::take(&mut seen.goes_on) {
            return;
        }
        let Some((preview, found)) = seen.looked.bundle() else { return };
        let agreed = self.lines.agreed().filter(|agreed| agreed.id == preview.id);
        let may = |allow_older| look::may_install(preview, allow_older).is_ok();
        if let Some(agreed) = agreed.filter(|agreed| may(agreed.allow_older)) {
            let found = Arc::clone(found);
            if let Err(refusal) = self.start_install(found, agreed.allow_older) {
                warn!(reason = refusal.message, "what was agreed to can't go on");
            }
        }
    }

    /// Whether nothing is under way that has to end first.
    fn is_idle(&self) -> bool {
        self.job.is_none() && self.measuring.is_none()
    }

    /// Page and console see what is.
    fn publish(&self) {
        self.publish_measurement();
        if self.job.as_ref().is_some_and(|monitor| is_over(&monitor.snapshot())) {
            // Its thread ends in a moment: whoever reads the outcome may ask for the next thing.
            return;
        }
        let progress = self.job.as_ref().map(|monitor| monitor.snapshot()).or_else(|| self.last.clone());
        let newest = self.sticks.last();
        let shown = shown::json(&self.places, &self.lines, newest, progress.as_ref(), self.boots.as_ref());
        self.door.state.send_if_modified(|state| {
            let changed = **state != *shown;
            *state = shown.into();
            changed
        });
        let stick = newest.map(|seen| seen.looked.content.words());
        let code = self.recovery.code();
        self.board.change_if(|state| {
            let update = UpdateState { stick, progress };
            let changed = state.update != update || state.recovery_code != code;
            (state.update, state.recovery_code) = (update, code);
            changed
        });
    }
}

impl Drop for Desk {
    /// The daemon ends: so does a measurement.
    fn drop(&mut self) {
        if let Some(watch) = &self.measuring {
            watch.stop();
        }
    }
}

/// Whether nothing more moves.
fn is_over(progress: &Progress) -> bool {
    progress.error.is_some() || progress.step == Step::Done
}

fn refuse(code: &'static str, message: &str) -> Refusal {
    Refusal { code, message: message.to_owned() }
}
