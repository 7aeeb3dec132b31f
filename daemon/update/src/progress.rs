//! One state of progress for page, console and terminal: what is being done, how far it is, and whether it still moves.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::manifest::{Kind, Manifest};

/// Observers are told this often at most, and of every step.
const NOTIFY_EVERY: Duration = Duration::from_millis(100);
/// A rate is that of this long a time.
const RATE_TIME: Duration = Duration::from_secs(2);

/// What all the steps are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A bundle comes to its place.
    Install,
    /// Back to what served before.
    Rollback,
    /// The box's state goes to a stick.
    Backup,
    /// The box's state comes from a stick.
    Restore,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Making room: files are set aside at their full size.
    Prepare,
    /// From the stick, or from the version that is there.
    Copy,
    /// Reading back what was copied. The stick may go.
    Check,
    /// Putting it where it belongs.
    Settle,
    /// The new version shows that it works.
    Test,
    /// From the old to the new.
    Switch,
    /// The new version serves.
    Done,
}

impl Step {
    /// How long nothing may move before people are told that it stalls.
    pub fn stall_after(self) -> Duration {
        Duration::from_secs(match self {
            // A large file is set aside in one call.
            Self::Prepare => 120,
            Self::Copy | Self::Check | Self::Settle => 60,
            // A large model is loaded, and answers.
            Self::Test => 900,
            Self::Switch => 30,
            Self::Done => u64::MAX / 1000,
        })
    }
}

/// Why it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For translation: [`Error::code`].
    pub code: String,
    /// In English, with places and remedy.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.code().to_owned(), message: error.to_string() }
    }
}

/// How far an installation is, or another long work. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is.
    pub action: Action,
    /// Of what; nothing where it is a backup.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// Of the bundle, or the backup's file.
    pub name: String,
    /// For people.
    pub title: String,
    /// Of the bundle; 0 for a backup.
    pub version: u64,
    /// What is being done.
    pub step: Step,
    /// Of this step.
    pub bytes_done: u64,
    /// Of this step; 0 where it has no bytes.
    pub bytes_total: u64,
    /// Bytes a second, lately.
    pub rate: Option<f64>,
    /// Seconds that the step will still take at this rate.
    pub seconds_left: Option<f64>,
    /// When it began.
    pub since_ms: u64,
    /// When the step began.
    pub step_since_ms: u64,
    /// When something moved last.
    pub moved_ms: u64,
    /// Nothing moved for longer than the step allows.
    pub stalled: bool,
    /// The stick is not needed any more.
    pub stick_may_go: bool,
    /// It ended here.
    pub error: Option<Failure>,
}

impl Progress {
    /// What is about to begin.
    fn new(action: Action, name: &str, title: &str, version: u64) -> Self {
        let now = now_ms();
        Self {
            action,
            kind: None,
            name: name.to_owned(),
            title: title.to_owned(),
            version,
            step: Step::Prepare,
            bytes_done: 0,
            bytes_total: 0,
            rate: None,
            seconds_left: None,
            since_ms: now,
            step_since_ms: now,
            moved_ms: now,
            stalled: false,
            stick_may_go: false,
            error: None,
        }
    }

    /// By the rate and what is left; without a rate nobody knows.
    fn time_left(&self) -> Option<f64> {
        let left = self.bytes_total.saturating_sub(self.bytes_done) as f64;
        self.rate.filter(|rate| *rate > 0.0).map(|rate| left / rate)
    }
}

type Observer = Box<dyn Fn(&Progress) + Send + Sync>;

/// Where an installation says how far it is, and hears that it is to stop. Shared between the thread that works and those
/// that look on.
pub struct Monitor {
    state: Mutex<State>,
    observer: Observer,
    cancelled: AtomicBool,
}

struct State {
    progress: Progress,
    told: Option<Instant>,
    /// By a clock that nobody sets.
    moved: Instant,
    /// When and at how many bytes the measurement of the rate began.
    mark: (Instant, u64),
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Monitor({:?})", self.snapshot())
    }
}

impl Monitor {
    /// The monitor of an installation; `observer` is told of each change, but not of every byte.
    pub fn new(manifest: &Manifest, observer: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        Self::of(Action::Install, &manifest.name, &manifest.title, manifest.version, observer)
            .about(manifest.kind)
    }

    /// The monitor of any action: `name`, `title` and `version` say of what.
    pub fn of(
        action: Action,
        name: &str,
        title: &str,
        version: u64,
        observer: impl Fn(&Progress) + Send + Sync + 'static,
    ) -> Self {
        let progress = Progress::new(action, name, title, version);
        let state = State { progress, told: None, moved: Instant::now(), mark: (Instant::now(), 0) };
        Self { state: Mutex::new(state), observer: Box::new(observer), cancelled: AtomicBool::new(false) }
    }

    /// Says whether it is about a model or a system.
    #[must_use]
    pub fn about(self, kind: Kind) -> Self {
        self.lock().progress.kind = Some(kind);
        self
    }

    /// How far it is now; says whether it stalls.
    pub fn snapshot(&self) -> Progress {
        let (mut progress, idle) = {
            let state = self.lock();
            (state.progress.clone(), state.moved.elapsed())
        };
        progress.stalled = progress.error.is_none() && idle > progress.step.stall_after();
        progress
    }

    /// Asks for an end: the installation stops at the next chunk and keeps what it has.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// A step begins: of `total` bytes, of which `done` are done already.
    pub fn step(&self, step: Step, done: u64, total: u64) {
        let mut state = self.lock();
        let now = now_ms();
        let progress = &mut state.progress;
        (progress.step, progress.bytes_done, progress.bytes_total) = (step, done, total);
        (progress.step_since_ms, progress.moved_ms) = (now, now);
        (progress.rate, progress.seconds_left) = (None, None);
        progress.stick_may_go |= step > Step::Copy;
        state.moved = Instant::now();
        state.mark = (state.moved, done);
        self.tell(state);
    }

    /// Moves as another's work does, of which only is told how far it is: `done` of `total` bytes of `step`.
    ///
    /// # Errors
    /// Somebody asked for an end.
    pub fn follow(&self, step: Step, done: u64, total: u64) -> Result<(), Error> {
        let Progress { step: at, bytes_done, bytes_total, .. } = self.lock().progress;
        if (at, bytes_total) != (step, total) || done < bytes_done {
            self.step(step, done, total);
            return Ok(());
        }
        self.add(done - bytes_done)
    }

    /// It ended with an error.
    pub fn fail(&self, error: &Error) {
        self.fail_with(Failure::from(error));
    }

    /// It ended for a reason that isn't this crate's: the new version failed its test.
    pub fn fail_with(&self, failure: Failure) {
        let mut state = self.lock();
        state.progress.error = Some(failure);
        self.tell(state);
    }

    /// More bytes are done.
    ///
    /// # Errors
    /// Somebody asked for an end.
    pub fn add(&self, bytes: u64) -> Result<(), Error> {
        let mut state = self.lock();
        state.progress.bytes_done += bytes;
        state.progress.moved_ms = now_ms();
        state.moved = Instant::now();
        let (since, at) = state.mark;
        if since.elapsed() >= RATE_TIME {
            let rate = (state.progress.bytes_done - at) as f64 / since.elapsed().as_secs_f64();
            state.progress.rate = Some(rate);
            state.mark = (Instant::now(), state.progress.bytes_done);
        }
        state.progress.seconds_left = state.progress.time_left();
        if state.told.is_none_or(|told| told.elapsed() >= NOTIFY_EVERY) {
            self.tell(state);
        }
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        state.told = Some(Instant::now());
        let progress = state.progress.clone();
        // An observer may ask back.
        drop(state);
        (self.observer)(&progress);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
