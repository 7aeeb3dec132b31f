//! Watching and stopping an answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;

use crate::app::App;
use crate::auth::SignedIn;
use crate::body::{Params, PathId};
use crate::problem::{Problem, Result};
use crate::runs::{News, Run, RunId};

/// Comments this often keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A stop answers when the run has ended, or after this long.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

type Sent = std::result::Result<Event, Infallible>;

#[derive(Debug, Deserialize)]
pub(crate) struct After {
    after: Option<usize>,
}

/// `GET /api/runs/{id}/events`: from the beginning, or after `Last-Event-ID` or `?after=`.
pub(crate) async fn events(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<RunId>,
    Params(params): Params<After>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Sent>>> {
    let run = app.runs.find(who.user.id, &id).ok_or_else(Problem::not_found)?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = seen.or(params.after).unwrap_or(0);
    let events = stream::unfold((run, after), next_events).flat_map(stream::iter);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What a watcher has seen last, and the events that follow.
async fn next_events((run, after): (Arc<Run>, usize)) -> Option<(Vec<Sent>, (Arc<Run>, usize))> {
    let events = run.events_after(after).await?;
    let last = events.last().map_or(after, |(id, _)| *id);
    let sent = |(id, news): &(usize, News)| {
        Ok(Event::default().id(id.to_string()).event(news.name()).data(news.data()))
    };
    Some((events.iter().map(sent).collect(), (run, last)))
}

/// `POST /api/runs/{id}/stop`: what was written is kept.
pub(crate) async fn stop(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<RunId>,
) -> Result<StatusCode> {
    let run = app.runs.find(who.user.id, &id).ok_or_else(Problem::not_found)?;
    run.stop.cancel();
    // A run that takes longer ends all the same.
    let _ = tokio::time::timeout(STOP_TIME_MAX, run.ended()).await;
    Ok(StatusCode::NO_CONTENT)
}
