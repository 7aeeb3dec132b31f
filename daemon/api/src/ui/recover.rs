//! The way back in for whoever has lost the password and stands at the box.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use store::password;

use crate::app::App;
use crate::auth::Peer;
use crate::body::JsonBody;
use crate::problem::{Problem, Result};
use crate::throttle::address_source;
use crate::ui::account::{sign_in, throttle};
use crate::ui::{checked_name, checked_password};

#[derive(Debug, Deserialize)]
pub(crate) struct Recover {
    code: String,
    name: String,
    password: String,
}

/// `POST /api/recover`: a new password and the admin's role, by the code that the box shows.
pub(crate) async fn recover(
    State(app): State<App>,
    Peer(peer): Peer,
    headers: HeaderMap,
    JsonBody(wanted): JsonBody<Recover>,
) -> Result<Response> {
    let sources = [address_source(peer), "recover".to_owned()];
    throttle(&app, &sources)?;
    if !app.recovery.is_code(&wanted.code) {
        return Err(bad_code());
    }
    app.throttle.forgive(&sources);
    let (name, password) = (checked_name(&wanted.name)?, checked_password(wanted.password)?);
    let password_hash = app.password_work(move || password::hash(&password)).await?;
    // Somebody may have been faster.
    if !app.recovery.take(&wanted.code) {
        return Err(bad_code());
    }
    let recovered = app.store.recover(&name, password_hash).await;
    let user = recovered.inspect_err(|_| app.recovery.give_back(&wanted.code))?;
    sign_in(&app, &user, &headers).await
}

fn bad_code() -> Problem {
    let message =
        "this is not the code on the box's console; it shows one for a while only, and each is good once";
    Problem::forbidden("bad_code", message).param("code")
}
