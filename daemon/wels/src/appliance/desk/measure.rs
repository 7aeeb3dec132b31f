//! Measurements of the box: one at a time, while nothing is installed; the last one is kept.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use api::Refusal;
use serde_json::Value;
use tracing::{info, warn};

use super::{Desk, Event, refuse};
use crate::measure::{self, Watch};

/// The last measurement, in the state's folder.
const FILE: &str = "measurements.json";
/// Bytes of it that are read; two hours have some 200 kB.
const BYTES_MAX: u64 = 4 << 20;

impl Desk {
    pub(super) fn start_measurement(&mut self, minutes: u32) -> Result<(), Refusal> {
        self.expect_idle()?;
        let tell = self.tell.clone();
        // Nobody hears at the very end.
        let watch = Arc::new(Watch::new(minutes, move |_| drop(tell.send(Event::Moved))));
        let (at_work, serving) = (Arc::clone(&watch), self.serving.clone());
        let (place, tell) = (self.places.state.clone(), self.tell.clone());
        let work = move || {
            measure::be_patient();
            let subject = serving.subject(&place);
            let report = measure::measure(&subject, &at_work);
            let report: Arc<str> =
                serde_json::to_string(&report).expect("names and numbers become JSON").into();
            if let Err(error) = write(&place, &report) {
                warn!(%error, "the measurement is not kept");
            }
            // Whoever waits for the model's end waits for this: it is written.
            drop(subject);
            // Nobody hears at the very end.
            let _ = tell.send(Event::Measured { report });
        };
        let thread = std::thread::Builder::new().name("measure".into()).spawn(work);
        thread.map_err(|error| refuse("no_thread", &format!("the system gives no thread: {error}")))?;
        info!(minutes, "the box is measured");
        self.measuring = Some(watch);
        Ok(())
    }

    pub(super) fn stop_measurement(&self) -> Result<(), Refusal> {
        let watch =
            self.measuring.as_ref().ok_or_else(|| refuse("nothing_runs", "there is nothing to stop"))?;
        watch.stop();
        Ok(())
    }

    pub(super) fn measured(&mut self, report: Arc<str>) {
        self.measuring = None;
        self.report = Some(report);
        // What had to wait goes on.
        self.look_at_sticks();
        self.settle();
    }

    /// Whoever follows a measurement sees how far it is, and the last one that ended.
    pub(super) fn publish_measurement(&self) {
        let progress = self.measuring.as_ref().map(|watch| watch.progress());
        let progress = serde_json::to_string(&progress).expect("names and numbers become JSON");
        let report = self.report.as_deref().unwrap_or("null");
        let state = format!(r#"{{"progress":{progress},"report":{report}}}"#);
        self.door.measured.send_if_modified(|shown| {
            let changed = **shown != *state;
            *shown = state.into();
            changed
        });
    }
}

/// The last measurement; `None` where none was kept, or what is there is none.
pub(super) fn last(state: &Path) -> Option<Arc<str>> {
    let mut text = String::new();
    File::open(state.join(FILE)).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(_)) => Some(text.into()),
        _ => {
            warn!("{FILE} is no measurement: measure again");
            None
        }
    }
}

/// Whole or not at all.
fn write(state: &Path, report: &str) -> io::Result<()> {
    let (path, part) = (state.join(FILE), state.join(format!("{FILE}.part")));
    let mut file = File::create(&part)?;
    file.write_all(report.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_the_last_and_nonsense_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last(dir.path()), None);
        write(dir.path(), r#"{"version":"1"}"#).unwrap();
        assert_eq!(last(dir.path()).as_deref(), Some(r#"{"version":"1"}"#));
        for nonsense in ["{\"version\":", "[]", "", "\u{0}"] {
            fs::write(dir.path().join(FILE), nonsense).unwrap();
            assert_eq!(last(dir.path()), None, "{nonsense:?}");
        }
    }
}
