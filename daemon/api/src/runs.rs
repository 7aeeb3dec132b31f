//! Answers being written for the page. A run belongs to the box, not to the connection that watches it: whoever comes
//! back after a reload gets its events again from the one last seen.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use serde_json::{Value, json};
use store::{ChatId, MessageId, UserId, secret};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Names a run; as hard to guess as a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct RunId(String);

impl FromStr for RunId {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs under way, and those ended a short while ago.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    by_id: Mutex<HashMap<RunId, Arc<Run>>>,
}

impl Runs {
    /// Registers a run.
    pub(crate) fn open(&self, owner: UserId, chat: ChatId, message: MessageId) -> Arc<Run> {
        let run = Arc::new(Run {
            id: RunId(secret::token()),
            owner,
            chat,
            message,
            stop: CancellationToken::new(),
            events: Mutex::default(),
            progress: watch::Sender::default(),
        });
        self.lock().insert(run.id.clone(), Arc::clone(&run));
        run
    }

    /// A run of `owner`.
    pub(crate) fn find(&self, owner: UserId, id: &RunId) -> Option<Arc<Run>> {
        self.lock().get(id).filter(|run| run.owner == owner).cloned()
    }

    /// The run that is writing in `chat`.
    pub(crate) fn active_in(&self, chat: ChatId) -> Option<RunId> {
        let runs = self.lock();
        runs.values().find(|run| run.chat == chat && !run.has_ended()).map(|run| run.id.clone())
    }

    /// Stops whatever is writing in `chat`.
    pub(crate) fn stop_in(&self, chat: ChatId) {
        self.lock().values().filter(|run| run.chat == chat).for_each(|run| run.stop.cancel());
    }

    /// Stops whatever is writing for `owner`.
    pub(crate) fn stop_of(&self, owner: UserId) {
        self.lock().values().filter(|run| run.owner == owner).for_each(|run| run.stop.cancel());
    }

    /// Forgets a run.
    pub(crate) fn close(&self, run: &Run) {
        self.lock().remove(&run.id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Run>>> {
        self.by_id.lock().expect("nothing panics while it holds the lock")
    }
}

/// An answer being written, and all that was said about it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) owner: UserId,
    pub(crate) chat: ChatId,
    pub(crate) message: MessageId,
    /// Cancelled by the person.
    pub(crate) stop: CancellationToken,
    /// Event `n` has id `n + 1`. Bounded by the tokens of an answer.
    events: Mutex<Vec<News>>,
    progress: watch::Sender<Progress>,
}

/// News of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// More of the model's thoughts.
    Reasoning(String),
    /// More of the answer.
    Content(String),
    /// Anything else: the event's name and its data.
    Fact(&'static str, Value),
}

impl News {
    /// The event's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Reasoning(_) => "reasoning",
            Self::Content(_) => "content",
            Self::Fact(name, _) => name,
        }
    }

    /// The event's data as JSON.
    pub(crate) fn data(&self) -> String {
        match self {
            Self::Reasoning(text) | Self::Content(text) => json!({ "text": text }).to_string(),
            Self::Fact(_, data) => data.to_string(),
        }
    }
}

/// How far a run's log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    n_events: usize,
    ended: bool,
}

impl Run {
    /// Appends to the log and wakes those who watch.
    pub(crate) fn tell(&self, news: News) {
        let mut events = self.lock();
        events.push(news);
        let n_events = events.len();
        drop(events);
        self.progress.send_modify(|progress| progress.n_events = n_events);
    }

    /// Nothing will be told after this.
    pub(crate) fn end(&self) {
        self.progress.send_modify(|progress| progress.ended = true);
    }

    fn has_ended(&self) -> bool {
        self.progress.borrow().ended
    }

    /// Completes once the run has ended.
    pub(crate) async fn ended(&self) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.progress.subscribe().wait_for(|progress| progress.ended).await;
    }

    /// The events after the one with id `after`, with their ids, waiting for one if there is none yet. Neighbouring texts
    /// are joined under the id of the last of them. `None` when no more will come.
    pub(crate) async fn events_after(&self, after: usize) -> Option<Vec<(usize, News)>> {
        let mut progress = self.progress.subscribe();
        let now = *progress.wait_for(|p| p.n_events > after || p.ended).await.ok()?;
        if now.n_events <= after {
            return None;
        }
        Some(join_texts(&self.lock()[after..], after + 1))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<News>> {
        self.events.lock().expect("nothing panics while it holds the lock")
    }
}

/// Joins neighbouring pieces of the same kind of text, so that a late watcher is not sent each token by itself.
fn join_texts(events: &[News], first_id: usize) -> Vec<(usize, News)> {
    let mut joined: Vec<(usize, News)> = Vec::new();
    for (id, event) in (first_id..).zip(events) {
        match (joined.last_mut(), event) {
            (Some((last_id, News::Reasoning(text))), News::Reasoning(more))
            | (Some((last_id, News::Content(text))), News::Content(more)) => {
                text.push_str(more);
                *last_id = id;
            }
            _ => joined.push((id, event.clone())),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Arc<Run> {
        Runs::default().open(UserId(1), ChatId(1), MessageId(1))
    }

    #[tokio::test]
    async fn a_late_watcher_gets_all_texts_joined_and_then_the_end() {
        let run = run();
        run.tell(News::Fact("queue", json!({ "ahead": 1 })));
        for text in ["Wel", "s", "!"] {
            run.tell(News::Content(text.into()));
        }
        let events = run.events_after(0).await.unwrap();
        assert_eq!(events.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(events[1].1, News::Content("Wels!".into()));
        let resumed = run.events_after(2).await.unwrap();
        assert_eq!(resumed[0].1.data(), r#"{"text":"s!"}"#);
        run.end();
        assert!(run.events_after(4).await.is_none());
        assert!(run.events_after(11).await.is_none(), "an id from nowhere");
    }

    #[tokio::test]
    async fn another_owner_finds_no_run() {
        let runs = Runs::default();
        let run = runs.open(UserId(1), ChatId(1), MessageId(1));
        assert!(runs.find(UserId(2), &run.id).is_none());
        assert!(runs.find(UserId(1), &run.id).is_some());
        assert_eq!(runs.active_in(ChatId(1)), Some(run.id.clone()));
        run.end();
        assert_eq!(runs.active_in(ChatId(1)), None);
    }
}
