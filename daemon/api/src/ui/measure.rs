//! Measurements of the box, for the admin.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::updates::{desk, wish};
use crate::app::App;
use crate::auth::Admin;
use crate::body::JsonBody;
use crate::problem::{Problem, Result};
use crate::updates::Wish;

/// How long the box may be kept busy.
const MINUTES: std::ops::RangeInclusive<u32> = 1..=120;

/// `GET /api/admin/measure`: how far a measurement is, and the last one that ended.
pub(crate) async fn show(State(app): State<App>, _: Admin) -> Result<Response> {
    let measured = Arc::clone(&desk(&app)?.measured.borrow());
    Ok(([(header::CONTENT_TYPE, "application/json")], measured.to_string()).into_response())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Measure {
    minutes: u32,
}

/// `POST /api/admin/measure`.
pub(crate) async fn start(
    State(app): State<App>,
    _: Admin,
    JsonBody(Measure { minutes }): JsonBody<Measure>,
) -> Result<StatusCode> {
    if !MINUTES.contains(&minutes) {
        let message = format!("{minutes} minutes: {} to {} can be", MINUTES.start(), MINUTES.end());
        return Err(Problem::invalid("wrong_minutes", message).param("minutes"));
    }
    wish(&app, Wish::Measure { minutes }).await
}

/// `POST /api/admin/measure/stop`.
pub(crate) async fn stop(State(app): State<App>, _: Admin) -> Result<StatusCode> {
    wish(&app, Wish::StopMeasure).await
}
