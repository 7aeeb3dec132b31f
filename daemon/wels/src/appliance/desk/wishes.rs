//! What administrators wish, taken up: each becomes a job, or is refused in words.

use std::sync::Arc;

use api::{Kind, Passphrase, Refusal, Wish};
use tracing::{error, info, warn};
use update::{Action, Failure, Monitor, Progress, Trial, Verdict};

use super::look::Found;
use super::shown::Lines;
use super::{Desk, Event, Seen, backups, install, look, refuse, shown, system};
use crate::appliance::steward::{self, Ask};
use crate::bundle;

impl Desk {
    pub(super) fn take_up(&mut self, wish: Wish) -> Result<(), Refusal> {
        match wish {
            Wish::Install { stick, bundle, allow_older } => self.install(&stick, &bundle, allow_older),
            Wish::Stop => {
                let job =
                    self.job.as_ref().ok_or_else(|| refuse("nothing_runs", "there is nothing to stop"))?;
                job.cancel();
                Ok(())
            }
            Wish::Rollback { kind: Kind::Model } => self.roll_back(),
            Wish::Remove { name, version } => self.remove(&name, version),
            Wish::Dismiss => {
                self.last = None;
                Ok(())
            }
            Wish::AddKey { text } => self.change_trust(|trust| look::add_key(trust, &text)),
            Wish::RemoveKey { fingerprint } => self.change_trust(|trust| {
                let gone = || refuse("not_added", "no key of this fingerprint was added here");
                trust.remove(&fingerprint).then_some(()).ok_or_else(gone)
            }),
            Wish::Rollback { kind: Kind::System } => self.roll_back_system(),
            Wish::Backup { stick, passphrase } => self.back_up(&stick, passphrase),
            Wish::Restore { stick, file, passphrase } => self.restore(&stick, file, passphrase),
            Wish::Restart => self.ask_steward(Ask::Restart),
            Wish::Measure { minutes } => self.start_measurement(minutes),
            Wish::StopMeasure => self.stop_measurement(),
            Wish::FactoryReset => self.ask_steward(Ask::FactoryReset),
        }
    }

    fn install(&mut self, stick: &str, bundle: &str, allow_older: bool) -> Result<(), Refusal> {
        self.expect_idle()?;
        let seen = self.seen(stick)?;
        let none = || refuse("no_bundle", "nothing on this stick can be installed");
        let (preview, found) = seen.looked.bundle().ok_or_else(none)?;
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

    pub(super) fn start_install(&mut self, found: Arc<Found>, allow_older: bool) -> Result<(), Refusal> {
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

    pub(super) fn start_trial(&mut self, trial: Trial) {
        let Some(models) = self.places.models.clone() else { return };
        let (monitor, serving) = (self.monitor_of(&trial), self.serving.clone());
        self.start(monitor, move |monitor| install::try_pending(&models, &serving, &trial, monitor));
    }

    pub(super) fn start_put(&mut self, trial: Trial) {
        let Some(models) = self.places.models.clone() else { return };
        let monitor = self.monitor_of(&trial);
        self.start(monitor, move |monitor| system::put_pending(&models, &trial, monitor));
    }

    fn monitor_of(&self, trial: &Trial) -> Monitor {
        let (name, title) = (&trial.version.name, shown::title(&trial.path, &trial.version.name));
        Monitor::of(Action::Install, name, &title, trial.version.version, self.observer()).about(trial.kind)
    }

    fn roll_back(&mut self) -> Result<(), Refusal> {
        self.expect_idle()?;
        let none = || refuse("no_previous", "there is no model to go back to");
        let models = self.places.models.clone().ok_or_else(none)?;
        let previous = self.lines.previous_model().ok_or_else(none)?;
        let title = shown::title(&previous.folder(&models), &previous.name);
        let monitor =
            Monitor::of(Action::Rollback, &previous.name, &title, previous.version, self.observer());
        let monitor = monitor.about(update::Kind::Model);
        let serving = self.serving.clone();
        self.start(monitor, move |monitor| install::roll_back(&models, &serving, monitor));
        Ok(())
    }

    fn roll_back_system(&mut self) -> Result<(), Refusal> {
        self.expect_idle()?;
        let none = || refuse("no_previous", "there is no other version of the system on this box");
        let title = system::other(self.boots.as_ref()).ok_or_else(none)?;
        let monitor =
            Monitor::of(Action::Rollback, "system", &title, 0, self.observer()).about(update::Kind::System);
        self.start(monitor, system::roll_back);
        Ok(())
    }

    fn remove(&mut self, name: &str, version: u64) -> Result<(), Refusal> {
        self.expect_idle()?;
        let none = || refuse("not_installed", "nothing can be installed here, and nothing removed");
        let models = self.places.models.as_ref().ok_or_else(none)?;
        let remove = || install::installer(models)?.remove(name, version);
        let removed = tokio::task::block_in_place(remove);
        removed.map_err(|error| refuse(error.code(), &error.to_string()))?;
        info!(name, version, "removed");
        self.lines = Lines::read(&self.places);
        // There is more room now.
        self.look_at_sticks();
        Ok(())
    }

    fn back_up(&mut self, stick: &str, passphrase: Passphrase) -> Result<(), Refusal> {
        self.expect_idle()?;
        let stick = Arc::clone(&self.seen(stick)?.stick);
        let monitor = Monitor::of(Action::Backup, "backup", &stick.hello.label, 0, self.observer());
        let state = self.places.state.clone();
        self.start(monitor, move |monitor| backups::write(&state, &stick, &passphrase.0, monitor));
        Ok(())
    }

    fn restore(&mut self, stick: &str, file: String, passphrase: Passphrase) -> Result<(), Refusal> {
        self.expect_idle()?;
        let stick = Arc::clone(&self.seen(stick)?.stick);
        let monitor = Monitor::of(Action::Restore, "backup", &file, 0, self.observer());
        let (state, end) = (self.places.state.clone(), self.end.clone());
        self.start(monitor, move |monitor| {
            backups::restore(&state, &stick, &file, &passphrase.0, monitor)?;
            info!("the daemon ends, and takes the backup at its next start");
            end.cancel();
            Ok(())
        });
        Ok(())
    }

    /// The steward does it, and the box ends.
    fn ask_steward(&self, ask: Ask) -> Result<(), Refusal> {
        self.expect_idle()?;
        if !steward::is_there() {
            return Err(refuse("not_here", "this machine can't do that: it is no box of its own"));
        }
        std::thread::spawn(move || {
            if let Err(failure) = steward::ask(&ask, None) {
                error!(?ask, code = failure.code, reason = failure.message, "it was not done");
            }
        });
        Ok(())
    }

    fn seen(&self, stick: &str) -> Result<&Seen, Refusal> {
        let gone = || refuse("no_stick", "this stick is gone; plug it in again");
        self.sticks.iter().find(|seen| seen.stick.id == stick).ok_or_else(gone)
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

    pub(super) fn expect_idle(&self) -> Result<(), Refusal> {
        if self.job.is_some() {
            return Err(refuse("busy", "something is being done already; wait until it is over, or stop it"));
        }
        if self.measuring.is_some() {
            return Err(refuse("measuring", "the box is being measured; wait until it is over, or stop it"));
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
}
