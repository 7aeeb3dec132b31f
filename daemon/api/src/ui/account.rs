//! Claiming the box, signing in and out, and one's own account.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{ClaimError, Lang, NewUser, Privilege, SessionId, User, UserChange, password};

use crate::app::App;
use crate::auth::{MaybeSignedIn, Peer, SignedIn, clear_cookie, set_cookie};
use crate::body::{JsonBody, PathId};
use crate::problem::{Problem, Result};
use crate::throttle::address_source;
use crate::ui::{checked_name, checked_password};

/// `GET /api/state`: which page to show.
pub(crate) async fn state(State(app): State<App>, MaybeSignedIn(who): MaybeSignedIn) -> Json<Value> {
    Json(state_of(&app, who.as_ref().map(|who| &who.user)))
}

fn state_of(app: &App, user: Option<&User>) -> Value {
    let model = app.slot.get().filter(|_| user.is_some()).map(|model| {
        let info = &model.info;
        json!({ "id": model.id, "name": model.name, "context": info.context, "bytes": info.bytes,
            "format": info.format, "source": info.source })
    });
    json!({
        "claimed": app.is_claimed(),
        "user": user,
        "box": { "name": app.config.box_name, "version": env!("CARGO_PKG_VERSION") },
        "model": model,
        "recovering": app.is_claimed() && app.recovery.code().is_some(),
    })
}

#[derive(Debug, Deserialize)]
pub(crate) struct Claim {
    code: String,
    name: String,
    password: String,
    lang: Option<Lang>,
}

/// `POST /api/claim`: the first admin, by the code on the console.
pub(crate) async fn claim(
    State(app): State<App>,
    Peer(peer): Peer,
    headers: HeaderMap,
    JsonBody(claim): JsonBody<Claim>,
) -> Result<Response> {
    if app.is_claimed() {
        return Err(claim_problem(ClaimError::AlreadyClaimed));
    }
    let sources = [address_source(peer), "claim".to_owned()];
    throttle(&app, &sources)?;
    if !app.store.is_claim_code(&claim.code).await? {
        return Err(claim_problem(ClaimError::BadCode));
    }
    app.throttle.forgive(&sources);
    let (name, password) = (checked_name(&claim.name)?, checked_password(claim.password)?);
    let password_hash = app.password_work(move || password::hash(&password)).await?;
    let owner = NewUser { name, password_hash, role: Privilege::Admin, lang: claim.lang };
    let user = app.store.claim(&claim.code, owner).await.map_err(claim_problem)?;
    app.set_claimed();
    sign_in(&app, &user, &headers).await
}

fn claim_problem(error: ClaimError) -> Problem {
    match error {
        ClaimError::BadCode => Problem::forbidden("bad_code", error.to_string()).param("code"),
        ClaimError::AlreadyClaimed => {
            Problem::new(StatusCode::CONFLICT, "already_claimed", error.to_string())
        }
        ClaimError::Store(error) => error.into(),
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Login {
    name: String,
    password: String,
}

/// `POST /api/login`.
pub(crate) async fn login(
    State(app): State<App>,
    Peer(peer): Peer,
    headers: HeaderMap,
    JsonBody(login): JsonBody<Login>,
) -> Result<Response> {
    let name = login.name.trim();
    let sources = [address_source(peer), name_source(name)];
    throttle(&app, &sources)?;
    let found = app.store.user_by_name(name).await?;
    let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), Some(hash)));
    if !verify(&app, login.password, hash).await? {
        return Err(bad_credentials(StatusCode::UNAUTHORIZED));
    }
    let user = user.filter(|user| !user.disabled).ok_or_else(|| bad_credentials(StatusCode::UNAUTHORIZED))?;
    app.throttle.forgive(&sources);
    sign_in(&app, &user, &headers).await
}

pub(super) async fn sign_in(app: &App, user: &User, headers: &HeaderMap) -> Result<Response> {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let session = app.store.create_session(user.id, agent).await?;
    Ok(([set_cookie(&session.token)], Json(state_of(app, Some(user)))).into_response())
}

/// `POST /api/logout`: forgets the session; no harm without one.
pub(crate) async fn logout(State(app): State<App>, who: MaybeSignedIn) -> Result<Response> {
    if let Some(SignedIn { user, session }) = who.0 {
        app.store.end_session(user.id, session).await?;
    }
    Ok((StatusCode::NO_CONTENT, [clear_cookie()]).into_response())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    name: Option<String>,
    lang: Option<Lang>,
    password: Option<PasswordChange>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PasswordChange {
    old: String,
    new: String,
}

/// `PATCH /api/me`. A new password signs out every other browser.
pub(crate) async fn change(
    State(app): State<App>,
    SignedIn { user, .. }: SignedIn,
    headers: HeaderMap,
    JsonBody(change): JsonBody<Change>,
) -> Result<Response> {
    let mut wanted = UserChange { lang: change.lang, ..UserChange::default() };
    wanted.name = change.name.as_deref().map(checked_name).transpose()?;
    if let Some(password) = change.password {
        wanted.password_hash = Some(exchange_password(&app, &user, password).await?);
    }
    let signs_out = wanted.password_hash.is_some();
    let user = app.store.change_user(user.id, user.id, wanted).await?.ok_or_else(Problem::not_found)?;
    if !signs_out {
        return Ok(Json(user).into_response());
    }
    let (parts, _) = sign_in(&app, &user, &headers).await?.into_parts();
    Ok((parts.headers, Json(user)).into_response())
}

/// The hash of the new password, if the old one is right.
async fn exchange_password(app: &App, user: &User, change: PasswordChange) -> Result<String> {
    confirm_password(app, user, change.old).await?;
    let new = checked_password(change.new)?;
    app.password_work(move || password::hash(&new)).await
}

/// Whoever is signed in says the password once more.
pub(crate) async fn confirm_password(app: &App, user: &User, password: String) -> Result<()> {
    let sources = [name_source(&user.name)];
    throttle(app, &sources)?;
    let hash = app.store.password_hash(user.id).await?;
    if !verify(app, password, hash).await? {
        return Err(bad_credentials(StatusCode::FORBIDDEN));
    }
    app.throttle.forgive(&sources);
    Ok(())
}

/// `GET /api/sessions`.
pub(crate) async fn sessions(State(app): State<App>, who: SignedIn) -> Result<Json<Value>> {
    let row = |info: store::SessionInfo| {
        json!({ "id": info.id, "created_at": info.created_at, "last_seen_at": info.last_seen_at,
            "agent": info.agent, "current": info.id == who.session })
    };
    let sessions: Vec<Value> = app.store.sessions(who.user.id).await?.into_iter().map(row).collect();
    Ok(Json(json!({ "sessions": sessions })))
}

/// `DELETE /api/sessions/{id}`.
pub(crate) async fn end_session(
    State(app): State<App>,
    who: SignedIn,
    PathId(id): PathId<SessionId>,
) -> Result<StatusCode> {
    let ended = app.store.end_session(who.user.id, id).await?;
    if ended { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found()) }
}

pub(super) fn throttle(app: &App, sources: &[String]) -> Result<()> {
    app.throttle.attempt(sources).map_err(|wait| {
        let message = "too many wrong tries; wait, then try again";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "throttled", message).retry_after(wait)
    })
}

fn name_source(name: &str) -> String {
    let name: String = name.chars().take(64).flat_map(char::to_lowercase).collect();
    format!("name {name}")
}

async fn verify(app: &App, typed: String, hash: Option<String>) -> Result<bool> {
    if typed.len() > password::BYTES_MAX {
        return Ok(false);
    }
    app.password_work(move || password::verify(&typed, hash.as_deref())).await
}

fn bad_credentials(status: StatusCode) -> Problem {
    Problem::new(status, "bad_credentials", "the name or the password is wrong")
}
