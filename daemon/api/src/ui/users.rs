//! Accounts, for the admin.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{NewUser, Privilege, User, UserChange, UserId, password};

use crate::app::App;
use crate::auth::Admin;
use crate::body::{JsonBody, PathId};
use crate::problem::{Problem, Result};
use crate::ui::{checked_name, checked_password};

/// `GET /api/users`.
pub(crate) async fn list(State(app): State<App>, _: Admin) -> Result<Json<Value>> {
    Ok(Json(json!({ "users": app.store.users().await? })))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    password: String,
    role: Privilege,
}

/// `POST /api/users`.
pub(crate) async fn create(
    State(app): State<App>,
    Admin(admin): Admin,
    JsonBody(create): JsonBody<Create>,
) -> Result<Json<User>> {
    let name = checked_name(&create.name)?;
    let password_hash = hash(&app, create.password).await?;
    let user = NewUser { name, password_hash, role: create.role, lang: None };
    Ok(Json(app.store.create_user(Some(admin.id), user).await?))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    role: Option<Privilege>,
    password: Option<String>,
    disabled: Option<bool>,
}

/// `PATCH /api/users/{id}`.
pub(crate) async fn change(
    State(app): State<App>,
    Admin(admin): Admin,
    PathId(id): PathId<UserId>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<User>> {
    let password_hash = match change.password {
        Some(password) => Some(hash(&app, password).await?),
        None => None,
    };
    let wanted =
        UserChange { role: change.role, disabled: change.disabled, password_hash, ..UserChange::default() };
    app.store.change_user(admin.id, id, wanted).await?.map(Json).ok_or_else(Problem::not_found)
}

/// `DELETE /api/users/{id}`: with the account go its chats and keys; its runs are stopped.
pub(crate) async fn remove(
    State(app): State<App>,
    Admin(admin): Admin,
    PathId(id): PathId<UserId>,
) -> Result<StatusCode> {
    if !app.store.delete_user(admin.id, id).await? {
        return Err(Problem::not_found());
    }
    app.runs.stop_of(id);
    Ok(StatusCode::NO_CONTENT)
}

async fn hash(app: &App, password: String) -> Result<String> {
    let password = checked_password(password)?;
    app.password_work(move || password::hash(&password)).await
}
