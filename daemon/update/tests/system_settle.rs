//! What the daemon finds at its start: a system version that is to be written, waits, is on trial, serves, or fell back.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;

use support::drive::{Rig, System};
use support::{Shop, monitor, options};
use update::system::{BootState, Settled, look, rollback, settle, write};
use update::{Action, Installed, Installer, Kind, Line, Monitor, Staged, Trial};

/// A box that runs 0.1.0, and has 0.2.0 staged as version 2.
struct Desk {
    rig: Rig,
    all: [System; 3],
}

impl Desk {
    fn new() -> Self {
        let all = [System::new("0.1.0", 1), System::new("0.2.0", 2), System::new("0.3.0", 3)];
        Self { rig: Rig::new(all[0].clone(), None), all }
    }

    fn shop(&self) -> &Shop {
        &self.rig.shop
    }

    fn stage(&self, n: u64, is_agreed: bool) -> Trial {
        let bundle = self.shop().open(&self.rig.bundle(&self.all[n as usize - 1], n)).unwrap();
        let mut installer = self.shop().installer();
        if is_agreed {
            installer.agree(bundle.id, false).unwrap();
        }
        match installer.stage(&bundle, &options(), &monitor(&bundle)).unwrap() {
            Staged::Ready(trial) => trial,
            Staged::Nothing => panic!("it serves already"),
        }
    }

    fn look(&self) -> BootState {
        look(&self.rig.esp, &self.rig.running.hash()).unwrap()
    }

    /// As at a start of the daemon.
    fn settle(&self, is_well: bool, reason: Option<&str>) -> Settled {
        settle(&mut self.shop().installer(), &self.look(), is_well, reason).unwrap()
    }

    /// What the process with rights does, and the daemon notes.
    fn write(&self, trial: &Trial) {
        let staged = self.rig.open(&trial.path).unwrap();
        let quiet = Monitor::of(Action::Install, "wels", "Wels", 1, |_| {});
        write(&staged, &self.rig.place(), &quiet).unwrap();
        self.shop().installer().put(trial).unwrap();
    }

    /// The loader starts a version, and gives its boot file this name.
    fn start(&mut self, from: &str, to: &str) {
        let linux = self.rig.esp.join("EFI/Linux");
        fs::rename(linux.join(from), linux.join(to)).unwrap();
        self.rig.running = self.rig.boot(&self.all).clone();
    }

    fn line(&self) -> Line {
        Installed::read(&self.shop().models()).unwrap().system
    }
}

#[test]
fn a_version_is_written_started_and_serves_once_it_is_well() {
    let mut desk = Desk::new();
    assert_eq!(desk.settle(true, None), Settled::Nothing);
    let trial = desk.stage(2, true);
    assert_eq!(desk.settle(true, None), Settled::Write(trial.clone()));
    desk.write(&trial);
    assert_eq!(desk.settle(true, None), Settled::Restart(trial.clone()));
    assert_eq!(desk.line(), Line::default());
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0+2-1.efi");
    assert_eq!(desk.settle(false, None), Settled::OnTrial(trial.clone()));
    assert_eq!(desk.line(), Line::default(), "not before it is well");
    assert_eq!(desk.settle(true, None), Settled::Serves(trial.version.clone()));
    assert_eq!(desk.line(), Line { current: Some(trial.version), previous: None });
    assert_eq!(desk.shop().installer().agreed(), None);
    assert_eq!(desk.settle(true, None), Settled::Nothing);
}

#[test]
fn a_version_that_was_not_well_is_given_up_with_the_reason_and_can_be_tried_again() {
    let mut desk = Desk::new();
    let trial = desk.stage(2, true);
    desk.write(&trial);
    // Three starts, none of them well.
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0+0-3.efi");
    assert_eq!(desk.rig.running.version, "0.1.0");
    assert_eq!(desk.look().fell_back().unwrap().version.to_string(), "0.2.0");
    let Settled::GivenUp(abandoned) = desk.settle(true, Some("the page does not answer")) else { panic!() };
    assert_eq!((&abandoned.version, abandoned.reason.as_str()), (&trial.version, "the page does not answer"));
    assert!(!trial.path.exists());
    assert_eq!(desk.settle(true, None), Settled::Nothing);
    // How it fared before says nothing of the next try.
    let again = desk.stage(2, true);
    assert_eq!(desk.settle(true, None), Settled::Write(again.clone()));
    desk.write(&again);
    assert_eq!(desk.settle(true, None), Settled::Restart(again.clone()));
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0+0-3.efi");
    assert!(matches!(desk.settle(true, None), Settled::GivenUp(_)), "not again and again");
}

#[test]
fn a_cut_between_writing_and_noting_it_is_noticed() {
    let mut desk = Desk::new();
    let trial = desk.stage(2, false);
    desk.write(&trial);
    let path = desk.shop().models().join(".installed.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(state.as_object_mut().unwrap().remove("put").is_some());
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(desk.settle(true, None), Settled::Restart(trial.clone()));
    // The power came back: the loader takes the new one.
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0+2-1.efi");
    assert_eq!(desk.settle(true, None), Settled::Serves(trial.version));
}

#[test]
fn going_back_and_forth_is_followed() {
    let mut desk = Desk::new();
    for n in [2, 3] {
        let trial = desk.stage(n, false);
        desk.write(&trial);
        let version = desk.all[n as usize - 1].version;
        desk.start(&format!("wels_{version}+3.efi"), &format!("wels_{version}.efi"));
        assert_eq!(desk.settle(true, None), Settled::Serves(trial.version));
    }
    let Line { current: three, previous: two } = desk.line();
    assert_eq!((three.as_ref().unwrap().version, two.as_ref().unwrap().version), (3, 2));
    rollback(&desk.rig.esp, &desk.rig.running.hash()).unwrap();
    assert_eq!(desk.settle(true, None), Settled::Nothing);
    assert_eq!(desk.line(), Line { current: three.clone(), previous: two.clone() }, "not before the restart");
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0.efi");
    assert_eq!(desk.settle(true, None), Settled::Nothing);
    assert_eq!(desk.line(), Line { current: two, previous: three }, "nothing waits: both have served");
}

#[test]
fn the_version_that_the_box_came_with_is_gone_back_to_without_a_bundle() {
    let mut desk = Desk::new();
    let trial = desk.stage(2, false);
    desk.write(&trial);
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0.efi");
    desk.settle(true, None);
    rollback(&desk.rig.esp, &desk.rig.running.hash()).unwrap();
    desk.start("wels_0.1.0+3.efi", "wels_0.1.0.efi");
    assert_eq!(desk.settle(true, None), Settled::Nothing);
    assert_eq!(desk.line(), Line { current: None, previous: Some(trial.version) });
    assert_eq!(desk.look().other().unwrap().version.to_string(), "0.2.0");
}

#[test]
fn a_trial_that_an_administrator_went_back_from_is_given_up() {
    let mut desk = Desk::new();
    let trial = desk.stage(2, false);
    desk.write(&trial);
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0+2-1.efi");
    rollback(&desk.rig.esp, &desk.rig.running.hash()).unwrap();
    desk.start("wels_0.1.0+3.efi", "wels_0.1.0.efi");
    let Settled::GivenUp(abandoned) = desk.settle(true, None) else { panic!() };
    assert_eq!(abandoned.version, trial.version);
}

#[test]
fn what_was_seen_is_told_as_it_was() {
    let mut desk = Desk::new();
    let trial = desk.stage(2, false);
    desk.write(&trial);
    let seen = desk.look();
    let told: BootState = serde_json::from_str(&serde_json::to_string(&seen).unwrap()).unwrap();
    assert_eq!(told, seen);
    // A version whose folder lost its facts is given up, not asked for again and again.
    fs::write(trial.path.join("system.json"), "{}").unwrap();
    assert!(matches!(desk.settle(true, None), Settled::GivenUp(_)));
    desk.start("wels_0.2.0+3.efi", "wels_0.2.0+2-1.efi");
    let mut installer = Installer::open(&desk.shop().models()).unwrap();
    assert_eq!(settle(&mut installer, &desk.look(), true, None).unwrap(), Settled::Nothing);
    assert_eq!(installer.current(Kind::System), None);
}
