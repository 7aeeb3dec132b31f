//! One's own API keys.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{KeyId, NewKey};

use crate::app::App;
use crate::auth::SignedIn;
use crate::body::{JsonBody, PathId};
use crate::problem::{Problem, Result};
use crate::ui::checked_name;

/// `GET /api/keys`.
pub(crate) async fn list(State(app): State<App>, who: SignedIn) -> Result<Json<Value>> {
    Ok(Json(json!({ "keys": app.store.keys(who.user.id).await? })))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
}

/// `POST /api/keys`: the only answer that ever holds the key.
pub(crate) async fn create(
    State(app): State<App>,
    who: SignedIn,
    JsonBody(create): JsonBody<Create>,
) -> Result<Json<NewKey>> {
    Ok(Json(app.store.create_key(who.user.id, &checked_name(&create.name)?).await?))
}

/// `DELETE /api/keys/{id}`.
pub(crate) async fn revoke(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<KeyId>,
) -> Result<StatusCode> {
    let revoked = app.store.revoke_key(who.user.id, id).await?;
    if revoked { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found()) }
}
