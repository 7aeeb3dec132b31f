//! New models and systems, backups and the box's own state, for the admin.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::sync::watch;

use crate::app::App;
use crate::auth::Admin;
use crate::body::JsonBody;
use crate::problem::{Problem, Result};
use crate::ui::account;
use crate::updates::{Kind, Passphrase, Updates, Wish};

/// Comments this often keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Between two events.
const EVENTS_EVERY: Duration = Duration::from_millis(250);
/// A passphrase that a program can't guess from a copy of the stick.
const PASSPHRASE_CHARS_MIN: usize = 12;
/// Bytes of texts that people hand over: keys' files, passphrases.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// `GET /api/admin/updates`.
pub(crate) async fn show(State(app): State<App>, _: Admin) -> Result<Response> {
    let state = Arc::clone(&desk(&app)?.state.borrow());
    Ok(([(header::CONTENT_TYPE, "application/json")], state.to_string()).into_response())
}

/// `GET /api/admin/updates/events`: the whole state now, and whenever it changes.
pub(crate) async fn events(
    State(app): State<App>,
    _: Admin,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let mut state = desk(&app)?.state.clone();
    state.mark_changed();
    let ending = app.ending.clone();
    let events = stream::unfold(state, move |state| {
        let ending = ending.clone();
        async move { ending.run_until_cancelled(next(state)).await.flatten() }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

type Next = (std::result::Result<Event, Infallible>, watch::Receiver<Arc<str>>);

async fn next(mut state: watch::Receiver<Arc<str>>) -> Option<Next> {
    tokio::time::sleep(EVENTS_EVERY).await;
    state.changed().await.ok()?;
    let event = Event::default().data(&**state.borrow_and_update());
    Some((Ok(event), state))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Install {
    stick: String,
    bundle: String,
    #[serde(default)]
    allow_older: bool,
}

/// `POST /api/admin/updates/install`.
pub(crate) async fn install(
    State(app): State<App>,
    _: Admin,
    JsonBody(install): JsonBody<Install>,
) -> Result<StatusCode> {
    let Install { stick, bundle, allow_older } = install;
    wish(&app, Wish::Install { stick, bundle, allow_older }).await
}

/// `POST /api/admin/updates/stop`.
pub(crate) async fn stop(State(app): State<App>, _: Admin) -> Result<StatusCode> {
    wish(&app, Wish::Stop).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rollback {
    kind: Kind,
}

/// `POST /api/admin/updates/rollback`.
pub(crate) async fn rollback(
    State(app): State<App>,
    _: Admin,
    JsonBody(rollback): JsonBody<Rollback>,
) -> Result<StatusCode> {
    wish(&app, Wish::Rollback { kind: rollback.kind }).await
}

/// `DELETE /api/admin/updates/versions/{name}/{version}`.
pub(crate) async fn remove(
    State(app): State<App>,
    _: Admin,
    version: std::result::Result<Path<(String, u64)>, PathRejection>,
) -> Result<StatusCode> {
    let Path((name, version)) = version.map_err(|_| Problem::not_found())?;
    wish(&app, Wish::Remove { name, version }).await
}

/// `POST /api/admin/updates/restart`.
pub(crate) async fn restart(State(app): State<App>, _: Admin) -> Result<StatusCode> {
    wish(&app, Wish::Restart).await
}

/// `POST /api/admin/updates/dismiss`.
pub(crate) async fn dismiss(State(app): State<App>, _: Admin) -> Result<StatusCode> {
    wish(&app, Wish::Dismiss).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct Key {
    text: String,
}

/// `POST /api/admin/updates/keys`.
pub(crate) async fn add_key(
    State(app): State<App>,
    _: Admin,
    JsonBody(key): JsonBody<Key>,
) -> Result<StatusCode> {
    if key.text.len() > TEXT_BYTES_MAX {
        return Err(
            Problem::invalid("wrong_key", "that is no public key of a release: it is too long").param("text")
        );
    }
    wish(&app, Wish::AddKey { text: key.text }).await
}

/// `DELETE /api/admin/updates/keys/{fingerprint}`.
pub(crate) async fn remove_key(
    State(app): State<App>,
    _: Admin,
    Path(fingerprint): Path<String>,
) -> Result<StatusCode> {
    wish(&app, Wish::RemoveKey { fingerprint }).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct Backup {
    stick: String,
    passphrase: Passphrase,
}

/// `POST /api/admin/backup`.
pub(crate) async fn backup(
    State(app): State<App>,
    _: Admin,
    JsonBody(Backup { stick, passphrase }): JsonBody<Backup>,
) -> Result<StatusCode> {
    if passphrase.0.chars().count() < PASSPHRASE_CHARS_MIN || passphrase.0.len() > TEXT_BYTES_MAX {
        let message = format!("a passphrase has {PASSPHRASE_CHARS_MIN} characters at least");
        return Err(Problem::invalid("weak_passphrase", message).param("passphrase"));
    }
    wish(&app, Wish::Backup { stick, passphrase }).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct Restore {
    stick: String,
    file: String,
    passphrase: Passphrase,
}

/// `POST /api/admin/restore`.
pub(crate) async fn restore(
    State(app): State<App>,
    _: Admin,
    JsonBody(Restore { stick, file, passphrase }): JsonBody<Restore>,
) -> Result<StatusCode> {
    wish(&app, Wish::Restore { stick, file, passphrase }).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reset {
    password: String,
}

/// `POST /api/admin/factory-reset`: who is signed in has to know the password, too.
pub(crate) async fn factory_reset(
    State(app): State<App>,
    Admin(admin): Admin,
    JsonBody(reset): JsonBody<Reset>,
) -> Result<StatusCode> {
    account::confirm_password(&app, &admin, reset.password).await?;
    wish(&app, Wish::FactoryReset).await
}

pub(super) fn desk(app: &App) -> Result<&Updates> {
    app.updates.as_ref().ok_or_else(Problem::not_found)
}

/// Hands a wish over; a refusal is a conflict with what is.
pub(super) async fn wish(app: &App, wish: Wish) -> Result<StatusCode> {
    let done = desk(app)?.wish(wish).await;
    done.map_err(|refusal| Problem::new(StatusCode::CONFLICT, refusal.code, refusal.message))?;
    Ok(StatusCode::NO_CONTENT)
}
