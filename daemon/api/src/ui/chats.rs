//! One's own chats: list, find, read, rename, delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Chat, ChatId};

use crate::app::App;
use crate::auth::SignedIn;
use crate::body::{JsonBody, Params, PathId};
use crate::problem::{Problem, Result};

/// Chats listed where the request doesn't say.
const LISTED: usize = 50;

/// Characters of a title.
const TITLE_CHARS_MAX: usize = 200;

/// Characters of a search that are looked at.
const QUERY_CHARS_MAX: usize = 256;

#[derive(Debug, Deserialize)]
pub(crate) struct List {
    before: Option<i64>,
    limit: Option<usize>,
}

/// `GET /api/chats?before=&limit=`.
pub(crate) async fn list(
    State(app): State<App>,
    who: SignedIn,
    Params(list): Params<List>,
) -> Result<Json<Value>> {
    let chats = app.store.chats(who.user.id, list.before, list.limit.unwrap_or(LISTED)).await?;
    Ok(Json(json!({ "chats": chats })))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Search {
    #[serde(default)]
    q: String,
}

/// `GET /api/chats/search?q=`.
pub(crate) async fn search(
    State(app): State<App>,
    who: SignedIn,
    Params(search): Params<Search>,
) -> Result<Json<Value>> {
    let query: String = search.q.chars().take(QUERY_CHARS_MAX).collect();
    Ok(Json(json!({ "chats": app.store.search(who.user.id, &query).await? })))
}

/// `POST /api/chats`.
pub(crate) async fn create(State(app): State<App>, who: SignedIn) -> Result<Json<Chat>> {
    Ok(Json(app.store.create_chat(who.user.id).await?))
}

/// `GET /api/chats/{id}`: all branches, and the run that is writing in it.
pub(crate) async fn show(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<ChatId>,
) -> Result<Json<Value>> {
    let chat = app.store.chat(who.user.id, id).await?.ok_or_else(Problem::not_found)?;
    // The run is looked up first: one that ends in between is then seen ended in the messages.
    let active_run = app.runs.active_in(id);
    let messages = app.store.messages(who.user.id, id).await?;
    Ok(Json(json!({ "chat": chat, "messages": messages, "active_run": active_run })))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rename {
    title: String,
}

/// `PATCH /api/chats/{id}`.
pub(crate) async fn rename(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<ChatId>,
    JsonBody(rename): JsonBody<Rename>,
) -> Result<Json<Chat>> {
    let title: String =
        rename.title.trim().chars().filter(|c| !c.is_control()).take(TITLE_CHARS_MAX).collect();
    app.store.rename_chat(who.user.id, id, &title).await?.map(Json).ok_or_else(Problem::not_found)
}

/// `DELETE /api/chats/{id}`: its run is stopped too.
pub(crate) async fn remove(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<ChatId>,
) -> Result<StatusCode> {
    if !app.store.delete_chat(who.user.id, id).await? {
        return Err(Problem::not_found());
    }
    app.runs.stop_in(id);
    Ok(StatusCode::NO_CONTENT)
}
